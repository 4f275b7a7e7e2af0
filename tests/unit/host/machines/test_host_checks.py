"""The doctor: what is looked at, and that whatever is not well comes with its hint."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.core.errors import PrerequisiteError
from lab.host import programs
from lab.host.cli.doctor import report
from lab.host.images import mirror
from lab.host.machines import host_checks
from lab.host.machines.accelerator import KvmAnswer
from lab.host.machines.host_checks import Check, check_without_guest, kvm_check
from lab.host.machines.qemu.binary import QemuBinary, find_qemu


class Usage(NamedTuple):
    """As shutil.disk_usage gives it."""

    total: int
    used: int
    free: int


GOOD = QemuBinary("/usr/bin/qemu", "QEMU emulator version 10.0.2", (10, 0, 2), "cpu")


@pytest.fixture(autouse=True)
def good_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host that lacks nothing, whatever the real one lacks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "yet" / "there"))
    monkeypatch.setattr(host_checks, "find_qemu", lambda: GOOD)
    monkeypatch.setattr(programs, "require_programs", lambda needed: None)
    monkeypatch.setattr(mirror, "find_mirror", lambda: "http://mirror.example/debian")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))
    yield


def checks() -> dict[str, Check]:
    return {check.name: check for check in check_without_guest()[0]}


def missing(*args: object) -> QemuBinary:
    raise PrerequisiteError("it is not there", hint="install it")


def test_a_good_host_lacks_nothing_that_is_required() -> None:
    found, qemu = check_without_guest()
    assert qemu == GOOD
    assert {check.name for check in found if not check.ok} <= {"memory", "processors"}
    assert report([check for check in found if check.ok]).count("ok  ") >= 4


def test_a_host_without_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks, "find_qemu", missing)
    found, qemu = check_without_guest()
    assert qemu is None
    assert found[0] == Check("QEMU", False, "it is not there", "install it")
    assert len(found) > 1, "the other checks are made all the same"


@pytest.mark.parametrize(
    ("number", "ok"), [("7.2.22", False), ("8.1.5", False), ("8.2.0", True), ("10.0.0", True), ("11.0", True)]
)
def test_a_qemu_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, ok: bool) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\necho 'QEMU emulator version {number} (Debian)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(host_checks, "find_qemu", find_qemu)
    check = checks()["QEMU"]
    assert check.ok is ok
    assert ok or ("8.2" in check.seen and "scripts/setup" in check.hint)


@pytest.mark.parametrize(
    ("function", "name"),
    [("programs.require_programs", "programs for building images"), ("images.mirror.find_mirror", "Debian mirror")],
)
def test_what_building_images_needs(monkeypatch: pytest.MonkeyPatch, function: str, name: str) -> None:
    monkeypatch.setattr(f"lab.host.{function}", missing)
    assert checks()[name] == Check(name, False, "it is not there", "install it")


def test_what_other_kernels_need_is_not_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.host.programs.require_programs", missing)
    expected = Check("programs for other kernels", False, "it is not there", "install it", required=False)
    assert checks()["programs for other kernels"] == expected


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> Usage:
        asked.append(path)
        return Usage(10**12, 10**12, 10**9)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    check = checks()["space"]
    assert (check.ok, check.required) == (False, True)
    assert "1.0 GB free" in check.seen
    assert "XDG_CACHE_HOME" in check.hint
    assert asked[0].exists(), "of a cache that is not there yet the folder that will hold it is asked"


@pytest.mark.parametrize(
    ("answer", "ok", "words"),
    [
        (None, False, "proves nothing"),
        (KvmAnswer(True, "a guest has booted with it"), True, "a guest has booted"),
        (KvmAnswer(False, "there is no /dev/kvm"), False, "there is no /dev/kvm"),
    ],
)
def test_kvm_is_never_required(answer: KvmAnswer | None, ok: bool, words: str) -> None:
    check = kvm_check(answer)
    assert (check.ok, check.required) == (ok, False)
    assert words in check.seen
    assert ok or check.hint


def test_the_report_has_a_mend_below_each_lack() -> None:
    text = report(
        [
            Check("a", True, "fine", "never shown"),
            Check("b", False, "missing", "apt-get install b"),
            Check("c", False, "slow", "be patient", required=False),
        ]
    )
    assert text.splitlines() == [
        "ok    a: fine",
        "LACK  b: missing",
        "      hint: apt-get install b",
        "note  c: slow",
        "      hint: be patient",
    ]
