"""How the program ends when a standard stream is full, closed, or read by nobody: quietly, and never with a 1."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.core.errors import LabError, PrerequisiteError
from lab.host.cli import ending
from lab.host.cli.ending import StreamFailed, status_of
from lab.host.failures import host_failed
from lab.host.machines.playback import ReplayProvisioner
from lab.host.results import store
from lab.host.results.stored_run import StoredRun
from tests import ROOT
from tests.unit.host.run.test_runner import PRESENT, PRISTINE, Ran
from tests.unit.host.run.test_runner import run as run_cells

LAB = f"{sys.executable} -m lab"


def shell(command: str, tmp_path: Path) -> tuple[int, str]:
    """The status and standard error of a command of bash, the lab's status being the pipe's."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (f"{LAB} list > /dev/full", 2, "standard output cannot be written: No space left on device"),
        (f"{LAB} --help > /dev/full", 2, "standard output cannot be written"),
        (f"{LAB} list >&-", 2, "standard output is closed"),
        (f"{LAB} list | true", 141, ""),
        (f"{LAB} schema scenario | head -c 1", 141, ""),
        (f"{LAB} list 2>&-", 0, ""),
        (f"{LAB} run no-such-scenario 2> /dev/full", 2, ""),
        (f"{LAB} run no-such-scenario 2>&-", 2, ""),
        (f"{LAB} judge nowhere 2>&1 >&- 0<&- | cat >&2", 2, "there is no such run"),
    ],
)
def test_a_stream_that_does_not_take_it(command: str, status: int, words: str, tmp_path: Path) -> None:
    ended, said = shell(command, tmp_path)
    if status == 141 and ended == 0:
        pytest.skip("the reader was slower than the writer")
    assert (ended, "Traceback" in said, "Exception ignored" in said) == (status, False, False), said
    assert words in said or "standard output is closed" in said


def raising(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LabError("known", hint="x"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 2),
        (KeyboardInterrupt(), 130),
        (BaseExceptionGroup("", [LabError("known"), KeyboardInterrupt()]), 130),
        (ExceptionGroup("", [OSError("x"), ExceptionGroup("", [ValueError("a bug")])]), 70),
        (StreamFailed(OSError(errno.ENOSPC, "No space left on device")), 2),
        (RecursionError(), 70),
        (MemoryError(), 70),
        (AssertionError("x" * 10**6), 70),
    ],
)
def test_no_error_ends_with_a_1(error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(ending, "_to_nowhere", lambda stream: None)
    assert status_of(lambda: raising(error), said.append) == status
    assert said and all(len(line) < 5000 for line in said)


def test_an_error_of_the_host_says_where_and_what_ran() -> None:
    error = host_failed(OSError(errno.EACCES, "Permission denied", "/x/y"), "2 of 5 cells had ended")
    assert str(error) == "/x/y: Permission denied; 2 of 5 cells had ended"
    assert "choose another folder" in error.hint


@pytest.mark.asyncio
async def test_a_full_disk_keeps_what_ended_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, rans = store.write_recording, list[Ran]()

    def full(folder: Path, recording: object, plan: object, text: str) -> None:
        if rans[0].ended:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / "plan.json"))
        write(folder, recording, plan, text)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "write_recording", full)
    with pytest.raises(PrerequisiteError, match="No space left on device; 1 of 2 cells had ended") as caught:
        await run_cells(tmp_path, [PRISTINE, PRESENT], ReplayProvisioner(), into=rans)
    assert str(rans[0].path) in str(caught.value) and "free some space" in caught.value.hint
    assert [result["cell"] for result in rans[0].stored()] == [PRISTINE]
    assert [cell.name for cell in StoredRun(rans[0].path).cells] == [PRISTINE]
