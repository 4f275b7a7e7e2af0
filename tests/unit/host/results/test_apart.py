"""Work in a process of its own: whatever it does, its caller goes on, and no process is left."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lab.host.results import apart, judging
from lab.host.results.apart import Exceeded, call_apart, end_busy, end_idle
from lab.host.results.plain_files import Damaged
from lab.host.results.stored_run import StoredRun
from tests.unit.host.run.test_runner import PRESENT, PRISTINE, stored
from tests.unit.host.run.test_runner import run as run_cells

WORK = "tests.unit.hostile_work"
__all__ = ["stored"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sleep", "did not end within 0.3 s"),
        ("backtrack", "did not end within 0.3 s"),
        ("eat", "needs more than 512 MB of memory"),
        ("crash", "killed by signal 11"),
        ("leave", "ended with status 3"),
        ("nest", "nested too deeply"),
    ],
)
def test_what_takes_too_much_is_ended(name: str, words: str) -> None:
    assert call_apart(f"{WORK}:double", 4) == 8  # so that a process has started
    with pytest.raises(Exceeded, match=words):
        call_apart(f"{WORK}:{name}", seconds=0.3, memory_bytes=512 * 2**20)
    assert call_apart(f"{WORK}:double", 21) == 42


def test_what_is_printed_is_no_answer() -> None:
    assert call_apart(f"{WORK}:say") == "said"


def test_errors_come_through() -> None:
    with pytest.raises(Damaged, match="some/file: is damaged: it is odd") as caught:
        call_apart(f"{WORK}:find_damage")
    assert caught.value.hint
    with pytest.raises(RuntimeError, match="KeyError: 'a fault'"):
        call_apart(f"{WORK}:fail")
    with pytest.raises(RuntimeError, match="pickle"):
        call_apart(f"{WORK}:unpicklable")


def test_one_process_does_many_pieces_of_work() -> None:
    end_idle()
    call_apart(f"{WORK}:double", 1)
    (worker,) = apart._idle
    for number in range(5):
        assert call_apart(f"{WORK}:double", number) == 2 * number
    assert apart._idle == [worker]
    end_idle()
    assert worker._process.returncode is not None and apart._idle == []


def test_a_worker_that_somebody_killed_is_replaced() -> None:
    call_apart(f"{WORK}:double", 1)
    for worker in apart._idle:
        worker.kill()
        worker._process.wait()
    assert call_apart(f"{WORK}:double", 3) == 6


def test_a_fork_does_the_same_work() -> None:
    """In a process that has one thread, as a run has when it begins."""
    program = """if True:
        import os, sys
        from lab.host.results import apart
        held = open(sys.executable)
        apart.start_ahead()
        print("not flushed", end="")
        (fork,) = apart._idle
        assert apart.call_apart("tests.unit.hostile_work:double", 4) == 8
        assert apart.call_apart("tests.unit.hostile_work:say") == "said"
        assert apart._idle == [fork]
        there = f"/proc/{fork._process.pid}/fd"
        assert os.path.realpath(held.name) not in [os.path.realpath(f"{there}/{fd}") for fd in os.listdir(there)]
        assert os.getsid(fork._process.pid) == fork._process.pid
        try:
            apart.call_apart("tests.unit.hostile_work:sleep", seconds=0.3)
        except apart.Exceeded as exceeded:
            assert "did not end within 0.3 s" in str(exceeded)
        assert apart._idle == [] and fork._process.returncode is not None
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "not flushed", "")


def test_none_is_forked_beside_other_threads() -> None:
    end_idle()
    asked = threading.Event()
    thread = threading.Thread(target=asked.wait)
    thread.start()
    try:
        apart.start_ahead()
        assert apart._idle == []
    finally:
        asked.set()
        thread.join()


def test_busy_work_can_be_ended_from_elsewhere() -> None:
    call_apart(f"{WORK}:double", 1)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call_apart(f"{WORK}:sleep")
        except Exceeded as exceeded:
            raised.append(exceeded)

    thread = threading.Thread(target=work)
    thread.start()
    while not apart._busy:
        time.sleep(0.01)
    end_busy()
    thread.join(30)
    assert not thread.is_alive() and "killed by signal 9" in str(raised[0])


# -- judging ----------------------------------------------------------------------------------------------------------


def hang(folder: Path) -> None:
    """In place of what judges."""
    time.sleep(600)


def test_a_cell_whose_judging_does_not_end_is_inconclusive(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call_apart(f"{WORK}:double", 1)  # a process that has answered gets no time to start
    monkeypatch.setattr(judging, "read_and_judge", hang)
    monkeypatch.setattr(judging, "call_apart", lambda name, *given: call_apart(f"{__name__}:hang", *given, seconds=0.2))
    (result,) = judging.judge_run(stored.parents[1])
    assert result.finding == "inconclusive"
    assert result.reason == "the evidence could not be judged: it did not end within 0.2 s"
    assert not (stored / "samples.csv").exists() or result.finding == "inconclusive"


@pytest.mark.asyncio
async def test_an_interrupt_ends_judging_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "call_apart", lambda name, *given: call_apart(f"{__name__}:hang", *given))
    rans: list[Any] = []
    task = asyncio.create_task(run_cells(tmp_path, [PRISTINE, PRESENT], into=rans))
    async with asyncio.timeout(60):
        while not apart._busy:  # noqa: ASYNC110  # it is in another thread
            await asyncio.sleep(0.01)
        (worker,) = apart._busy
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert worker._process.returncode is not None
    assert StoredRun(rans[0].path).cells == ()
    assert os.listdir(rans[0].path / "cells") == []
