"""A share of a run for each of several machines: the same plan everywhere, and each takes its part of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from lab.core.plan import CellPlan
from lab.core.shards import Shard

_BOOT_SECONDS = 15.0  # what a machine of another kind costs before its first cell, emulated
_CELL_SECONDS = 5.0  # of a cell of which nothing is known


def plan_digest(plans: Sequence[CellPlan]) -> str:
    """The SHA-256 of a whole plan: the shards of one run have the same."""
    return hashlib.sha256(json.dumps([plan.to_json() for plan in plans], sort_keys=True).encode()).hexdigest()


def share(plans: Sequence[CellPlan], shard: Shard, seconds: Mapping[str, float]) -> tuple[CellPlan, ...]:
    """The cells of one shard, in the plan's order; see `shares`."""
    return shares(plans, shard.count, seconds)[shard.index - 1]


def shares(plans: Sequence[CellPlan], count: int, seconds: Mapping[str, float]) -> list[tuple[CellPlan, ...]]:
    """The cells of each of `count` shards, in the plan's order.

    Cells of one machine kind stand together, and the row of all is cut where the shards take equally long, so that
    few shards boot the same kind. `seconds` is what cells took before, by name; it has to be the same on every machine.
    """
    row = _by_machine(plans)
    known = sorted(seconds[plan.cell] for plan in row if plan.cell in seconds)
    usual = known[len(known) // 2] if known else _CELL_SECONDS
    costs = [
        seconds.get(plan.cell, usual)
        + _BOOT_SECONDS * (place == 0 or machine_kind(plan) != machine_kind(row[place - 1]))
        for place, plan in enumerate(row)
    ]
    whole, before, shard_of = sum(costs), 0.0, {}
    for plan, cost in zip(row, costs, strict=True):
        # by the middle of its time: every cell is in exactly one shard, however the sums are rounded
        shard_of[plan.cell] = min(int((before + cost / 2) / whole * count), count - 1)
        before += cost
    return [tuple(plan for plan in plans if shard_of[plan.cell] == index) for index in range(count)]


def _by_machine(plans: Sequence[CellPlan]) -> list[CellPlan]:
    """The cells, those of one machine kind together, each kind where its first cell stands."""
    kinds: dict[object, list[CellPlan]] = {}
    for plan in plans:
        kinds.setdefault(machine_kind(plan), []).append(plan)
    return [plan for kind in kinds.values() for plan in kind]


def machine_kind(plan: CellPlan) -> object:
    """What the cells of a plan have in common that are restored from one saved state."""
    machine = plan.machine
    return plan.target, machine.boot_args, machine.memory_mb, machine.vcpus, machine.packages
