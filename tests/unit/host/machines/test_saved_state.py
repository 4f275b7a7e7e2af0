"""Saved states as files: what is damaged or gone is noticed before QEMU sees it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.core.errors import GuestLost
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.command import TCG
from lab.host.machines.qemu.files import Descriptors
from lab.host.machines.qemu.machine import ImageMachine
from lab.host.machines.qemu.provisioner import QemuProvisioner
from lab.host.machines.qemu.saved_state import SavedState, recorded_state, saved_states
from lab.host.options import Deadlines


@pytest.fixture
def state(tmp_path: Path) -> SavedState:
    saved = SavedState(tmp_path / "state")
    saved.folder.mkdir()
    for path in (saved.memory, saved.devices, saved.console):
        path.write_bytes(b"content")
    (saved.folder / "state.json").write_text(recorded_state(saved))
    return saved


def test_a_whole_state_is_complete(state: SavedState) -> None:
    assert state.complete()


@pytest.mark.parametrize("name", ["devices", "console.log"])
def test_damage_that_keeps_the_size_is_noticed(state: SavedState, name: str) -> None:
    (state.folder / name).write_bytes(b"contenT")
    assert not state.complete()


@pytest.mark.parametrize("name", ["memory", "devices", "console.log", "state.json"])
def test_a_file_that_is_gone_or_cut_is_noticed(state: SavedState, name: str) -> None:
    (state.folder / name).write_bytes(b"cut")
    assert not state.complete()
    (state.folder / name).unlink()
    assert not state.complete()


def test_a_state_that_another_lab_removes_is_a_lost_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "file"
    file.write_bytes(b"x")
    spec = ImageMachine("d", 256, 1, root_disk=file, kernel=file, initrd=file)
    provisioner = QemuProvisioner(QemuBinary("/bin/false", "8.2", (8, 2, 0), "cpu"), TCG, Deadlines())
    monkeypatch.setattr(SavedState, "complete", lambda saved: True)
    with pytest.raises(GuestLost, match="saved state has gone"):
        asyncio.run(_enter(provisioner, spec))


async def _enter(provisioner: QemuProvisioner, spec: ImageMachine) -> None:
    async with provisioner._restored(spec):
        pass


def test_states_that_go_while_they_are_listed_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    states = tmp_path / "conntrack-lab" / "states"
    for name in ("one", "two"):
        (states / name).mkdir(parents=True)
    found: Callable[[Path], bool] = Path.is_dir

    def gone(path: Path) -> bool:
        is_there = found(path)
        if path.name == "one":
            shutil.rmtree(path)
        return is_there

    monkeypatch.setattr(Path, "is_dir", gone)
    assert [path.name for path in saved_states()] == ["two"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs QEMU as somebody else")
def test_files_that_are_roots_alone_are_opened_to_the_unprivileged(tmp_path: Path) -> None:
    path = tmp_path / "root.ext4"
    path.write_bytes(b"x")
    path.chmod(0o600)
    with Descriptors() as files:
        files.number(path)
    assert path.stat().st_mode & 0o777 == 0o604
