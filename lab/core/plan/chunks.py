"""What a machine of a fleet gets at a time: cells of one machine kind, many at first and few towards the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lab.core.plan.plan import CellPlan
from lab.core.plan.shard import machine_kind

MOST_CELLS = 32


def next_chunk(waiting: Sequence[CellPlan], running: Sequence[CellPlan], slots: int) -> tuple[CellPlan, ...]:
    """The cells that the next free slot of `slots` gets, in their order; `running` are the first cells of the chunks
    that are under way.

    It is guided self-scheduling (Polychronopoulos and Kuck, 1987), with half of an even share: the last chunks are of
    single cells, so that all slots end at about the same time. The kind that the fewest slots have goes first, so that
    few machines boot the same kind.
    """
    under_way = Counter(map(machine_kind, running))
    kind = min(dict.fromkeys(map(machine_kind, waiting)), key=lambda kind: under_way[kind])
    count = min(MOST_CELLS, max(1, len(waiting) // (2 * slots)))
    return tuple(plan for plan in waiting if machine_kind(plan) == kind)[:count]
