"""The kernels of a scan or a bisection, in the order in which they were released."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lab.core.errors import ScenarioError

# the two ways in which a release candidate is written; a tilde sorts before everything, also before the end
_CANDIDATE = re.compile(r"[-.~]rc(?=\d)")
_NUMBERS = re.compile(r"(\d{1,18})")
_MOST_NAMED = 5

VersionKey = tuple[tuple[tuple[int, ...], int], ...]


@dataclass(frozen=True)
class Point:
    """A kernel that may be tested: what it is called, where it comes from, and the version that gives it its place.

    `content` is a digest of what it is made of, where that is known without unpacking anything; kernels of equal
    content are one point, and `also` are the others' names.
    """

    name: str
    source: str
    version: str = ""
    content: str | None = None
    also: tuple[str, ...] = ()

    def is_called(self, text: str) -> bool:
        """Whether a user who wrote `text` means this kernel."""
        return text in (self.name, self.source, *self.also)


def version_key(text: str) -> VersionKey:
    """A key that sorts versions of kernels and packages as dpkg does (deb-version(7)): numbers by their value, `~`
    before everything, letters before other characters. `-rc` counts as `~rc`: candidates come before the release.
    """
    parts = _NUMBERS.split(_CANDIDATE.sub("~rc", text))
    numbers = [int(part) for part in parts[1::2]] + [-1]
    return tuple((_text_key(part), number) for part, number in zip(parts[::2], numbers, strict=True))


def _text_key(text: str) -> tuple[int, ...]:
    weights = (-1 if char == "~" else ord(char) if char.isalpha() else ord(char) + 0x110000 for char in text)
    return (*weights, 0)


def in_order(points: Iterable[Point]) -> tuple[Point, ...]:
    """The kernels in version order, those of equal content as one. Raises ScenarioError for two of one name."""
    ordered = sorted(points, key=lambda point: (version_key(point.version or point.name), version_key(point.name)))
    distinct: dict[str, Point] = {}
    for point in ordered:
        key = point.content or point.source
        first = distinct.get(key)
        if first is None:
            distinct[key] = point
        elif not first.is_called(point.name):
            distinct[key] = replace(first, also=(*first.also, point.name))
    by_name: dict[str, Point] = {}
    for point in distinct.values():
        if (other := by_name.setdefault(point.name, point)) is not point:
            raise ScenarioError(
                f"{other.source} and {point.source} are both called {point.name}",
                hint="give each a name of its own in a list: NAME=KERNEL, a line each",
            )
    return tuple(distinct.values())


def require_several(points: Sequence[Point], what: str) -> None:
    """Return if there is something to compare. Raises ScenarioError for a set of one kernel, or of none."""
    if len(points) < 2:
        found = f"means one kernel, {points[0].name}" if points else "means no kernel"
        raise ScenarioError(
            f"{what}: {found}",
            hint="name a folder of packages, a list, a glob of files, or apt:SUITE/GLOB, for example "
            "'apt:bookworm-backports/linux-image-*-cloud-amd64'; --kernels may be given several times",
        )


def between(points: Sequence[Point], good: str | None, bad: str | None) -> tuple[Point, ...]:
    """The kernels from the good to the bad one, both included; without names from the first to the last.

    Raises ScenarioError for an end that is not among them, for ends that are equal, and for ends in the wrong order.
    """
    first = _find(points, good, "--good") if good is not None else 0
    last = _find(points, bad, "--bad") if bad is not None else len(points) - 1
    if first == last:
        raise ScenarioError(
            f"--good and --bad are the same kernel, {points[first].name}", hint="name two: lab scan shows the findings"
        )
    if first > last:
        raise ScenarioError(
            f"--bad {points[last].name} comes before --good {points[first].name}",
            hint="exchange the two: a bisection finds where the finding changes, whichever is the good one",
        )
    return tuple(points[first : last + 1])


def _find(points: Sequence[Point], text: str, option: str) -> int:
    """The place of the kernel that `text` means: its name, its source, or the beginning of one name only."""
    exact = [place for place, point in enumerate(points) if point.is_called(text)]
    begins = re.compile(re.escape(text) + r"(?![0-9A-Za-z])")
    found = exact or [place for place, point in enumerate(points) if begins.match(point.name)]
    if len(found) == 1:
        return found[0]
    names = [point.name for point in points]
    if found:
        raise ScenarioError(
            f"{option} {text}: may be any of {_some([names[place] for place in found])}", hint="write the whole name"
        )
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {near[0]}? The set has" if near else "it has"
    raise ScenarioError(f"{option} {text}: is not in the set of kernels", hint=f"{hint} {_some(names)}")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
