"""What the end of a step says: a program that was broken off was refused nothing, whatever the step expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# exit statuses that the guest's agent gives by itself, as a shell and timeout(1) do
BROKEN_STATUS: Mapping[int, str] = {
    124: "did not end in time",
    126: "cannot be executed",
    127: "is not in this machine",
}
# signal(7), on x86 and ARM: those that end a program which did not ask for it
SIGNALS: Mapping[int, str] = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    13: "SIGPIPE",
    14: "SIGALRM",
    15: "SIGTERM",
    24: "SIGXCPU",
    25: "SIGXFSZ",
    31: "SIGSYS",
}
_MOST_SIGNAL = 64  # SIGRTMAX; what is beyond is a program's own status, as the 255 of one that returns -1
_FIRST_SIGNAL_STATUS = 128  # a shell's number for a program that a signal ended: 128 and the signal's


def broken_step(step: Mapping[str, Any]) -> str | None:
    """Why a step says nothing about the kernel (`was killed by SIGKILL`), None where its program ended by itself.

    `refused = true` makes no difference: a crash or a kill is no refusal.
    """
    status = step.get("exit_status")
    if not isinstance(status, int) or isinstance(status, bool):
        return None
    if status in BROKEN_STATUS:
        return BROKEN_STATUS[status]
    number = -status if status < 0 else status - _FIRST_SIGNAL_STATUS
    if 1 <= number <= _MOST_SIGNAL:
        return f"was killed by {SIGNALS.get(number, f'signal {number}')}"
    return None
