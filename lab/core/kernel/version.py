"""Kernel releases in their real order, and conditions on them such as `<4.14` or `>=5.1,<6.2`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

# A release that is no candidate sorts after all candidates of its number.
FINAL = 1_000_000

# "6.1.0-50-cloud-amd64", "4.10.17", "6.18.44-fc-v595", "2.6.32.67", "7.2-rc3", Debian's "6.12~rc6-amd64"
_RELEASE = re.compile(r"(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:\.(\d{1,6}))?(?:[-~.]rc(\d{1,5}))?(?!\d)", re.ASCII)
_SPEC_VERSION = re.compile(r"\d{1,6}(?:\.\d{1,6}){1,3}", re.ASCII)
_CLAUSE = re.compile(r"\s*(?P<operator>[<>=!~^]*)\s*(?P<version>.*?)\s*", re.DOTALL)

_OPERATORS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


class Release(NamedTuple):
    """The comparable part of `uname -r`; ordered as kernels were released."""

    major: int
    minor: int
    patch: int = 0
    extra: int = 0
    candidate: int = FINAL

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version without the release candidate: (7, 2, 0, 0) for `7.2-rc3`."""
        return (self.major, self.minor, self.patch, self.extra)


def parse_release(text: str) -> Release:
    """The release that `uname -r` names; what follows the numbers (`-50-cloud-amd64`) is left out.

    Debian's releases carry no stable patch number: `6.1.0-50-amd64` is 6.1.x, whatever x is. Raises ValueError.
    """
    found = _RELEASE.match(text)
    if found is None:
        raise ValueError(f"{text[:60]!r} is not a kernel release such as 6.1.0-50-cloud-amd64")
    major, minor, patch, extra, candidate = found.groups()
    return Release(int(major), int(minor), int(patch or 0), int(extra or 0), int(candidate) if candidate else FINAL)


@dataclass(frozen=True)
class Clause:
    """One comparison of a spec: an operator and as many numbers as were written."""

    operator: str
    numbers: tuple[int, ...]

    def matches(self, release: Release) -> bool:
        """Whether the release, cut to as many numbers as the clause has, compares so."""
        return _OPERATORS[self.operator](release.numbers[: len(self.numbers)], self.numbers)

    def __str__(self) -> str:
        return self.operator + ".".join(str(number) for number in self.numbers)


@dataclass(frozen=True)
class VersionSpec:
    """Comparisons that must all hold. Each looks at as many numbers as it was written with, so a spec speaks of series:

    `==6.1` is any 6.1.x, `<4.14` is anything before 4.14.0, `<=4.14` includes 4.14.300, `>4.14` begins with 4.15. A
    release candidate counts as the version it becomes, since features enter before the first one: `>=7.2` has 7.2-rc3.
    """

    clauses: tuple[Clause, ...]

    def matches(self, release: str | Release) -> bool:
        """Whether a kernel is meant; raises ValueError when the text is no kernel release."""
        parsed = parse_release(release) if isinstance(release, str) else release
        return all(clause.matches(parsed) for clause in self.clauses)

    def __str__(self) -> str:
        return ",".join(str(clause) for clause in self.clauses)


def parse_version_spec(text: str) -> VersionSpec:
    """The condition that text such as `<4.14` or `>=5.1,<6.2` states; raises ValueError that says what is wrong."""
    return VersionSpec(tuple(_clause(part) for part in text.split(",")))


def _clause(text: str) -> Clause:
    found = _CLAUSE.fullmatch(text)
    compare, version = (found["operator"], found["version"]) if found else ("", text)
    if compare not in _OPERATORS:
        given = f"{compare[:10]!r} is no comparison" if compare else f"no comparison stands before {version[:40]!r}"
        raise ValueError(f"{given} (known are {' '.join(_OPERATORS)})")
    if not _SPEC_VERSION.fullmatch(version):
        raise ValueError(f"{version[:40]!r} is no kernel version (two to four numbers, as in 4.14)")
    return Clause(compare, tuple(int(number) for number in version.split(".")))
