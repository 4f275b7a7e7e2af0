"""How large the scenario of a record makes the table: so small that its load fills it where the record shows a full
one, as large as on the host where that has room, and with a small hash where the host's chains were too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lab.core.inspecting.inspection import EXIT_DROPS, Inspection, Look
from lab.core.inspecting.table import TableState, table_drops
from lab.core.scenario.table import MAX_NUMBER

CONNECTIONS: Final = 2000
_FILLED_MAX: Final = CONNECTIONS // 2
_LEAST_BUCKETS: Final = 512  # a page of them, to which the kernel rounds up (nf_ct_alloc_hashtable())
_MOST_BUCKETS: Final = 2**20  # 8 MiB of a guest's memory
# Each entry is in two chains; one of more than 50 to 80 refuses the next (MIN_CHAINLEN, nf_conntrack_core.c, 5.15).
_OVERFLOWING: Final = 48 * _LEAST_BUCKETS


@dataclass(frozen=True)
class Scale:
    """The table's settings and the connections that a load opens; None for what the guest has anyway."""

    table_max: int | None
    buckets: int | None
    connections: int
    finding: str  # what a load that is held comes to where it is tracked
    why: str


def scale_of(inspection: Inspection, look: Look, fill: bool = False) -> Scale:
    """The size of the table for the state of `look`; with `fill` it is one that the load fills, whatever the record
    shows."""
    table = look.table
    overflow = None if fill else _overflow(table)
    if overflow:
        return Scale(_own_max(table), _LEAST_BUCKETS, _OVERFLOWING, "other-loss", overflow)
    full = "asked for" if fill else _fullness(inspection, look)
    if full:
        return Scale(_FILLED_MAX, _scaled_buckets(table), CONNECTIONS, "table-full", f"scaled with the load: {full}")
    return Scale(_own_max(table), _own_buckets(table), CONNECTIONS, "tracked", f"as on the host: {look.verdict}")


def _fullness(inspection: Inspection, look: Look) -> str | None:
    """What shows that the host's table fills; None where it has room."""
    table, log = look.table, inspection.messages
    drops, evicted = table_drops(table.counters), table.counters.get("early_drop", 0)
    reasons = (
        (drops, f"{drops:,} packets were dropped for a full table"),
        (evicted, f"{evicted:,} entries were evicted"),
        (log is not None and log.count, "the kernel logged a full table"),
        (look.status == EXIT_DROPS, look.verdict),
        (table.table_max is None, "the host's max was not recorded"),
        (table.table_max and table.table_max <= CONNECTIONS, f"the load opens {CONNECTIONS:,}, which fill the host's"),
    )
    return next((why for holds, why in reasons if holds), None)


def _overflow(table: TableState) -> str | None:
    """What shows that the host's hash is too small, and that this is what it loses connections for."""
    refused = table.counters.get("chainlength", 0)
    if not refused or table_drops(table.counters):
        return None
    return f"one with few buckets: {refused:,} connections were refused for a chain that was too long"


def _own_max(table: TableState) -> int | None:
    """The host's; None where it has no limit (0, up to 6.18), which newer kernels refuse."""
    return min(table.table_max, MAX_NUMBER) if table.table_max else None


def _own_buckets(table: TableState) -> int | None:
    return table.buckets if table.buckets and table.buckets <= _MOST_BUCKETS else None


def _scaled_buckets(table: TableState) -> int | None:
    """As many entries for a bucket as on the host: how many there are decides whether one of them can be evicted."""
    if not table.buckets or not table.table_max:
        return None
    return min(max(table.buckets * _FILLED_MAX // table.table_max, _LEAST_BUCKETS), _MOST_BUCKETS)
