"""Work off the loop, and what an interrupt makes of it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from lab.host.threads import in_thread, uncancelled


def test_cleaning_up_goes_on_while_the_lab_is_interrupted() -> None:
    ended = []

    async def clean() -> None:
        await asyncio.sleep(0.2)
        ended.append(True)

    async def run() -> None:
        task = asyncio.create_task(uncancelled(clean()))
        for _ in range(3):
            await asyncio.sleep(0.02)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert ended == [True]


def test_work_that_is_interrupted_is_told_and_waited_for() -> None:
    ended = []

    def work(cancelled: threading.Event) -> None:
        cancelled.wait(60)
        time.sleep(0.05)
        ended.append(cancelled.is_set())
        raise OSError("interrupted, in its own words")

    async def run() -> None:
        task = asyncio.create_task(in_thread(work))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert ended == [True]


def test_what_the_work_gives_and_raises_is_passed_on() -> None:
    assert asyncio.run(in_thread(lambda cancelled: 1)) == 1

    async def failing() -> None:
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        asyncio.run(uncancelled(failing()))
