"""How full the table was over time, in a line of characters: for people who look at a terminal, not at a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.core.evidence import Sample

WIDTH = 20
UNKNOWN = "?"


@dataclass(frozen=True)
class Marks:
    """The characters of a line: an empty table, one that is neither empty nor full in even steps, and a full one."""

    empty: str
    steps: str
    full: str

    @property
    def all(self) -> str:
        """Every character that a line may have beside UNKNOWN and digits."""
        return f"{self.empty}{self.steps}{self.full}"


BLOCKS = Marks("▁", "▂▃▄▅▆▇", "█")
ASCII = Marks("_", ".:-=+*", "#")


def sparkline(samples: Sequence[Sample], marks: Marks = BLOCKS, width: int = WIDTH) -> str:
    """Entries against max over the load's time, and that time: `▁▂▄▆████████ 1.9 s`; empty where nothing was sampled.

    Each character is a share of the time, at most `width` of them, and shows the fullest that the table was in it. Full
    and empty have characters of their own: a table with one entry is not empty, and one that lacks a single entry is
    not full. A share of which no sample tells entries and max is `?`; where none at all does, all is one `?`. Where
    no sample fell into a share, the table is taken to be as the sample before left it.
    """
    if not samples:
        return ""
    shares = _shares(samples, min(width, len(samples)))
    shown = "".join(_mark(share, marks) for share in shares)
    if not shown.strip(UNKNOWN):
        return UNKNOWN
    return f"{shown} {samples[-1].seconds:.1f} s"


def _shares(samples: Sequence[Sample], count: int) -> list[list[Sample]]:
    """The samples of each share of the time, in order; a share without any has the last one before it, if there is."""
    shares: list[list[Sample]] = [[] for _ in range(count)]
    end = samples[-1].seconds
    for sample in samples:
        number = int(sample.seconds / end * count) if end > 0 else 0
        shares[min(number, count - 1)].append(sample)
    for number in range(1, count):
        shares[number] = shares[number] or shares[number - 1][-1:]
    return shares


def _mark(share: Sequence[Sample], marks: Marks) -> str:
    levels = [level for sample in share if (level := _level(sample, len(marks.steps))) is not None]
    return marks.all[max(levels)] if levels else UNKNOWN


def _level(sample: Sample, steps: int) -> int | None:
    """0: empty; 1 to `steps`: the parts of the max; `steps` + 1: full. None where entries or max are not known, or
    where there is no max to hold the entries against (0 means no bound).
    """
    if sample.entries == 0:
        return 0
    if sample.entries is None or not sample.table_max or sample.entries < 0 or sample.table_max < 0:
        return None
    if sample.full:
        return steps + 1
    return 1 + sample.entries * steps // sample.table_max
