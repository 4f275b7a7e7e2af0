"""What the kernel's log says of a full table: records of /dev/kmsg, or lines of dmesg, a journal or a log file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lab.core.kernel import kmsg

_NETNS = re.compile(r"table full in netns (\d{1,20})")
_SINCE_BOOT = re.compile(r"\[ *(\d{1,10}\.\d{1,9})\]")


@dataclass(frozen=True)
class LogMessages:
    """The messages of a full table; how many there are says nothing of how many packets were dropped."""

    count: int = 0
    suppressed: int = 0  # messages that the rate limit left out, whatever they were of
    netns_inodes: tuple[int, ...] = ()
    unnamed: int = 0  # those that name no namespace: the first one's, or, before 6.17, any one's
    last: str = ""  # the last of them, as it was
    last_seconds_ago: float | None = None


def log_messages(text: str | None, uptime: str | None = None) -> LogMessages | None:
    """The messages in a kernel log; None where there is no log. `uptime` is /proc/uptime of the same moment."""
    if text is None:
        return None
    lines = _lines(text)
    hits = [(seconds, line) for seconds, line in lines if kmsg.is_table_full(line)]
    named = [int(found[1]) for _, line in hits if (found := _NETNS.search(line))]
    return LogMessages(
        count=len(hits),
        suppressed=sum(kmsg.suppressed_count(line) or 0 for _, line in lines),
        netns_inodes=tuple(sorted(set(named))),
        unnamed=len(hits) - len(named),
        last=hits[-1][1].strip() if hits else "",
        last_seconds_ago=_ago(hits[-1][0] if hits else None, uptime),
    )


def _lines(text: str) -> Sequence[tuple[float | None, str]]:
    """Each line with when it was logged, in seconds since boot where it says so."""
    try:
        return [(one.time_microseconds / 1e6, one.text) for one in kmsg.records(text) if one.from_kernel]
    except ValueError:
        pass
    found = []
    for line in text.splitlines():
        stamp = _SINCE_BOOT.search(line)
        found.append((float(stamp[1]) if stamp else None, line))
    return found


def _ago(seconds: float | None, uptime: str | None) -> float | None:
    words = (uptime or "").split()
    try:
        return None if seconds is None or not words else max(0.0, float(words[0]) - seconds)
    except ValueError:
        return None
