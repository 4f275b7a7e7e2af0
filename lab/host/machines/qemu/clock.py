"""The clock of a machine that has booted, held against the host's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from lab.core.errors import GuestLost
from lab.core.kernel.clock import MOST_OFF, Reading, rates, wrong_clock
from lab.host.machines.qemu.process import QemuProcess

# each makes the bounds narrower; an idle host needs the first one only
_PAUSES_SECONDS = (1.0, 2.0, 4.0)
_READINGS = 3
_MOST_SECONDS = 10**9


class WrongClock(GuestLost):
    """The machine's clock runs at another rate than the host's: no time that it measures means anything."""


async def check_clock(read: Callable[[], Awaitable[float]], console: Callable[[], str]) -> None:
    """Return where the guest's clock, in seconds, may run as the host's does. Raises WrongClock; GuestLost of `read`.

    A wrong answer is certain: however long an answer takes, the clock was read between the question and the answer.
    """
    first = await _reading(read)
    last = first
    for pause_seconds in _PAUSES_SECONDS:
        await asyncio.sleep(pause_seconds)
        last = await _reading(read)
        slowest, fastest = rates(first, last)
        if fastest - slowest < MOST_OFF:
            break
    if (wrong := wrong_clock(first, last, console())) is not None:
        raise WrongClock(wrong)


async def read_clock(process: QemuProcess, deadline_seconds: float) -> float:
    """The machine's monotonic clock in seconds, which begins with its boot. Raises GuestLost."""
    said = (await process.call("clock", deadline_seconds=deadline_seconds)).get("monotonic_seconds")
    if not isinstance(said, int | float) or not 0 <= said < _MOST_SECONDS:
        raise GuestLost(f"the guest's clock says {said!r:.80}")
    return float(said)


async def _reading(read: Callable[[], Awaitable[float]]) -> Reading:
    """The quickest of a few."""
    readings = []
    for _ in range(_READINGS):
        asked = time.monotonic()
        guest_seconds = await read()
        readings.append(Reading(asked, guest_seconds, time.monotonic()))
    return min(readings, key=lambda reading: reading.took_seconds)
