"""What a bisection does next, from nothing but what was seen: so one that was interrupted goes on where it was.

The ends are looked at first, several times each. Where every kernel repeats its finding, those between are halved.
Where one does not, places are weighed against each other (statistics.py). The last thing are the culprit and the kernel
before it, in turn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from lab.core.bisecting.statistics import Places, Tally, most_informative, places


@dataclass(frozen=True)
class Seen:
    """What a kernel showed: the finding of each look, and how many looks were inconclusive. `skipped` is why
    the last of those was (no build, no boot, inconclusive).
    """

    findings: tuple[str, ...] = ()
    inconclusive: int = 0
    skipped: str | None = None

    @property
    def looks(self) -> int:
        """How often it was looked at."""
        return len(self.findings) + self.inconclusive

    @property
    def conclusive(self) -> bool:
        """Whether it has shown anything."""
        return bool(self.findings)

    @property
    def repeats(self) -> bool:
        """Whether all of its looks showed the same."""
        return len(set(self.findings)) < 2


@dataclass(frozen=True)
class Limits:
    """How a bisection looks: `looks` at each end and at the culprit, `at_once` kernels together, until `confidence`
    where statistics are needed, and never more than `most_looks` in all.
    """

    looks: int = 4
    at_once: int = 1
    confidence: float = 0.99
    most_looks: int = 500


class Phase(Enum):
    """What a look is for."""

    ENDS = "the ends"
    HALVING = "halving"
    WEIGHING = "weighing"
    CONFIRMING = "confirming"


@dataclass(frozen=True)
class Look:
    """Look at these kernels next, until each was looked at so many times. `kernels_left` is how many more will be
    needed at most, these included; None where chance decides.
    """

    totals: Mapping[int, int]
    phase: Phase
    kernels_left: int | None = None
    confidence: float | None = None


class Verdict(Enum):
    """How a bisection ends."""

    FOUND = "found"  # the first kernel with another finding
    AMONG = "among"  # it is one of several: those before the first other one have none
    EQUAL = "equal"  # the ends show the same
    NO_END = "no-end"  # an end has no finding
    UNSURE = "unsure"  # so many looks, and still not confident


@dataclass(frozen=True)
class Answer:
    """What came of it. The change is in one of the `suspects`, the last of which shows `found`; `before` is the last
    kernel with the finding `good`. `bad` is what the bad end shows; `found` may be a third finding. `confidence` is
    None where every kernel repeated its finding.
    """

    verdict: Verdict
    good: str | None = None
    bad: str | None = None
    found: str | None = None
    before: int | None = None
    suspects: tuple[int, ...] = ()
    confidence: float | None = None

    @property
    def culprit(self) -> int | None:
        """The first kernel that shows another finding; None where it is not known."""
        return self.suspects[-1] if self.verdict is Verdict.FOUND else None


@dataclass(frozen=True)
class _Ends:
    good: str
    bad: str


def advise(seen: Sequence[Seen], limits: Limits) -> Look | Answer:
    """The next look, or the answer. `seen` are the kernels in order, from the good end to the bad one: at least two."""
    ends = _ends(seen, limits)
    if not isinstance(ends, _Ends):
        return ends
    usable = tuple(place for place, kernel in enumerate(seen) if kernel.skipped is None or kernel.conclusive)
    if all(kernel.repeats for kernel in seen):
        return _halve(seen, usable, ends, limits)
    return _weigh(seen, usable, ends, limits)


def _ends(seen: Sequence[Seen], limits: Limits) -> Look | Answer | _Ends:
    """What the ends show, or what is still to be done to know it."""
    both = (0, len(seen) - 1)
    for end in both:
        if seen[end].skipped is not None and not seen[end].conclusive:
            return Answer(Verdict.NO_END, suspects=(end,))
    between = len(seen) - 2
    for looks in (1, limits.looks):  # once each first: an end without a finding is known sooner
        lacking = {end: looks for end in both if seen[end].looks < looks}
        if lacking:
            left = len({end for end in both if not seen[end].conclusive}) + halvings(between)
            return Look(lacking, Phase.ENDS, left)
    shares = {
        finding: _share(seen[0], finding) - _share(seen[-1], finding) for end in both for finding in seen[end].findings
    }
    if len(shares) == 1:
        (same,) = shares
        return Answer(Verdict.EQUAL, good=same, bad=same)
    return _Ends(max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__))


def _halve(seen: Sequence[Seen], usable: Sequence[int], ends: _Ends, limits: Limits) -> Look | Answer:
    """Every kernel repeats: between the last good one and the first other one behind it, the middle."""
    shown = {place: seen[place].findings[0] for place in usable if seen[place].conclusive}
    after = min(place for place, finding in shown.items() if finding != ends.good)
    before = max(place for place, finding in shown.items() if finding == ends.good and place < after)
    unknown = [place for place in usable if before < place < after]
    if unknown:
        count = min(limits.at_once, len(unknown))
        chosen = {unknown[len(unknown) * (part + 1) // (count + 1)] for part in range(count)}
        return Look(dict.fromkeys(sorted(chosen), 1), Phase.HALVING, halvings(len(unknown)))
    return _confirm(seen, before, after, limits) or _answer(seen, ends, before, after, None)


def _weigh(seen: Sequence[Seen], usable: Sequence[int], ends: _Ends, limits: Limits) -> Look | Answer:
    """A kernel does not repeat: the look that is worth most, until a place is likely enough."""
    tallies = [_tally(seen[place], ends.good) for place in usable]
    # a kernel without a finding may be the culprit as well as the next one that has one
    weights = [1.0, *(float(after - before) for before, after in pairwise(usable))]
    known = places(tallies, weights)
    if known.none >= limits.confidence:
        return Answer(Verdict.EQUAL, good=ends.good, bad=ends.good, confidence=known.none)
    best = max(range(1, len(usable)), key=lambda place: known.chances[place])
    before, after, confidence = usable[best - 1], usable[best], known.chances[best]
    if confidence >= limits.confidence:
        asked = _confirm(seen, before, after, limits, confidence)
        return asked or _answer(seen, ends, before, after, confidence)
    if sum(kernel.looks for kernel in seen) >= limits.most_looks:
        return _unsure(ends, usable, known, limits)
    chosen = most_informative(tallies, known, limits.at_once)
    totals = {usable[place]: seen[usable[place]].looks + 1 for place in chosen}
    return Look(totals, Phase.WEIGHING, confidence=confidence)


def _confirm(
    seen: Sequence[Seen], before: int, after: int, limits: Limits, confidence: float | None = None
) -> Look | None:
    """Both sides of the change in turn, until each was looked at often enough."""
    looks = min(seen[place].looks for place in (before, after))
    if looks >= limits.looks:
        return None
    lacking = {place: looks + 1 for place in (before, after) if seen[place].looks <= looks}
    return Look(lacking, Phase.CONFIRMING, 0, confidence)


def _answer(seen: Sequence[Seen], ends: _Ends, before: int, after: int, confidence: float | None) -> Answer:
    suspects = tuple(range(before + 1, after + 1))
    others = [finding for finding in seen[after].findings if finding != ends.good]
    found = _most_frequent(others) if others else ends.bad
    verdict = Verdict.FOUND if len(suspects) == 1 else Verdict.AMONG
    return Answer(verdict, ends.good, ends.bad, found, before, suspects, confidence)


def _unsure(ends: _Ends, usable: Sequence[int], known: Places, limits: Limits) -> Answer:
    """The fewest places that are together as likely as was asked for."""
    chosen: list[int] = []
    confidence = 0.0
    for place in sorted(range(1, len(usable)), key=lambda place: -known.chances[place]):
        if confidence >= limits.confidence:
            break
        chosen.append(usable[place])
        confidence += known.chances[place]
    return Answer(Verdict.UNSURE, ends.good, ends.bad, suspects=tuple(sorted(chosen)), confidence=confidence)


def halvings(kernels: int) -> int:
    """How many of so many kernels are looked at before the place of a change is known, at most."""
    return math.ceil(math.log2(kernels + 1))


def _tally(seen: Seen, good: str) -> Tally:
    return Tally(len(seen.findings), sum(finding != good for finding in seen.findings))


def _share(seen: Seen, finding: str) -> float:
    return seen.findings.count(finding) / len(seen.findings)


def _most_frequent(findings: Sequence[str]) -> str:
    return Counter(findings).most_common(1)[0][0]
