"""Which QEMU there is: what is wrong with it, and what is wrong with the host."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from lab.core.errors import PrerequisiteError
from lab.host.machines.qemu.binary import find_qemu


def program(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "qemu-system-x86_64"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_its_version_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "echo 'QEMU emulator version 10.0.2 (Debian 1:10.0.2)'", monkeypatch)
    found = find_qemu()
    assert (found.path, found.number) == (str(tmp_path / "qemu-system-x86_64"), (10, 0, 2))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "failed"),
        ("true", "printed no version: ''"),
        ("echo QEMU", "printed no version: 'QEMU'"),
        ("echo QEMU emulator version 7.2.0", "is too old"),
    ],
)
def test_one_that_is_no_good_says_so(script: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, script, monkeypatch)
    with pytest.raises(PrerequisiteError, match=words):
        find_qemu()


@pytest.mark.parametrize(("number", "words"), [(errno.EMFILE, "ulimit -n"), (errno.ENOMEM, "memory")])
def test_a_host_that_has_run_out_is_no_bad_qemu(
    number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "true", monkeypatch)

    def exhausted(*_: object, **__: object) -> None:
        raise OSError(number, "no more")

    monkeypatch.setattr(subprocess, "run", exhausted)
    with pytest.raises(PrerequisiteError, match="was not started") as caught:
        find_qemu()
    assert words in caught.value.hint
