"""What goes to a slot of a fleet: every cell once, one machine kind at a time, the last ones by themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lab.core.plan import CellPlan
from lab.core.plan.chunks import MOST_CELLS, next_chunk
from lab.core.plan.shard import machine_kind
from tests.unit.core.plan import test_shard


def plans_of(targets: list[str]) -> list[CellPlan]:
    """A cell for each of these targets, in their order."""
    waiting = {target: [plan for plan in PLANS if plan.target == target] for target in set(targets)}
    return [waiting[target].pop(0) for target in targets]


PLANS = test_shard.plans_of("pristine", repeat=80)


def chunks(plans: list[CellPlan], slots: int) -> list[tuple[CellPlan, ...]]:
    """All chunks, where one ends whenever all slots are taken."""
    waiting, running, made = plans, list[CellPlan](), list[tuple[CellPlan, ...]]()
    while waiting:
        chunk = next_chunk(waiting, running, slots)
        waiting = [plan for plan in waiting if plan not in chunk]
        running = [*running, chunk[0]][-slots:]
        made.append(chunk)
    return made


@given(st.lists(st.sampled_from(("debian12", "debian13", "forky")), min_size=1, max_size=80), st.integers(1, 9))
def test_every_cell_goes_out_once_with_others_of_its_machine_kind(targets: list[str], slots: int) -> None:
    plans = plans_of(targets)
    made = chunks(plans, slots)
    assert sorted(plan.cell for chunk in made for plan in chunk) == sorted(plan.cell for plan in plans)
    assert all(len({machine_kind(plan) for plan in chunk}) == 1 for chunk in made)
    assert all(len(chunk) <= MOST_CELLS for chunk in made)


def test_the_first_chunks_are_large_and_the_last_are_single_cells() -> None:
    sizes = [len(chunk) for chunk in chunks(plans_of(["debian12"] * 60), 3)]
    assert sizes[0] == 10
    assert sizes[-5:] == [1] * 5
    assert sizes == sorted(sizes, reverse=True)


def test_slots_take_the_kinds_that_the_fewest_others_have() -> None:
    plans = plans_of(["debian12"] * 8 + ["debian13"] * 8)
    first = next_chunk(plans, [], 2)
    second = next_chunk(plans[len(first) :], [first[0]], 2)
    assert (first[0].target, second[0].target) == ("debian12", "debian13")
