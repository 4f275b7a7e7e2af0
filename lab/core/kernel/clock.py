"""Whether a guest's clock runs as fast as the host's.

A kernel measures its TSC against another timer while it boots. On a busy host that goes wrong in an emulated machine,
and is never set right (tsc_refine_calibration_work() in arch/x86/kernel/tsc.c: what differs by more than a percent from
the first measurement is thrown away): every second of such a guest is too long or too short.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.core.kernel.kmsg import console_lines
from lab.core.text import shortened

# The refinement stays within a percent. Deadlines and rates bear a few; a wrong measurement is off by tens.
MOST_OFF = 0.03
_MOST_SHOWN = 300


@dataclass(frozen=True)
class Reading:
    """A guest's clock, which was read between two moments of the host's."""

    asked_seconds: float
    guest_seconds: float
    answered_seconds: float

    @property
    def took_seconds(self) -> float:
        """How long the answer took: when the clock was read is known no better."""
        return self.answered_seconds - self.asked_seconds


def rates(first: Reading, last: Reading) -> tuple[float, float]:
    """The slowest and the fastest that the guest's clock can have run between two readings; 1 is as the host's."""
    elapsed = last.guest_seconds - first.guest_seconds
    shortest = last.asked_seconds - first.answered_seconds
    return elapsed / (last.answered_seconds - first.asked_seconds), elapsed / shortest if shortest > 0 else float("inf")


def wrong_clock(first: Reading, last: Reading, console: str) -> str | None:
    """What is wrong with a guest's clock, with what its kernel said of it; None where it may well be right."""
    slowest, fastest = rates(first, last)
    if slowest <= 1 + MOST_OFF and fastest >= 1 - MOST_OFF:
        return None
    off = f"at least {slowest:.2f} times as fast as" if slowest > 1 else f"at most {fastest:.2f} times as fast as"
    said = "; ".join(tsc_lines(console))
    return f"the guest's clock runs {off} the host's{f' ({shortened(said, _MOST_SHOWN)})' if said else ''}"


def tsc_lines(console: str) -> tuple[str, ...]:
    """What a kernel said of its TSC while it booted: `tsc: Detected 2596.131 MHz processor`."""
    return tuple(line for line in console_lines(console) if line.startswith("tsc: "))
