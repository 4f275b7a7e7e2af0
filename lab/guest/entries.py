"""What the table holds of the load itself: its rows by their source, read from the table while the load is there.

The count of the namespace says how full the table is, never whose entries these are. Rows are read only where the count
is not zero, and seldom enough to cost the load next to nothing; what was cut is said.
"""

import os
import re
import time
from collections import Counter
from contextlib import closing
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from lab.guest.ctnetlink import Counters
from lab.guest.files import error_name

ENTRIES_PATH = "/proc/net/nf_conntrack"
MAX_BYTES = 64 * 1024 * 1024
MAX_SECONDS = 5.0
MAX_LOOKS = 1000
MAX_GROUPS = 200  # of protocol, state and port in what is recorded
_CHUNK_BYTES = 1024 * 1024
_MAX_READS = 6
_SHARE_OF_TIME = 30  # a look is due once this many times its own duration has passed since the last
_MIN_GAP_SECONDS = 0.2

# family, protocol, state, source, destination, both ports
Row = Tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes]


class Table:
    """Looks at the table for the rows of one load, and keeps what was seen."""

    def __init__(self, source_patterns: Dict[str, str]) -> None:
        """By family: a regular expression that the load's own source addresses match, and no other does."""
        self.looks: List[Dict[str, Any]] = []
        self._row = re.compile(
            r"^(ipv[46]) +\d+ (\w+) +\d+ (?:\d+ )?(?:([A-Z][A-Z0-9_]*) )?src=({}) dst=(\S+) "
            r"sport=(\d+) dport=(\d+)".format("|".join(source_patterns.values())).encode("ascii"),
            re.MULTILINE,
        )
        self._due_at = 0.0

    def look(self, seconds: float, count: Optional[str], expected: int = 0) -> None:
        """Look now. `count` is the text of nf_conntrack_count: where that is 0 or absent there are no rows.

        `expected` is how many of the load's connections may have an entry.
        """
        if len(self.looks) >= MAX_LOOKS:
            return
        began = time.monotonic()
        seen = _nothing() if count is None or count.strip() == "0" else self._read(began, expected)
        took = time.monotonic() - began
        self._due_at = began + took + max(_MIN_GAP_SECONDS, took * _SHARE_OF_TIME)
        self.looks.append(dict(seen, seconds=round(seconds, 4), took_seconds=round(took, 4), count=count))

    def look_when_due(self, seconds: float, count: Optional[str]) -> None:
        """Look if enough time has passed since the last look, and there is anything to see."""
        if count is not None and count.strip() != "0" and time.monotonic() >= self._due_at:
            self.look(seconds, count)

    def _read(self, began: float, expected: int) -> Dict[str, Any]:
        """Read the table, again while rows of the load may have been passed over: the kernel finds its place by
        counting rows, so that each that goes meanwhile hides another one (ct_seq_start(), nf_conntrack_standalone.c).
        """
        groups: "Counter[Tuple[str, str, int]]" = Counter()
        tuples: Set[Row] = set()
        families: "Counter[str]" = Counter()
        cut = False
        for _ in range(_MAX_READS):
            before = len(tuples), families
            families = Counter()
            try:
                cut_now = self._read_once(began, families, tuples)
            except (OSError, ValueError) as error:
                return dict(_nothing(), error=error_name(error) if isinstance(error, OSError) else str(error))
            cut = cut_now and (cut or before == (0, Counter()))  # one reading to the end is enough
            if cut_now or not families or len(tuples) >= expected or (len(tuples), families) == before:
                break
        # as a set: one that moves while the table is read can be seen twice
        groups.update((row[1].decode(), row[2].decode(), int(row[6])) for row in tuples)
        shown = [[*group, number] for group, number in sorted(groups.items())]
        return dict(
            _nothing(),
            rows={"ipv4": families["ipv4"], "ipv6": families["ipv6"]},
            load=len(tuples),
            families=dict(Counter(row[0].decode() for row in tuples)),
            groups=shown[:MAX_GROUPS],
            cut=cut,
        )

    def _read_once(self, began: float, families: "Counter[str]", tuples: Set[Row]) -> bool:
        """Returns whether it was left before its end. A kernel without NF_CONNTRACK_PROCFS is asked by netlink."""
        try:
            fd = os.open(ENTRIES_PATH, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._ask(began, families, tuples)
        try:
            return _each_part(fd, began, lambda part: self._take(part, families, tuples))
        finally:
            os.close(fd)

    def _ask(self, began: float, families: "Counter[str]", tuples: Set[Row]) -> bool:
        with closing(Counters()) as counters:
            for part in counters.entries():
                self._take(part.encode("ascii"), families, tuples)
                if time.monotonic() - began > MAX_SECONDS:
                    return True
        return False

    def _take(self, part: bytes, families: "Counter[str]", tuples: Set[Row]) -> None:
        lines = b"\n" + part
        for family in ("ipv4", "ipv6"):
            families[family] += lines.count(b"\n" + family.encode("ascii"))
        tuples.update(self._row.findall(part))


def _nothing() -> Dict[str, Any]:
    return {"rows": {"ipv4": 0, "ipv6": 0}, "load": 0, "families": {}, "groups": [], "cut": False, "error": None}


def _each_part(fd: int, began: float, take: Callable[[bytes], None]) -> bool:
    """Pass the file on in parts of whole lines; returns whether it was left before its end."""
    pending: List[bytes] = []
    size = read = 0
    while True:
        chunk = os.read(fd, _CHUNK_BYTES)
        pending.append(chunk)
        size += len(chunk)
        read += len(chunk)
        if not chunk or size >= _CHUNK_BYTES:
            whole, newline, rest = b"".join(pending).rpartition(b"\n")
            take(whole + newline)
            pending, size = [rest], len(rest)
        if not chunk:
            return False
        if read > MAX_BYTES or time.monotonic() - began > MAX_SECONDS:
            return True
