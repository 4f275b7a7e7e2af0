"""When a load has ended: what is quiet, what is full, and that a machine which is not let run is neither."""

from __future__ import annotations

from typing import Any

import pytest

from lab.guest import endings
from lab.guest.endings import FULL_SECONDS, QUIET_SECONDS, Watch
from lab.guest.worker import TICK_SECONDS

HEADER = "entries drop early_drop\n"
TURNS = int(QUIET_SECONDS / TICK_SECONDS)


def sample(entries: int | None, drops: int = 0, table_max: int = 100) -> dict[str, Any]:
    stat = f"{HEADER}{entries:08x} {drops:08x} 00000000\n" if entries is not None else None
    count = None if entries is None else f"{entries}\n"
    return {"count": count, "max": f"{table_max}\n", "stat": stat}


def test_quiet_is_what_had_its_turns_and_did_not_move() -> None:
    watch = Watch()
    watch.note(0.0, sample(0), "begun", 0)
    watch.note(QUIET_SECONDS / 2, sample(0), "begun", TURNS // 2)
    assert not watch.is_quiet(QUIET_SECONDS / 2)
    watch.note(QUIET_SECONDS, sample(0), "begun", TURNS)
    assert watch.is_quiet(QUIET_SECONDS)


def test_workers_that_were_not_let_run_are_not_quiet_however_late_it_is() -> None:
    watch = Watch()
    watch.note(0.0, sample(0), "begun", 3)
    watch.note(10 * QUIET_SECONDS, sample(0), "begun", 3)
    assert not watch.is_quiet(10 * QUIET_SECONDS)


@pytest.mark.parametrize(("progress", "drops"), [("one more", 0), ("begun", 1)])
def test_any_movement_begins_the_quiet_anew(progress: str, drops: int) -> None:
    watch = Watch()
    watch.note(0.0, sample(100), "begun", 0)
    watch.note(QUIET_SECONDS - 1, sample(100, drops), progress, TURNS)
    watch.note(QUIET_SECONDS + 1, sample(100, drops), progress, 2 * TURNS)
    assert not watch.is_quiet(QUIET_SECONDS + 1)
    watch.note(2 * QUIET_SECONDS, sample(100, drops), progress, 3 * TURNS)
    assert watch.is_quiet(2 * QUIET_SECONDS)


def test_a_way_that_paused_may_pause_again_for_as_long() -> None:
    watch = Watch()
    watch.note(0.0, sample(0), "begun", 0)
    watch.note(8.0, sample(0), "one more", TURNS)
    for seconds, quiet in ((8.0 + QUIET_SECONDS, False), (8.0 + 1.4 * 8, False), (8.0 + 1.6 * 8, True)):
        watch.note(seconds, sample(0), "one more", 10 * TURNS)
        assert watch.is_quiet(seconds) is quiet
    watch.restart(30.0)
    watch.note(30.0 + QUIET_SECONDS, sample(0), "one more", 10 * TURNS)
    assert watch.is_quiet(30.0 + QUIET_SECONDS)


def test_what_was_not_noted_yet_is_a_movement() -> None:
    watch = Watch()
    watch.note(0.0, sample(0), "begun", 0)
    watch.note(QUIET_SECONDS, sample(0), "begun", TURNS)
    assert watch.is_quiet(QUIET_SECONDS, progress="begun")
    assert not watch.is_quiet(QUIET_SECONDS, progress="one more")


def test_a_new_wave_begins_the_quiet_anew() -> None:
    watch = Watch()
    watch.note(0.0, sample(0), "begun", 0)
    watch.note(QUIET_SECONDS, sample(0), "begun", TURNS)
    watch.restart(QUIET_SECONDS)
    watch.note(QUIET_SECONDS + 1, sample(0), "begun", 1)
    assert not watch.is_quiet(QUIET_SECONDS + 1)


def test_full_is_what_drops_at_its_max_for_long_enough() -> None:
    watch = Watch()
    watch.note(0.0, sample(100), "begun", 0)
    watch.note(FULL_SECONDS, sample(100), "begun", 20)
    assert not watch.is_full(), "a table that drops nothing may be full by chance"
    at = FULL_SECONDS
    while at <= 2 * FULL_SECONDS + TICK_SECONDS:
        watch.note(at, sample(100, drops=1), "begun", 20)
        at += TICK_SECONDS
    assert watch.is_full()


@pytest.mark.parametrize("rules", [endings.HOLD, endings.CHURN, endings.FLOOD, endings.NEWCOMERS])
def test_every_load_ends_at_its_deadline(rules: endings.Rules) -> None:
    counts = {"attempted": 5, "held": 2, "failed": 0, "lost": 0, "accepted": 2}
    seen = endings.Seen(wanted=9, progress=counts, open=2, full=False, quiet=False, late=False)
    assert endings.first_that_holds(rules, seen) is None
    assert endings.first_that_holds(rules, seen._replace(late=True)) == "deadline"


def test_what_was_never_answered_is_given_more_time() -> None:
    """A way of seven seconds answers a SYN after the second that was sent again."""
    none = {"held": 0, "failed": 0, "lost": 0}
    assert endings.patience(none) > 7 > endings.patience(none | {"held": 1}) == QUIET_SECONDS
    watch = Watch()
    watch.note(0.0, sample(0), "begun", 0)
    watch.note(7.0, sample(0), "begun", 2 * TURNS)
    assert watch.is_quiet(7.0)
    assert not watch.is_quiet(7.0, endings.patience(none))
