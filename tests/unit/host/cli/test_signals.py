"""Signals that end a run: it cleans up first, as after Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from lab.host.cli.console import wait_for


async def signalled(number: int, cleaned: list[int]) -> str:
    """Get a signal, and note that what was to be cleaned was."""
    os.kill(os.getpid(), number)
    try:
        await asyncio.sleep(0.2)
    finally:
        cleaned.append(number)
    return "ended by itself"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_cleans_up(number: int) -> None:
    cleaned: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        wait_for(signalled(number, cleaned))
    assert cleaned == [number]


def test_a_run_under_nohup_outlives_its_terminal() -> None:
    cleaned: list[int] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert wait_for(signalled(signal.SIGHUP, cleaned)) == "ended by itself"
    finally:
        signal.signal(signal.SIGHUP, before)
    assert cleaned == [signal.SIGHUP]
