"""A scan and a bisection, from kernels to what was found."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from lab.core.bisecting.bisection import Answer, Limits, Verdict, advise
from lab.core.bisecting.points import Point
from lab.core.bisecting.report import Bisection, Work, next_look
from lab.core.bisecting.scan import Scan
from lab.core.errors import LabError, ScenarioError
from lab.host.bisecting.looks import Looks, Say


def scan(looks: Looks, repeat: int) -> Scan:
    """The same cells on every kernel, those of earlier runs among them."""
    looks.look(dict.fromkeys(range(len(looks.points)), repeat))
    places = range(len(looks.points))
    return Scan(looks.points, {variant: [looks.seen(place, variant) for place in places] for variant in looks.variants})


def bisect(
    looks: Looks, limits: Limits, say: Say, about: Callable[[Point], tuple[str, ...]] | None = None
) -> Bisection:
    """Look at kernels until it is known from which one on the finding is another. `about` has more to say of a culprit.

    Raises ScenarioError where several variants are meant, LabError where cells do not come to an end.
    """
    variant = single_variant(looks)
    started = time.monotonic()
    places = range(len(looks.points))
    for _ in range(limits.most_looks + 2 * len(looks.points)):
        seen = [looks.seen(place, variant) for place in places]
        step = advise(seen, limits)
        if isinstance(step, Answer):
            used = sum(len(looks.of(place)) for place in places)
            work = Work(looks.boots, looks.cells_run, used - looks.cells_run, time.monotonic() - started)
            reasons, runs = _reasons(looks, step, variant), {place: _runs(looks, place) for place in places}
            culprit = step.culprit
            notes = about(looks.points[culprit]) if about is not None and culprit is not None else ()
            notes = (*notes, *_comparison(looks, step))
            return Bisection(variant, looks.points, seen, step, work, reasons, runs, notes)
        say(next_look(step, looks.points))
        looks.look(step.totals)
    raise LabError(f"{variant}: no end after {limits.most_looks} looks", hint="the same command goes on from here")


def single_variant(looks: Looks) -> str:
    """The one variant that is bisected. Raises ScenarioError where there are several, for only one can be followed."""
    if len(looks.variants) > 1:
        names = ", ".join(looks.variants)
        raise ScenarioError(
            f"a bisection follows one finding, and these are {len(looks.variants)} variants: {names[:300]}",
            hint="choose one with --set AXIS=VALUE; lab scan runs them all",
        )
    return looks.variants[0]


def _reasons(looks: Looks, answer: Answer, variant: str) -> dict[int, str]:
    """Why the findings on both sides of the change are what they are."""
    if answer.before is None:
        return {}
    sides = ((answer.before, answer.good), (answer.suspects[-1], answer.found))
    cells = {place: looks.of(place) for place, _ in sides}
    showing = {
        place: [cell for cell in cells[place] if (cell.result.variant, cell.result.finding) == (variant, shown)]
        for place, shown in sides
    }
    return {place: " ".join(found[-1].result.reason.split()) for place, found in showing.items() if found}


def _runs(looks: Looks, place: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(cell.run) for cell in looks.of(place)))


def _comparison(looks: Looks, answer: Answer) -> tuple[str, ...]:
    """The command that shows both sides of the change beside each other."""
    if answer.verdict is not Verdict.FOUND or answer.before is None or answer.culprit is None:
        return ()
    runs = [Path(found[-1]) for place in (answer.before, answer.culprit) if (found := _runs(looks, place))]
    targets = [f"{looks.target.name}+{looks.points[place].name}" for place in (answer.before, answer.culprit)]
    if len(runs) < 2:
        return ()
    return (f"  lab compare {runs[0]} {runs[1]} --match {targets[0]}={targets[1]}",)
