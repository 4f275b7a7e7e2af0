"""The same cells on many kernels: where a finding changes, as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lab.core.bisecting.bisection import Seen
from lab.core.bisecting.points import Point
from lab.core.text import aligned, plural

SCAN_VERSION = 1
_CHANGED = " <-"
_MOST_REASON = 160


@dataclass(frozen=True)
class Change:
    """A variant shows something else from a kernel on; `skipped` are the kernels between that have no finding."""

    variant: str
    before: str
    after: str
    last: Point
    first: Point
    skipped: tuple[Point, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "variant": self.variant,
            "before": self.before,
            "after": self.after,
            "last": self.last.name,
            "first": self.first.name,
            "skipped": [point.name for point in self.skipped],
        }


@dataclass(frozen=True)
class Scan:
    """What every kernel showed, by variant, in version order."""

    points: Sequence[Point]
    seen: Mapping[str, Sequence[Seen]]

    def changes(self) -> tuple[Change, ...]:
        """Where a variant's finding changes, in the order of variants and kernels."""
        return tuple(change for variant in self.seen for change in self._changes(variant))

    def _changes(self, variant: str) -> Iterator[Change]:
        shown = [(place, _shown(seen)) for place, seen in enumerate(self.seen[variant]) if seen.conclusive]
        for (last, before), (first, after) in pairwise(shown):
            if before != after:
                between = tuple(self.points[last + 1 : first])
                yield Change(variant, before, after, self.points[last], self.points[first], between)

    def without_finding(self) -> tuple[tuple[Point, str], ...]:
        """The kernels of which at least one variant has no finding, with the first reason."""
        rows = zip(self.points, zip(*self.seen.values(), strict=True), strict=True)
        found = ((point, next((seen.skipped for seen in row if not seen.conclusive), None)) for point, row in rows)
        return tuple((point, why) for point, why in found if why is not None)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "schema_version": SCAN_VERSION,
            "kernels": [
                {
                    "name": point.name,
                    "also": list(point.also),
                    "source": point.source,
                    "version": point.version or None,
                    "cells": {
                        variant: {
                            "findings": list(seen[place].findings),
                            "inconclusive": seen[place].inconclusive,
                            "skipped": seen[place].skipped,
                        }
                        for variant, seen in self.seen.items()
                    },
                }
                for place, point in enumerate(self.points)
            ],
            "changes": [change.to_json() for change in self.changes()],
        }


def scan_rows(scan: Scan) -> tuple[tuple[str, ...], ...]:
    """The table: a kernel in each row, a column for each variant that changes; all of them where none does."""
    changes = scan.changes()
    changing = [variant for variant in scan.seen if any(change.variant == variant for change in changes)]
    variants = changing or list(scan.seen)
    starts = {(change.variant, change.first.name) for change in changes}
    rows = [
        (
            point.name,
            *(
                _shown(scan.seen[variant][place]) + (_CHANGED if (variant, point.name) in starts else "")
                for variant in variants
            ),
        )
        for place, point in enumerate(scan.points)
    ]
    return (("kernel", *variants), *rows)


def scan_text(scan: Scan) -> str:
    """The table, then each change in a sentence, what is the same everywhere, and what has no finding."""
    return "\n".join([*aligned(scan_rows(scan)), "", *scan_notes(scan)])


def scan_notes(scan: Scan) -> list[str]:
    """What the table shows, in sentences."""
    changes = scan.changes()
    lines = [
        f"{change.variant}: {change.before} up to {change.last.name}, {change.after} from {change.first.name} on"
        + (f" ({plural(len(change.skipped), 'kernel')} between them have no finding)" if change.skipped else "")
        for change in changes
    ]
    for variant, seen in scan.seen.items():
        shown = [_shown(kernel) for kernel in seen if kernel.conclusive]
        if shown and not any(change.variant == variant for change in changes):
            lines.append(f"{variant}: {shown[0]} on {plural(len(shown), 'kernel')}, nothing changes")
    return lines + [
        f"{point.name}: skipped: {' '.join(why.split())[:_MOST_REASON]}" for point, why in scan.without_finding()
    ]


def _shown(seen: Seen) -> str:
    """What a kernel showed in all its looks; the findings' order is no change."""
    if not seen.conclusive:
        return "-"
    counts = Counter(seen.findings)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{finding} {count}x" for finding, count in sorted(counts.items()))
