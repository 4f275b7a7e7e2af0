"""What a bisection found, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.core.bisecting.bisection import Answer, Limits, Look, Phase, Seen, Verdict
from lab.core.bisecting.points import Point
from lab.core.text import aligned, plural

BISECTION_VERSION = 1
# 0 found, 2 nothing to bisect, 3 not decided: as everywhere (lab/host/cli/ending.py)
EXIT_STATUS = {
    Verdict.FOUND: 0,
    Verdict.AMONG: 3,
    Verdict.EQUAL: 2,
    Verdict.NO_END: 3,
    Verdict.UNSURE: 3,
}
_MOST_REASON = 160


@dataclass(frozen=True)
class Work:
    """What a bisection took this time, and what it took over from earlier runs."""

    boots: int
    cells: int
    reused_cells: int
    seconds: float


@dataclass(frozen=True)
class Bisection:
    """A bisection that has ended. `reasons` are the reasons of the findings on both sides of the change, by kernel;
    `notes` are further lines about the culprit, `runs` the folders of the runs that looked at a kernel.
    """

    variant: str
    points: Sequence[Point]
    seen: Sequence[Seen]
    answer: Answer
    work: Work
    reasons: dict[int, str] = field(default_factory=dict, hash=False)
    runs: dict[int, tuple[str, ...]] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """That of the command."""
        return EXIT_STATUS[self.answer.verdict]

    def to_json(self) -> dict[str, Any]:
        """For programs; names of kernels throughout."""
        answer = self.answer
        return {
            "schema_version": BISECTION_VERSION,
            "variant": self.variant,
            "verdict": answer.verdict.value,
            "culprit": self._name(answer.culprit),
            "before": self._name(answer.before),
            "suspects": [self.points[place].name for place in answer.suspects],
            "good_finding": answer.good,
            "bad_finding": answer.bad,
            "found": answer.found,
            "confidence": answer.confidence,
            "work": vars(self.work),
            "kernels": [
                {
                    "name": point.name,
                    "also": list(point.also),
                    "source": point.source,
                    "version": point.version or None,
                    "findings": list(seen.findings),
                    "inconclusive": seen.inconclusive,
                    "skipped": seen.skipped,
                    "runs": list(self.runs.get(place, ())),
                }
                for place, (point, seen) in enumerate(zip(self.points, self.seen, strict=True))
            ],
        }

    def _name(self, place: int | None) -> str | None:
        return None if place is None else self.points[place].name


def bisection_text(bisection: Bisection) -> str:
    """The kernels that were looked at, in order, then the answer."""
    rows = [
        (point.name, *_shown(seen), _remark(bisection.answer, place))
        for place, (point, seen) in enumerate(zip(bisection.points, bisection.seen, strict=True))
        if seen.looks
    ]
    lines = aligned([("kernel", "looks", "finding", ""), *rows])
    lines += ["", *_conclusion(bisection), *bisection.notes, _work(bisection)]
    return "\n".join(lines)


def next_look(step: Look, points: Sequence[Point]) -> str:
    """A line about what is done next."""
    names = ", ".join(points[place].name for place in step.totals)
    parts = [f"{step.phase.value}: {names}"]
    if step.phase in (Phase.ENDS, Phase.HALVING) and step.kernels_left:
        parts.append(f"at most {plural(step.kernels_left, 'kernel')} left to boot")
    if step.confidence is not None:
        parts.append(f"the likeliest place has {step.confidence:.0%}")
    return "; ".join(parts)


def equal_hint(limits: Limits) -> str:
    """What to do where the ends show the same."""
    return (
        "lab scan shows the findings of every kernel; where the finding does not come each time, look more often: "
        f"--repeat {4 * limits.looks}"
    )


def _conclusion(bisection: Bisection) -> list[str]:
    answer, names = bisection.answer, [point.name for point in bisection.points]
    match answer.verdict:
        case Verdict.EQUAL:
            sure = f" ({answer.confidence:.0%} sure)" if answer.confidence is not None else ""
            return [f"{bisection.variant}: {answer.good} at both ends{sure}: nothing changes between them"]
        case Verdict.NO_END:
            (end,) = answer.suspects
            return [f"{bisection.variant}: {names[end]} is an end and has no finding: {bisection.seen[end].skipped}"]
        case Verdict.UNSURE:
            some = ", ".join(names[place] for place in answer.suspects)
            return [f"{bisection.variant}: not decided; the change is in one of {some} ({answer.confidence:.0%} sure)"]
    assert answer.before is not None
    first = answer.suspects[-1]
    sure = f" ({answer.confidence:.1%} sure)" if answer.confidence is not None else ""
    lines = [
        f"{bisection.variant}: {answer.good} up to {names[answer.before]}, {answer.found} from {names[first]} on{sure}",
    ]
    if answer.verdict is Verdict.AMONG:
        some = ", ".join(names[place] for place in answer.suspects)
        lines.append(f"the change may be in any of {some}: those before the last have no finding")
    if answer.found != answer.bad:
        lines.append(
            f"{answer.found} is a third finding: the bad end shows {answer.bad}; --good {names[first]} finds where "
            "that begins"
        )
    lines += [f"  {names[place]}: {reason}" for place, reason in sorted(bisection.reasons.items())]
    return lines


def _shown(seen: Seen) -> tuple[str, str]:
    """How often a kernel was looked at, and what it showed."""
    if not seen.conclusive:
        return str(seen.inconclusive), f"skipped: {_short(seen.skipped or '')}"
    counts = Counter(seen.findings).most_common()
    if len(counts) == 1:
        return str(seen.looks), counts[0][0]
    return str(seen.looks), ", ".join(f"{finding} {count}x" for finding, count in counts)


def _remark(answer: Answer, place: int) -> str:
    if place == answer.culprit:
        return "<- the first one"
    return "<- may be the first one" if place in answer.suspects and answer.verdict is not Verdict.NO_END else ""


def _short(text: str) -> str:
    first = " ".join(text.split())
    return first if len(first) <= _MOST_REASON else f"{first[:_MOST_REASON]}..."


def _work(bisection: Bisection) -> str:
    work = bisection.work
    looked = sum(bool(seen.looks) for seen in bisection.seen)
    again = f", {plural(work.reused_cells, 'cell')} of earlier runs used" if work.reused_cells else ""
    return (
        f"{looked} of {plural(len(bisection.points), 'kernel')} looked at, {plural(work.boots, 'boot')}, "
        f"{plural(work.cells, 'cell')} run{again}, {work.seconds:.0f} s"
    )
