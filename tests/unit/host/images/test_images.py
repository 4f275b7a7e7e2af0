"""Targets, the cache, and what of the images needs neither network nor root."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import lab
from lab.core.errors import LabError, PrerequisiteError, ScenarioError
from lab.host import cache, images
from lab.host.cache import Cancelled, Deadline
from lab.host.images import mirror
from lab.host.machines.kinds import expand_targets, parse_target
from lab.host.programs import Program, require_programs, run_program
from lab.host.releases import TARGETS

DEBIAN12 = TARGETS["debian12"]
ROOT = Path(lab.__file__).parents[1]

needs_setpriv = pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")

# what `apt-get indextargets --format '$(REPO_URI) $(LABEL)'` prints on Debian 12 with backports, security first
INDEX_TARGETS = """\
http://mirror.test/debian-security/ Debian-Security
http://mirror.test/debian/ Debian Backports
http://mirror.test/debian/ Debian
"""

# from the dpkg status of a Debian 12
STATUS = """\
Package: conntrack
Status: install ok installed
Architecture: amd64
Version: 1:1.4.7-1+b2
Conffiles:
 /etc/conntrack 0123: 45
Description: Program to modify the conntrack tables
 conntrack: the tool.

Package: removed
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: adduser
Status: install ok installed
Architecture: all
Version: 3.134
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(mirror.MIRROR_VARIABLE, raising=False)
    return cache.cache_root()


def deadline(seconds: float = 10.0, cancelled: threading.Event | None = None) -> Deadline:
    return Deadline.after(seconds, "the test", cancelled)


def make_image(target: str = "debian12") -> images.Image:
    """An image folder as build() leaves it, with a word in each file."""
    digest = images.recipe_digest(TARGETS[target])
    folder = images.images_folder() / f"{target}-{digest[:12]}"
    folder.mkdir(parents=True)
    names = tuple(images.FILES.values())
    for name in names:
        (folder / name).write_text(name)
    description = {
        "name": target,
        "digest": digest,
        "kernel_release": "6.1.0",
        "built": "2026-01-01T00:00:00+00:00",
        "sha256s": {name: cache.sha256_of(folder / name) for name in names},
    }
    (folder / "image.json").write_text(json.dumps(description))
    return images.read_image(folder)


class TestTargets:
    def test_a_name_is_a_target(self) -> None:
        assert parse_target("debian12").target.suite == "bookworm"

    def test_a_kernel_is_kept_with_the_name(self) -> None:
        spec = parse_target("debian12+kernel:/tmp/a+kernel:b")
        assert (spec.target.name, spec.kernel) == ("debian12", "/tmp/a+kernel:b")
        assert spec.name == "debian12+kernel:/tmp/a+kernel:b"

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            ("debian14", "debian1"),
            ("debain13-backports", "debian13-backports"),
            ("windows", "known: debian11"),
            ("debian12+kernel:", "debian12+kernel:PATH"),
        ],
    )
    def test_an_unknown_one_is_named_with_the_nearest(self, text: str, hint: str) -> None:
        with pytest.raises(ScenarioError, match=re.escape(text)) as caught:
            parse_target(text)
        assert hint in caught.value.hint

    def test_globs_expand_once_and_in_order(self) -> None:
        names = [spec.name for spec in expand_targets(["forky", "debian1[12]", "debian*"])]
        assert names == ["forky", "debian11", "debian12", "debian13", "debian13-backports"]

    def test_a_glob_takes_a_kernel(self) -> None:
        assert [spec.kernel for spec in expand_targets(["debian1[12]+kernel:x"])] == ["x", "x"]

    def test_a_glob_that_means_nothing_is_an_error(self) -> None:
        with pytest.raises(ScenarioError, match="gentoo"):
            expand_targets(["gentoo*"])


class TestRecipe:
    def test_equal_recipes_have_equal_digests(self) -> None:
        assert images.recipe_digest(DEBIAN12) == images.recipe_digest(replace(DEBIAN12, summary="other words"))

    def test_each_target_has_its_own(self) -> None:
        assert len({images.recipe_digest(target) for target in TARGETS.values()}) == len(TARGETS)

    def test_another_package_is_another_recipe(self) -> None:
        assert images.recipe_digest(DEBIAN12) != images.recipe_digest(replace(DEBIAN12, packages=("python3",)))

    def test_the_init_script_is_part_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = images.recipe_digest(DEBIAN12)
        monkeypatch.setattr("lab.host.images.initrd.init_script", lambda: b"#!/bin/sh\n")
        assert images.recipe_digest(DEBIAN12) != before

    def test_the_command_names_suites_kernel_and_mirror(self) -> None:
        argv = images.mmdebstrap_argv(TARGETS["debian13-backports"], "http://m.test/debian", Path("t"), Path("o"))
        assert [word.split("] ")[-1].removeprefix("deb ") for word in argv[-2:]] == [
            "http://m.test/debian trixie main",
            "http://m.test/debian trixie-backports main",
        ]
        assert any("linux-image-cloud-amd64/trixie-backports" in word for word in argv)

    def test_an_expired_suite_is_taken_only_where_the_table_says_so(self) -> None:
        expired = {
            name
            for name, target in TARGETS.items()
            if any("Check-Valid-Until" in word for word in images.mmdebstrap_argv(target, "m", Path(), Path()))
        }
        assert expired == {"forky"}


class TestMirror:
    @pytest.mark.parametrize(
        ("listing", "chosen"),
        [
            (INDEX_TARGETS, "http://mirror.test/debian"),
            ("http://m.test/debian-security/ \nhttp://m.test/debian/ \n", "http://m.test/debian"),
            ("mirror+file:/etc/apt/mirrors/debian.list ", "mirror+file:/etc/apt/mirrors/debian.list"),
            ("http://archive.test/ubuntu/ Ubuntu\n", None),
            ("", None),
        ],
    )
    def test_the_main_archive_is_chosen(self, listing: str, chosen: str | None) -> None:
        assert mirror.choose_mirror(listing) == chosen

    def test_the_environment_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(mirror.MIRROR_VARIABLE, "http://mine.test/debian")
        assert mirror.find_mirror() == "http://mine.test/debian"

    def test_a_host_without_apt_is_told_what_to_set(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(PrerequisiteError) as caught:
            mirror.find_mirror()
        assert mirror.MIRROR_VARIABLE in caught.value.hint


class TestStore:
    def test_an_image_not_built_is_none(self) -> None:
        assert images.load(DEBIAN12) is None

    def test_a_built_image_is_found_and_whole(self) -> None:
        made = make_image()
        assert images.load(DEBIAN12) == made
        assert images.is_current(made, DEBIAN12)
        images.verify(made)

    @pytest.mark.parametrize("file", ["root.ext4", "vmlinuz", "initrd.cpio"])
    def test_damage_names_image_file_and_mend(self, file: str) -> None:
        made = make_image()
        expected = made.sha256s[file]
        (made.directory / file).write_text("damaged")
        actual = cache.sha256_of(made.directory / file)
        with pytest.raises(PrerequisiteError) as caught:
            images.verify(made)
        assert all(word in str(caught.value) for word in ("image debian12", file, expected, actual))
        assert caught.value.hint == "lab image build --rebuild debian12"

    def test_a_file_that_is_gone_is_damage(self) -> None:
        made = make_image()
        made.initrd.unlink()
        with pytest.raises(PrerequisiteError, match=r"initrd\.cpio: No such file"):
            images.verify(made)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x", "sha256s": {}}'])
    def test_a_garbled_description_is_damage(self, text: str) -> None:
        (make_image().directory / "image.json").write_text(text)
        with pytest.raises(PrerequisiteError, match="image debian12 is damaged"):
            images.load(DEBIAN12)

    def test_the_list_is_sorted_and_passes_over_what_is_half_made(self) -> None:
        make_image("forky")
        make_image("debian11")
        (images.images_folder() / ".tmp-image-debian12-abcdefgh").mkdir()
        assert [image.name for image in images.list_images()] == ["debian11", "forky"]

    def test_remove_takes_all_of_that_name_and_no_other(self) -> None:
        make_image("debian13-backports")
        made = make_image("debian13")
        old = made.directory.with_name("debian13-0123456789ab")
        shutil.copytree(made.directory, old)
        assert set(images.remove("debian13")) == {made.directory, old}
        assert [image.name for image in images.list_images()] == ["debian13-backports"]

    def test_an_image_that_exists_is_not_built_again(self) -> None:
        made = make_image()
        assert images.build(DEBIAN12, images.BuildOptions(lambda line: None)) == made

    def test_no_space_says_how_much_and_where(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lab.host.images.building.require_programs", lambda needed: None)
        monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 5 * 10**6))
        with pytest.raises(PrerequisiteError, match=r"needs 1000 MB in .*images, which has 5 MB free") as caught:
            images.build(DEBIAN12, images.BuildOptions(lambda line: None))
        assert "XDG_CACHE_HOME" in caught.value.hint

    def test_missing_programs_are_named_with_their_packages(self) -> None:
        with pytest.raises(PrerequisiteError, match="lacks no-such-program") as caught:
            require_programs([Program("no-such-program", "its-package")])
        assert "its-package" in caught.value.hint and "scripts/setup" in caught.value.hint

    def test_packages_are_the_installed_ones(self) -> None:
        assert images.parse_packages(STATUS) == ("adduser 3.134 all", "conntrack 1:1.4.7-1+b2 amd64")


class TestCache:
    def test_it_follows_xdg(self, tmp_path: Path) -> None:
        assert cache.cache_root() == tmp_path / "cache" / "conntrack-lab"

    def test_a_relative_xdg_path_is_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        assert cache.cache_root() == Path.home() / ".cache" / "conntrack-lab"

    def test_a_cache_that_cannot_be_made_says_where(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(PrerequisiteError, match="file/x"):
            cache.make_folder(tmp_path / "file" / "x")

    def test_staging_is_all_or_nothing(self, tmp_path: Path) -> None:
        final = tmp_path / "final"
        with pytest.raises(RuntimeError), cache.staging(final, "lock") as folder:
            (folder / "half").touch()
            raise RuntimeError
        assert list(tmp_path.iterdir()) == []
        with cache.staging(final, "lock") as folder:
            (folder / "whole").touch()
            assert not final.exists()
        assert [path.name for path in tmp_path.rglob("*")] == ["final", "whole"]

    def test_staging_replaces_what_was_there(self, tmp_path: Path) -> None:
        for name in ("old", "new"):
            with cache.staging(tmp_path / "final", "lock") as folder:
                (folder / name).touch()
        assert [path.name for path in (tmp_path / "final").iterdir()] == ["new"]

    def test_stale_folders_go_and_those_of_the_living_stay(self, tmp_path: Path) -> None:
        for name in (".tmp-image-own-abcdefgh", ".tmp-image-dead-abcdefgh", ".tmp-image-alive-abcdefgh"):
            (tmp_path / name).mkdir()
        with cache.exclusive("image-alive", deadline()), cache.exclusive("image-own", deadline()):
            cache.remove_stale(tmp_path, "image-own")
        assert [path.name for path in tmp_path.glob(".tmp-*")] == [".tmp-image-alive-abcdefgh"]

    def test_a_lock_is_waited_for_and_goes_with_its_holder(self, own_cache: Path) -> None:
        own_cache.mkdir(parents=True)
        lines = (
            "from lab.host import cache",
            "with cache.exclusive('x', cache.Deadline.after(5, '')): print(flush=True); input()",
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", "\n".join(lines)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        assert holder.stdin and holder.stdout
        holder.stdout.readline()
        waits: list[str] = []

        def waiting() -> None:
            waits.append("waiting")
            holder.kill()

        with holder, cache.exclusive("x", deadline(), on_wait=waiting):
            assert waits == ["waiting"]

    def test_waiting_for_a_lock_ends_with_the_deadline(self) -> None:
        with cache.exclusive("x", deadline()), pytest.raises(LabError, match=r"the test did not end within 0\.3 s"):
            with cache.exclusive("x", deadline(0.3)):
                pass

    def test_waiting_for_a_lock_can_be_cancelled(self) -> None:
        cancelled = threading.Event()
        cancelled.set()
        with cache.exclusive("x", deadline()), pytest.raises(Cancelled):
            with cache.exclusive("x", deadline(10, cancelled)):
                pass


@needs_setpriv
class TestRunProgram:
    def test_lines_of_both_streams_come_as_printed(self) -> None:
        seen: list[str] = []
        argv = ("sh", "-c", "echo one; echo two >&2; printf three")
        assert run_program(argv, deadline(), on_line=seen.append) == seen == ["one", "two", "three"]

    def test_a_failure_keeps_the_last_lines(self) -> None:
        with pytest.raises(PrerequisiteError, match=r"the test failed \(status 3\): E: no such suite"):
            run_program(("sh", "-c", "echo E: no such suite; exit 3"), deadline())

    def test_of_a_failed_mirror_the_errors_are_quoted_and_not_the_cleaning_up(self) -> None:
        printed = (
            "I: running apt-get update...",
            "Err:1 http://mirror.example/debian bookworm InRelease",
            "  Could not connect to mirror.example:80",
            "E: Failed to fetch http://mirror.example/debian/dists/bookworm/InRelease",
            "E: Some index files failed to download.",
            *(f"I: cleaning up {number}" for number in range(30)),
            "I: mmdebstrap had status 25",
        )
        with pytest.raises(PrerequisiteError) as caught:
            run_program(("sh", "-c", "printf '%s\\n' \"$@\"; exit 25", "sh", *printed), deadline())
        said = str(caught.value)
        assert "Err:1 http://mirror.example" in said and "E: Failed to fetch http://mirror.example" in said
        assert "cleaning up" not in said and "had status" not in said

    def test_past_the_deadline_nothing_is_left(self, tmp_path: Path) -> None:
        with pytest.raises(LabError, match="did not end within"):
            run_program(("sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"), deadline(0.5))
        assert_gone(int((tmp_path / "pid").read_text()))

    def test_cancelling_ends_it(self) -> None:
        cancelled = threading.Event()
        threading.Timer(0.3, cancelled.set).start()
        started_seconds = time.monotonic()
        with pytest.raises(Cancelled):
            run_program(("sleep", "60"), deadline(30, cancelled))
        assert time.monotonic() - started_seconds < 2

    def test_it_dies_with_a_killed_lab(self) -> None:
        code = (
            "from lab.host.programs import run_program\nfrom lab.host.cache import Deadline\n"
            "def show(line): print(line, flush=True)\n"
            "run_program(('sh', '-c', 'echo $$; exec sleep 60'), Deadline.after(60, ''), on_line=show)"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as lab_process:
            assert lab_process.stdout
            child = int(lab_process.stdout.readline())
            lab_process.kill()
        assert_gone(child)


def assert_gone(pid: int) -> None:
    """`pid` ends within a second, or is a zombie that waits for whoever adopted it."""
    until_seconds = time.monotonic() + 1
    while time.monotonic() < until_seconds:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.02)
    os.kill(pid, 9)
    pytest.fail(f"process {pid} is still there")


def test_what_mmdebstrap_prints_is_told_in_full_to_who_wants_it() -> None:
    told: list[str] = []
    detail: list[str] = []
    report = images.BuildReporter("image debian12", told.append, detail.append)
    for line in (
        "I: downloading packages with apt...",
        "Get:1 http://mirror.example \x1b[31mx",
        "I: downloading packages",
    ):
        report.line(line)
    assert [line.rpartition(" (")[0] for line in told] == ["image debian12: downloading packages"]
    assert len(detail) == 3
    assert detail[1] == "image debian12: Get:1 http://mirror.example  [31mx"
