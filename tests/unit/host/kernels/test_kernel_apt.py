"""Kernels by apt: a small archive on this disk, signed by a key of the test, and what becomes of a bad one."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host.cache import Deadline
from lab.host.kernels import apt, suites
from lab.host.kernels.apt import parse_packages
from lab.host.kernels.fetch import fetch, kernels_in, packages_folder
from lab.host.kernels.listing import kernel_lines, suite_lines
from lab.host.kernels.source import AptPart
from lab.host.kernels.suites import SUITES, find_suite
from tests.kernel_packages import run

needs_apt = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("apt-get", "dpkg-deb", "gpg", "gpgv", "setpriv")),
    reason="needs apt, dpkg-deb, gpg: scripts/setup --tests",
)
META, IMAGE, MODULES = "linux-image-amd64", "linux-image-6.9.1-amd64", "linux-modules-6.9.1-amd64"
_DEPENDS = {META: f"{IMAGE} (= 1)", IMAGE: f"kmod, {MODULES}", MODULES: "linux-base (>= 4)"}


def make_package(folder: Path, name: str) -> Path:
    """A package; what is no metapackage has some size."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: A <a@example.org>\n"
        f"Depends: {_DEPENDS[name]}\nDescription: test\n"
    )
    if name != META:
        (tree / name).write_bytes(hashlib.shake_256(name.encode()).digest(40_000))
    package = folder / f"{name}_1_amd64.deb"
    run("dpkg-deb", "--root-owner-group", "--build", str(tree), str(package))
    shutil.rmtree(tree)
    return package


class Archive:
    """A Debian archive with one suite, in a folder."""

    def __init__(self, base: Path) -> None:
        self.root = base / "debian"
        self.home = base / "gnupg"
        self.keyring = base / "keys.gpg"

    def make(self) -> None:
        """Packages, lists, and a key that signs them."""
        self.home.mkdir(mode=0o700)
        self.gpg("--quick-generate-key", "Test <test@example.org>", "ed25519", "sign", "never")
        self.gpg("--output", str(self.keyring), "--export")
        pool = self.root / "pool"
        pool.mkdir(parents=True)
        for name in _DEPENDS:
            make_package(pool, name)
        self.write_lists()
        self.sign()

    def gpg(self, *arguments: str) -> None:
        run(
            "gpg",
            "--homedir",
            str(self.home),
            "--batch",
            "--yes",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
            *arguments,
        )

    @property
    def dist(self) -> Path:
        return self.root / "dists" / "bookworm"

    def write_lists(self) -> None:
        """Packages.gz and the Release file over it."""
        paragraphs = []
        for package in sorted((self.root / "pool").iterdir()):
            fields = subprocess.run(["dpkg-deb", "-f", str(package)], capture_output=True, text=True, check=True).stdout
            content = package.read_bytes()
            paragraphs.append(
                f"{fields}Filename: pool/{package.name}\nSize: {len(content)}\n"
                f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
            )
        folder = self.dist / "main" / "binary-amd64"
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join(paragraphs).encode()
        (folder / "Packages.gz").write_bytes(gzip.compress(text))
        (folder / "Packages").write_bytes(text)
        sums = "".join(
            f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size} {path.relative_to(self.dist)}\n"
            for path in (folder / "Packages", folder / "Packages.gz")
        )
        (self.dist / "Release").write_text(
            "Origin: Debian\nLabel: Debian\nSuite: oldstable\nCodename: bookworm\nArchitectures: amd64\n"
            f"Components: main\nDate: Wed, 01 Jan 2025 00:00:00 UTC\nSHA256:\n{sums}"
        )

    def sign(self) -> None:
        """Sign the Release file, as InRelease."""
        self.gpg("--output", str(self.dist / "InRelease"), "--clearsign", str(self.dist / "Release"))
        (self.dist / "Release").unlink()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that no test changes."""
    base = tmp_path_factory.mktemp("archive")
    Archive(base).make()
    subprocess.run(["gpgconf", "--homedir", str(base / "gnupg"), "--kill", "all"], check=False, capture_output=True)
    return base


@pytest.fixture
def archive(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(apt, "FRESH_SECONDS", 0.0)
    shutil.copytree(pristine, tmp_path / "copy", ignore=shutil.ignore_patterns("S.*"))
    made = Archive(tmp_path / "copy")
    monkeypatch.setenv("LAB_DEBIAN_MIRROR", f"file://{made.root}")
    monkeypatch.setenv("LAB_DEBIAN_KEYRING", str(made.keyring))
    yield made
    subprocess.run(["gpgconf", "--homedir", str(made.home), "--kill", "all"], check=False, capture_output=True)


def get(part: AptPart, lines: list[str] | None = None) -> list[Path]:
    said = lines if lines is not None else []
    return fetch(part, said.append, Deadline.after(120, "fetching"))


@needs_apt
class TestArchive:
    def test_a_metapackage_leads_to_the_packages_that_make_the_kernel(self, archive: Archive) -> None:
        found = get(AptPart("bookworm", None))
        assert sorted(path.name for path in found) == [f"{IMAGE}_1_amd64.deb", f"{MODULES}_1_amd64.deb"]
        assert all(path.read_bytes() == (archive.root / "pool" / path.name).read_bytes() for path in found)
        assert all(path.parent.parent == packages_folder() for path in found)

    def test_what_is_kept_is_not_fetched_again_even_without_a_mirror(self, archive: Archive) -> None:
        first = get(AptPart("bookworm", IMAGE))
        archive.root.rename(archive.root.with_name("gone"))
        lines: list[str] = []
        assert get(AptPart("bookworm", IMAGE), lines) == first
        assert any("those of an earlier time are used" in line for line in lines)

    def test_lists_of_just_now_are_not_fetched_again(self, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(apt, "FRESH_SECONDS", 600.0)
        get(AptPart("bookworm", IMAGE))
        archive.root.rename(archive.root.with_name("gone"))
        lines: list[str] = []
        get(AptPart("bookworm", IMAGE), lines)
        assert not any("those of an earlier time are used" in line for line in lines)

    def test_the_kernels_of_a_suite_are_listed(self, archive: Archive) -> None:
        packages = kernels_in("bookworm", lambda line: None, Deadline.after(60, "listing"))
        lines = list(kernel_lines("bookworm", packages))
        assert lines[0].split() == [f"apt:bookworm/{META}", "1", "->", IMAGE]
        assert lines[1].split() == [f"apt:bookworm/{IMAGE}", "1", "0", "MB"]

    def test_a_kernel_whose_modules_the_suite_has_no_more_is_marked(self, archive: Archive) -> None:
        (archive.root / "pool" / f"{MODULES}_1_amd64.deb").unlink()
        archive.write_lists()
        archive.sign()
        packages = kernels_in("bookworm", lambda line: None, Deadline.after(60, "listing"))
        assert {package.name: package.lacks for package in packages} == {META: (), IMAGE: (MODULES,)}
        lines = list(kernel_lines("bookworm", packages))
        assert lines[1].endswith(f"1  unavailable: the suite no longer has {MODULES}")

    def test_a_package_that_the_suite_has_not_is_named(self, archive: Archive) -> None:
        with pytest.raises(ScenarioError, match="bookworm has no package linux-image-9") as caught:
            get(AptPart("bookworm", "linux-image-9"))
        assert "lab kernel list bookworm" in caught.value.hint

    def test_another_key_than_the_suites_is_refused(self, archive: Archive) -> None:
        other = archive.home.with_name("other")
        other.mkdir(mode=0o700)
        archive.home = other
        archive.gpg("--quick-generate-key", "Other <other@example.org>", "ed25519", "sign", "never")
        archive.write_lists()
        archive.sign()
        with pytest.raises(PrerequisiteError, match=r"the signature of bookworm does not verify with keys\.gpg"):
            get(AptPart("bookworm", None))
        subprocess.run(["gpgconf", "--homedir", str(other), "--kill", "all"], check=False, capture_output=True)

    def test_a_suite_without_a_signature_is_refused(self, archive: Archive) -> None:
        (archive.dist / "InRelease").unlink()
        archive.write_lists()
        with pytest.raises(PrerequisiteError, match="the signature of bookworm does not verify"):
            get(AptPart("bookworm", None))

    def test_a_changed_list_is_refused(self, archive: Archive) -> None:
        for name in ("Packages", "Packages.gz"):
            path = archive.dist / "main" / "binary-amd64" / name
            path.write_bytes(path.read_bytes() + b"\n")
        with pytest.raises(PrerequisiteError, match="apt:bookworm: "):
            get(AptPart("bookworm", None))

    def test_a_changed_package_is_refused(self, archive: Archive) -> None:
        package = archive.root / "pool" / f"{IMAGE}_1_amd64.deb"
        content = bytearray(package.read_bytes())
        content[-10] ^= 1
        package.write_bytes(content)
        with pytest.raises(PrerequisiteError):
            get(AptPart("bookworm", IMAGE))
        assert not list(packages_folder().glob(f"*/{IMAGE}*"))

    def test_a_mirror_without_the_suite_says_where_to_look(self, archive: Archive) -> None:
        with pytest.raises(PrerequisiteError, match="apt:trixie: this mirror does not have trixie") as caught:
            get(AptPart("trixie", None))
        assert "LAB_DEBIAN_MIRROR" in caught.value.hint and "by hand" in caught.value.hint

    def test_a_mirror_that_cannot_be_reached_is_told_as_that(
        self, archive: Archive, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LAB_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
        with pytest.raises(PrerequisiteError, match="the mirror of bookworm cannot be reached"):
            get(AptPart("bookworm", None))

    def test_nothing_of_the_hosts_apt_is_touched(self, archive: Archive) -> None:
        lists = Path("/var/lib/apt/lists")
        before = sorted(path.name for path in lists.iterdir())
        get(AptPart("bookworm", None))
        assert sorted(path.name for path in lists.iterdir()) == before


class TestTable:
    def test_an_unknown_suite_is_named_with_the_nearest(self) -> None:
        with pytest.raises(ScenarioError, match="unknown suite 'bokworm'") as caught:
            find_suite("bokworm")
        assert caught.value.hint == "did you mean apt:bookworm?"

    @pytest.mark.parametrize("name", ["squeeze", "stretch", "sid", "bookworm-security", "trusty", "resolute-updates"])
    def test_what_it_has(self, name: str) -> None:
        assert find_suite(name).dist == name

    def test_keys_that_are_not_there_are_named_with_their_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAB_UBUNTU_KEYRING", "/no/such/keys.gpg")
        with pytest.raises(PrerequisiteError, match=r"/no/such/keys\.gpg is not there") as caught:
            SUITES["jammy"].sources()
        assert "ubuntu-keyring" in caught.value.hint

    def test_a_mirror_that_nobody_knows_is_told_with_its_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(archive: object) -> str:
            raise PrerequisiteError("no mirror")

        monkeypatch.setattr(suites, "find_mirror", unknown)
        with pytest.raises(PrerequisiteError, match="apt:stretch: no mirror") as caught:
            SUITES["stretch"].mirror()
        assert "LAB_DEBIAN_OLD_MIRROR" in caught.value.hint
        assert all("needs " in line for line in suite_lines() if line.startswith("apt:") and "SUITE" not in line)

    def test_the_line_for_apt(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        keys = tmp_path / "keys.gpg"
        keys.touch()
        monkeypatch.setenv("LAB_DEBIAN_KEYRING", str(keys))
        monkeypatch.setenv("LAB_DEBIAN_OLD_MIRROR", "http://mirror.test/old")
        options = f"arch=amd64 signed-by={keys} check-valid-until=no"
        assert SUITES["stretch"].sources() == f"deb [{options}] http://mirror.test/old stretch main\n"

    def test_a_suites_paragraphs_are_read_by_their_names(self) -> None:
        text = "Package: a\nVersion: 1\nSize: 5\nSHA256: x\nDepends: b (>= 1) | c, d\nDescription: y\n\nPackage: bad\n"
        (package,) = parse_packages(text)
        assert replace(package, depends=()) == replace(package, name="a", version="1", depends=())
        assert package.depends == ("b", "c", "d")
