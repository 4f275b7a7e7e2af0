"""Conntrack's counters at 20 Hz, at first more often, of files opened before the load: a process out of descriptors can
open none.

A kernel without NF_CONNTRACK_PROCFS has no file of the counters; there they are asked for by netlink.
"""

import os
from typing import Any, Dict, Optional

from lab.guest.ctnetlink import Counters
from lab.guest.worker import TICK_SECONDS

SAMPLED = {
    "count": "/proc/sys/net/netfilter/nf_conntrack_count",
    "max": "/proc/sys/net/netfilter/nf_conntrack_max",
    "stat": "/proc/net/stat/nf_conntrack",
}
_MAX_BYTES = 65536
_FIRST_GAP_SECONDS = 0.01


class Sampler:
    """Reads the raw text of each file again and again; what cannot be read is None, never an empty text."""

    def __init__(self) -> None:
        self._fds: Dict[str, int] = {}
        self._counters: Optional[Counters] = None
        self._may_ask = True
        self.sample()  # loads what the counters need, and opens everything, before the load's clock starts

    def sample(self) -> Dict[str, Optional[str]]:
        """The raw text of each file now. A file that appears later (its module was loaded) is picked up then."""
        texts = {name: self._read(name, path) for name, path in SAMPLED.items()}
        if texts["stat"] is None and texts["count"] is not None:
            texts["stat"] = self._ask()
        return texts

    @property
    def is_open(self) -> bool:
        """Whether all files are there and open, so that the next sample opens none."""
        return len(self._fds) == len(SAMPLED)

    def close(self) -> None:
        """Close the files and the socket."""
        if self._counters is not None:
            self._counters.close()
            self._counters = None
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def _ask(self) -> Optional[str]:
        """The counters by netlink, where conntrack is there (a question would load it); tried until it fails once."""
        if not self._may_ask:
            return None
        try:
            if self._counters is None:
                self._counters = Counters()
            return self._counters.text()
        except (OSError, ValueError):
            self._may_ask = False
            return None

    def _read(self, name: str, path: str) -> Optional[str]:
        try:
            if name not in self._fds:
                self._fds[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return _read_whole(self._fds[name]).decode("ascii", "replace")
        except OSError:
            # not there (yet), or of a module that was removed: then this descriptor stays dead when it comes back
            if name in self._fds:
                os.close(self._fds.pop(name))
            return None


def gap_seconds(since_begun: float) -> float:
    """How long to wait for the next sample, as many seconds after a load has begun: half as long again, at most a tick.
    Small tables are full within milliseconds, and a first drop is then known soon after.
    """
    return min(TICK_SECONDS, max(_FIRST_GAP_SECONDS, since_begun / 2))


def _read_whole(fd: int) -> bytes:
    """The file's text now. One read gives at most a page of it, which holds the rows of about 26 CPUs."""
    data = b""
    while len(data) < _MAX_BYTES:
        chunk = os.pread(fd, _MAX_BYTES - len(data), len(data))
        if not chunk:
            break
        data += chunk
    return data


def is_full(sample: Dict[str, Any]) -> bool:
    """Whether the table, or that of an end, is at its max, to know when the load may end (a max of 0 means no bound).
    The finding is made on the host, from the raw text.
    """
    table_max = _integer(sample["max"])
    entries = [_integer(table["count"]) for table in (sample, *sample.get("ends", {}).values())]
    return bool(table_max) and any(count is not None and count >= (table_max or 0) for count in entries)


def drops(sample: Dict[str, Any]) -> Optional[int]:
    """The sum of the `drop` column over the CPUs, and over the tables of the ends."""
    found = [_drops(table["stat"]) for table in (sample, *sample.get("ends", {}).values())]
    known = [count for count in found if count is not None]
    return sum(known) if known else None


def _drops(text: Optional[str]) -> Optional[int]:
    """The column is found by its name: kernels differ in the columns before it."""
    if not text:
        return None
    header, *rows = (line.split() for line in text.splitlines())
    if "drop" not in header:
        return None
    column = header.index("drop")
    return sum(int(row[column], 16) for row in rows)


def _integer(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.strip().isdigit() else None
