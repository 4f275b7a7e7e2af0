"""Shards of a plan: every cell in exactly one, machine kinds together, equally long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lab.core.plan import CellPlan, cells, plan_cell, select_variants
from lab.core.plan.shard import plan_digest, share, shares
from lab.core.shards import Shard
from lab.host.scenario_files import load_scenarios, scenario_directories

TARGETS = ("debian12", "debian13", "forky")


def plans_of(*scenarios: str, repeat: int = 1) -> tuple[CellPlan, ...]:
    chosen = select_variants(load_scenarios(scenarios, scenario_directories()), {})
    return tuple(plan_cell(cell) for cell in cells(chosen, TARGETS, repeat))


ALL = plans_of("*")


def names(plans: tuple[CellPlan, ...]) -> list[str]:
    return [plan.cell for plan in plans]


@given(
    count=st.integers(1, 300),
    took=st.lists(st.floats(0, 1000), min_size=len(ALL), max_size=len(ALL)),
    known=st.sets(st.integers(0, len(ALL) - 1)),
)
def test_every_cell_is_in_exactly_one_shard(count: int, took: list[float], known: set[int]) -> None:
    seconds = {ALL[place].cell: took[place] for place in known}
    parts = shares(ALL, count, seconds)
    assert len(parts) == count
    assert sorted(name for part in parts for name in names(part)) == sorted(names(ALL))


def test_one_shard_is_the_whole_plan_in_its_order() -> None:
    assert share(ALL, Shard(1, 1), {}) == ALL


def test_few_shards_boot_the_same_machine() -> None:
    shards = shares(ALL, 4, {})
    kinds = {(plan.target, plan.machine.boot_args, plan.machine.memory_mb, plan.machine.vcpus) for plan in ALL}
    boots = sum(
        len({(plan.target, plan.machine.boot_args, plan.machine.memory_mb, plan.machine.vcpus) for plan in shard})
        for shard in shards
    )
    assert boots <= len(kinds) + 3


def test_long_cells_are_spread() -> None:
    plans = plans_of("pristine", "nat-present", repeat=8)
    seconds = {plan.cell: 100.0 if plan.scenario == "pristine" else 1.0 for plan in plans}
    took = [sum(seconds[name] for name in names(part)) for part in shares(plans, 3, seconds)]
    assert max(took) <= 1.3 * min(took)


def test_the_shards_of_one_run_have_one_digest() -> None:
    assert plan_digest(ALL) == plan_digest(plans_of("*"))
    assert plan_digest(ALL) != plan_digest(ALL[:-1])
