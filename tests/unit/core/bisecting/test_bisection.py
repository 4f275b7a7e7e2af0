"""A bisection by simulated kernels: clear findings, skipped kernels, a third finding, and findings that flake."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from random import Random

import pytest

from lab.core.bisecting.bisection import Answer, Limits, Look, Phase, Seen, Verdict, advise, halvings

Shows = Callable[[int], str | None]


@dataclass
class Kernels:
    """So many kernels; `shows` gives what one shows when it is looked at, None for an inconclusive look."""

    count: int
    shows: Shows
    limits: Limits = field(default_factory=Limits)
    looks: list[Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seen = [Seen() for _ in range(self.count)]

    def bisect(self, most_steps: int = 10_000) -> Answer | None:
        """The answer, or None after so many steps."""
        for _ in range(most_steps):
            step = advise(self.seen, self.limits)
            if isinstance(step, Answer):
                return step
            self.looks.append(step)
            assert any(self.seen[place].looks < total for place, total in step.totals.items())
            for place, total in step.totals.items():
                while self.seen[place].looks < total:
                    self.look(place)
        return None

    def look(self, place: int) -> None:
        shown, before = self.shows(place), self.seen[place]
        if shown is None:
            self.seen[place] = Seen(before.findings, before.inconclusive + 1, "inconclusive: no boot")
        else:
            self.seen[place] = Seen((*before.findings, shown), before.inconclusive)

    @property
    def touched(self) -> int:
        """How many kernels were looked at."""
        return sum(bool(seen.looks) for seen in self.seen)


def changing(at: int, skipped: Collection[int] = ()) -> Shows:
    return lambda place: None if place in skipped else "refused" if place >= at else "tracked"


@pytest.mark.parametrize("count", [2, 3, 7, 31, 64])
def test_every_place_is_found_in_few_boots(count: int) -> None:
    for at in range(1, count):
        kernels = Kernels(count, changing(at))
        answer = kernels.bisect()
        assert answer == Answer(Verdict.FOUND, "tracked", "refused", "refused", at - 1, (at,))
        assert answer.culprit == at
        assert kernels.touched <= 2 + halvings(count - 2)
        # both sides of the change were looked at as often as the ends
        assert {kernels.seen[place].looks for place in (0, at - 1, at, count - 1)} == {4}


def test_with_two_that_do_not_boot_it_takes_two_more_at_most() -> None:
    for first in range(1, 34):
        kernels = Kernels(35, changing(20, {first, (first * 7) % 33 + 1} - {19, 20}))
        answer = kernels.bisect()
        assert answer is not None
        assert answer.culprit == 20
        assert kernels.touched <= 2 + halvings(33) + 2


def test_the_ends_are_first_and_the_two_sides_last() -> None:
    kernels = Kernels(9, changing(4))
    kernels.bisect()
    phases = [look.phase for look in kernels.looks]
    assert phases == sorted(phases, key=[Phase.ENDS, Phase.HALVING, Phase.CONFIRMING].index)
    assert [look.totals for look in kernels.looks[:2]] == [{0: 1, 8: 1}, {0: 4, 8: 4}]
    assert [look.totals for look in kernels.looks[-3:]] == [{3: looks, 4: looks} for looks in (2, 3, 4)]
    # what is left is never too low
    left = [look.kernels_left for look in kernels.looks if look.phase is Phase.HALVING]
    assert left == [3, 2, 1]


def test_what_cannot_be_told_apart_is_named() -> None:
    answer = Kernels(9, changing(5, {4})).bisect()
    assert answer is not None
    assert (answer.verdict, answer.before, answer.suspects) == (Verdict.AMONG, 3, (4, 5))
    assert answer.culprit is None


def test_equal_ends_stop_it() -> None:
    kernels = Kernels(9, changing(99))
    assert kernels.bisect() == Answer(Verdict.EQUAL, "tracked", "tracked")
    assert kernels.touched == 2


@pytest.mark.parametrize("end", [0, 8])
def test_an_end_that_tells_nothing_stops_it_after_one_look(end: int) -> None:
    kernels = Kernels(9, changing(4, {end}))
    answer = kernels.bisect()
    assert answer is not None
    assert (answer.verdict, answer.suspects) == (Verdict.NO_END, (end,))
    assert len(kernels.looks) == 1


def test_a_third_finding_is_where_the_good_one_ends() -> None:
    answer = Kernels(16, lambda place: ("tracked", "table-full", "refused")[(place >= 5) + (place >= 9)]).bisect()
    assert answer is not None
    assert (answer.culprit, answer.good, answer.bad, answer.found) == (5, "tracked", "refused", "table-full")


def test_several_kernels_at_once_take_fewer_steps() -> None:
    steps = {}
    for at_once in (1, 3):
        kernels = Kernels(64, changing(40), Limits(at_once=at_once))
        answer = kernels.bisect()
        assert answer is not None
        assert answer.culprit == 40
        steps[at_once] = sum(look.phase is Phase.HALVING for look in kernels.looks)
    assert steps == {1: 6, 3: 3}


def test_what_was_seen_is_all_that_counts() -> None:
    """Broken off after any step and begun anew with what was seen, it looks at the same kernels and finds the same."""
    whole = Kernels(20, changing(13))
    answer = whole.bisect()
    for steps in range(len(whole.looks)):
        first = Kernels(20, changing(13))
        assert first.bisect(steps) is None
        second = Kernels(20, changing(13))
        second.seen = first.seen
        assert second.bisect() == answer
        assert [*first.looks, *second.looks] == whole.looks


@pytest.mark.parametrize(("good", "bad"), [(0.3, 0.7), (0.0, 0.7), (0.3, 1.0)])
def test_a_flake_of_30_percent_is_found_out(good: float, bad: float) -> None:
    random = Random(5)
    right = 0
    for _ in range(100):
        at = random.randrange(1, 16)
        chance = {False: good, True: bad}
        kernels = Kernels(16, lambda place: "full" if random.random() < chance[place >= at] else "tracked")  # noqa: B023
        answer = kernels.bisect()
        right += answer is not None and answer.culprit == at
    assert right >= 95


def test_a_flake_shows_how_sure_the_answer_is() -> None:
    random = Random(1)
    kernels = Kernels(12, lambda place: "full" if random.random() < (0.9 if place >= 7 else 0.1) else "tracked")
    answer = kernels.bisect()
    assert answer is not None
    assert (answer.culprit, answer.good, answer.bad) == (7, "tracked", "full")
    assert answer.confidence is not None
    assert 0.99 <= answer.confidence < 1


def test_too_many_looks_end_with_what_is_likely() -> None:
    random = Random(3)
    limits = Limits(most_looks=30)
    kernels = Kernels(12, lambda place: "full" if random.random() < (0.6 if place >= 7 else 0.4) else "tracked", limits)
    answer = kernels.bisect()
    assert answer is not None
    assert answer.verdict in (Verdict.UNSURE, Verdict.EQUAL)
    assert sum(seen.looks for seen in kernels.seen) <= 32


def test_a_kernel_that_does_not_boot_is_never_weighed() -> None:
    random = Random(2)

    def shows(place: int) -> str | None:
        return None if place == 5 else "full" if random.random() < (0.9 if place >= 6 else 0.1) else "tracked"

    kernels = Kernels(12, shows)
    answer = kernels.bisect()
    assert answer is not None
    assert (answer.verdict, answer.suspects) == (Verdict.AMONG, (5, 6))
    assert kernels.seen[5].looks <= 4
