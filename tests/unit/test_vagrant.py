"""Vagrant without Vagrant: a program of that name that does what a test wants, and what is made of it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from lab.core.errors import LabError, PrerequisiteError, ScenarioError
from lab.host import boxes, foreign
from lab.host.commands import chosen_provisioner
from lab.host.provision import host, vagrant
from lab.host.targets import TARGETS, expand_targets, parse_target


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vagrant.Folder:
    """A machine's folder; `vagrant` is the script `vagrant` beside it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr("vagrant.get_vagrant_executable", lambda: str(programs / "vagrant"))
    (tmp_path / "lab-1").mkdir()
    return vagrant.Folder(tmp_path / "lab-1", {"LAB_BOX": "a-box"})


def program(folder: vagrant.Folder, script: str) -> None:
    path = folder.path.parent / "bin" / "vagrant"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_call_past_its_deadline_is_ended_with_all_that_it_started(folder: vagrant.Folder) -> None:
    program(folder, "sleep 61 & echo begun; wait")
    started = time.monotonic()
    with pytest.raises(LabError, match=r"vagrant up did not end within 0\.5 s"):
        folder.commands(0.5, "vagrant up").up()
    assert time.monotonic() - started < 5
    assert folder.log == "$ vagrant up\nbegun\n"


def test_a_failing_exit_is_an_error_whatever_python_vagrant_makes_of_it(folder: vagrant.Folder) -> None:
    program(folder, "echo the reason >&2; exit 3")
    for name in ("up", "destroy", "status", "ssh_config", "box_list"):
        with pytest.raises(PrerequisiteError, match=r"status 3\): the reason"):
            getattr(folder.commands(10, name), name)()


def test_a_call_can_be_cancelled(folder: vagrant.Folder) -> None:
    program(folder, "exec sleep 61")
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    started = time.monotonic()
    with pytest.raises(LabError, match="interrupted"):
        folder.commands(60, "vagrant up", cancelled).up()
    assert time.monotonic() - started < 5


def test_what_vagrant_prints_is_kept_without_its_progress_bars(folder: vagrant.Folder) -> None:
    program(
        folder,
        r"""printf '\rProgress: 1%%\r\033[K==> default: \033[1mready\033[0m\n'; echo "$LAB_BOX in $VAGRANT_CWD" """,
    )
    folder.commands(10, "vagrant up").up(provider="libvirt")
    path = folder.path
    assert folder.log == f"$ vagrant up --provider=libvirt\n==> default: ready\na-box in {path}\n"
    assert (path / vagrant.LOG).read_text() == folder.log


def test_cleaning_up_goes_on_while_the_lab_is_interrupted() -> None:
    ended = []

    async def clean() -> None:
        await asyncio.sleep(0.2)
        ended.append(True)

    async def run() -> None:
        task = asyncio.create_task(vagrant._uncancelled(clean()))
        for _ in range(3):
            await asyncio.sleep(0.02)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert ended == [True]


def test_a_folder_whose_lab_lives_is_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = vagrant.machines_folder() / "lab-1"
    path.mkdir(parents=True)
    (path / "lab.json").write_text('{"provider": "libvirt", "environment": {"LAB_BOX": "a"}}')
    vagrant.hold(path)
    assert list(vagrant.leftovers()) == []
    vagrant.release(path)
    ((left, provider),) = vagrant.leftovers()
    assert (left.path, left.domain, provider) == (path, "lab-1-default", "libvirt")


class TestTargets:
    def test_boxes_and_the_host_are_targets(self) -> None:
        specs = expand_targets(["vagrant:debian12", "vagrant:/srv/a*.box", "debian1[23]", "host"])
        made = [(spec.name, spec.provisioner) for spec in specs]
        assert made == [
            ("vagrant:debian12", "vagrant"),
            ("vagrant:/srv/a*.box", "vagrant"),
            ("debian12", "qemu"),
            ("debian13", "qemu"),
            ("host", "host"),
        ]

    def test_a_box_must_be_named(self) -> None:
        with pytest.raises(ScenarioError, match="names no box"):
            parse_target("vagrant:")

    def test_a_run_has_one_provisioner(self) -> None:
        assert chosen_provisioner(None, expand_targets(["vagrant:debian12"])) == "vagrant"
        with pytest.raises(ScenarioError, match="cannot have machines of qemu and vagrant"):
            chosen_provisioner(None, expand_targets(["debian12", "vagrant:debian12"]))
        with pytest.raises(ScenarioError, match="--provisioner vagrant: cannot make debian12"):
            chosen_provisioner("vagrant", expand_targets(["debian12"]))


class TestFindingABox:
    @pytest.fixture(autouse=True)
    def no_vagrant(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(foreign, "vagrant_version", lambda: "2")
        monkeypatch.setattr(foreign, "added_boxes", lambda: frozenset({"generic/rocky9"}))

    def find(self, text: str) -> foreign.PreparedBox:
        return foreign.find_box(parse_target(f"vagrant:{text}"), None, 1.0, print, threading.Event())

    def test_by_path_its_checksum_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "a.box").write_bytes(b"box")
        box = self.find(str(tmp_path / "a.box")).box
        assert box.url == (tmp_path / "a.box").as_uri()
        assert box.sha256 is not None and box.name == f"conntrack-lab-{box.sha256[:12]}"

    def test_another_checksum_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.box").write_bytes(b"box")
        with pytest.raises(PrerequisiteError, match=r"sha256 is [0-9a-f]{64}, expected 0{64}"):
            self.find(f"{tmp_path}/a.box#sha256={'0' * 64}")

    def test_a_url_needs_a_checksum(self) -> None:
        with pytest.raises(ScenarioError, match="has no checksum"):
            self.find("https://example.org/a.box")
        assert self.find(f"https://example.org/a.box#sha256={'a' * 64}").box.sha256 == "a" * 64

    def test_by_name_it_must_have_been_added(self) -> None:
        assert self.find("generic/rocky9").box == vagrant.Box("generic/rocky9")
        with pytest.raises(ScenarioError, match="no box of that name"):
            self.find("generic/rocky8")


def test_the_boot_loader_names_the_partition_that_was_made(tmp_path: Path) -> None:
    grub = tmp_path / "grub"
    grub.mkdir()
    (grub / "boot.img").write_bytes(b"B" * 512)
    (grub / "core.img").write_bytes(b"C" * 1000)
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(2 * 2**20)
    boxes._write_loader(disk, grub)
    data = disk.read_bytes()
    assert data[:440] == b"B" * 440 and data[510:512] == b"\x55\xaa"
    assert data[446] == 0x80 and data[450] == 0x83
    assert int.from_bytes(data[454:458], "little") * 512 == 2**20
    assert data[512:1512] == b"C" * 1000


def test_a_box_is_told_apart_by_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = {boxes._final_folder(target) for target in TARGETS.values()}
    assert len(folders) == len(TARGETS)


class TestHost:
    def test_it_is_refused_without_a_word_that_the_machine_is_disposable(self) -> None:
        with pytest.raises(PrerequisiteError, match="changes this machine's own kernel"):
            host.require_disposable(False)

    def test_what_changed_is_listed(self) -> None:
        before = frozenset({"sysctl: a = 1", "module: x"})
        after = frozenset({"sysctl: a = 2", "module: x", "module: y"})
        assert host.difference(before, after) == ["+ module: y", "- sysctl: a = 1", "+ sysctl: a = 2"]

    def test_the_state_of_this_machine_can_be_read(self) -> None:
        assert any(line.startswith("sysctl: net.core.somaxconn = ") for line in host.state())
