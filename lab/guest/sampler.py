"""Conntrack's counters at 20 Hz: files opened before the load, because a process out of descriptors can open none."""

import errno
import os
from typing import Any, Dict, Optional

SAMPLED = {
    "count": "/proc/sys/net/netfilter/nf_conntrack_count",
    "max": "/proc/sys/net/netfilter/nf_conntrack_max",
    "stat": "/proc/net/stat/nf_conntrack",
}
_MAX_BYTES = 65536


class Sampler:
    """Reads the raw text of each file again and again; what cannot be read is None, never an empty text."""

    def __init__(self) -> None:
        self._fds: Dict[str, int] = {}

    def sample(self) -> Dict[str, Optional[str]]:
        """The raw text of each file now. A file that appears later (its module was loaded) is picked up then."""
        return {name: self._read(name, path) for name, path in SAMPLED.items()}

    def close(self) -> None:
        """Close the files."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def _read(self, name: str, path: str) -> Optional[str]:
        try:
            if name not in self._fds:
                self._fds[name] = os.open(path, os.O_RDONLY)
            return os.pread(self._fds[name], _MAX_BYTES, 0).decode("ascii", "replace")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            return None


def entries(sample: Dict[str, Any]) -> Optional[int]:
    """The table's entries, to know when the load may end; the finding is made on the host, from the raw text."""
    return _integer(sample["count"])


def table_max(sample: Dict[str, Any]) -> Optional[int]:
    """The table's max, for the same purpose."""
    return _integer(sample["max"])


def drops(sample: Dict[str, Any]) -> Optional[int]:
    """The sum of the `drop` column over the CPUs, found by its name: kernels differ in the columns before it."""
    text = sample["stat"]
    if not text:
        return None
    header, *rows = (line.split() for line in text.splitlines())
    if "drop" not in header:
        return None
    column = header.index("drop")
    return sum(int(row[column], 16) for row in rows)


def _integer(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.strip().isdigit() else None
