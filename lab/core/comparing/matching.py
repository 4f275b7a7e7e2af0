"""Which target of one run is compared with which of another."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.core.errors import ScenarioError
from lab.core.text import printable

_KERNEL_MARK = "+"  # debian12+NAME, and debian12+kernel:PATH in older runs
_BOX_MARK = "vagrant:"
_OWN_BOX = re.compile(r"vagrant:([a-z0-9-]+)")  # a name, no path, URL or USER/NAME: the box that the lab makes


@dataclass(frozen=True)
class TargetPair:
    """A target of each run, whose cells are compared."""

    base: str
    new: str


def family(target: str) -> str:
    """A target without the user's own kernel, for another kernel under the same userspace is an upgrade; the release of
    a box that the lab makes, for it has the same packages.
    """
    own_box = _OWN_BOX.fullmatch(target)
    if target.startswith(_BOX_MARK):
        return own_box[1] if own_box else target
    return target.partition(_KERNEL_MARK)[0]


def match_targets(base: Sequence[str], new: Sequence[str], asked_for: Sequence[str] = ()) -> tuple[TargetPair, ...]:
    """Which target of BASE is compared with which of NEW.

    `TARGET=TARGET` texts decide alone, where there are any. Else it is targets of the same name, of those left the
    ones of the same family, and where each run has but one target, these. Raises ScenarioError.
    """
    if asked_for:
        return tuple(dict.fromkeys(_pair_meant(text, base, new) for text in asked_for))
    pairs = [TargetPair(target, target) for target in base if target in new]
    left = [target for target in base if target not in new]
    for name in dict.fromkeys(map(family, left)):
        ours = [target for target in left if family(target) == name]
        theirs = [target for target in new if family(target) == name and target not in base]
        if ours and theirs and len(ours) + len(theirs) > 2:
            raise ScenarioError(
                f"the targets {named(ours)} of BASE and {named(theirs)} of NEW can be matched in several ways",
                hint=f"say which: --match {named(ours[:1])}={named(theirs[:1])}",
            )
        pairs += [TargetPair(*pair) for pair in zip(ours, theirs, strict=False)]
    if not pairs and len(base) == len(new) == 1:
        pairs.append(TargetPair(base[0], new[0]))
    return tuple(pairs)


def _pair_meant(text: str, base: Sequence[str], new: Sequence[str]) -> TargetPair:
    """The pair that `TARGET=TARGET` means; a glob may stand for a target, and a path may have an = in it."""
    pairs = set()
    for index in (index for index, char in enumerate(text) if char == "="):
        ours, theirs = _meant(text[:index], base), _meant(text[index + 1 :], new)
        pairs |= {TargetPair(left, right) for left in ours for right in theirs}
    if len(pairs) != 1:
        what = "means no pair of targets" if not pairs else f"means {len(pairs)} pairs of targets"
        known = f"BASE has {named(base)}; NEW has {named(new)}"
        raise ScenarioError(f"--match {text}: {what}", hint=f"--match TARGET=TARGET: {known}")
    return pairs.pop()


def _meant(pattern: str, targets: Sequence[str]) -> Sequence[str]:
    return [pattern] if pattern in targets else fnmatch.filter(targets, pattern)


def named(targets: Iterable[str]) -> str:
    """Targets for people."""
    return printable(", ".join(targets)) or "none"
