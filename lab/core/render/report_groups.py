"""What a report says first: a headline, and the findings of a single kernel by finding instead of a thin table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.core.render.matrix import MARKS
from lab.core.result import CellResult

if TYPE_CHECKING:
    from lab.core.render.views import Outcome, StateView

MARK_WORDS: Mapping[str, str] = {**dict(MARKS), "DIFFERS": "differs", "-": "nothing expected"}
_BACKEND = "iptables-"
_FIRST = ("DIFFERS", "unclear")  # of the marks: what nobody expected comes first


@dataclass(frozen=True)
class Row:
    """A state of a group; backends of iptables with the same outcome share a row, each with its link."""

    name: str
    links: tuple[tuple[str, Outcome], ...]  # what the link is called, "" for the state itself


@dataclass(frozen=True)
class Group:
    """All states with one finding that were expected, or not expected, alike."""

    finding: str
    mark: str
    rows: tuple[Row, ...]

    @property
    def mark_words(self) -> str:
        """The mark as people say it."""
        return MARK_WORDS[self.mark]

    @property
    def count(self) -> int:
        """How many cells are in it."""
        return sum(outcome.count for row in self.rows for _, outcome in row.links)


def by_finding(states: Sequence[StateView], column: int = 0) -> tuple[Group, ...]:
    """The states of one target by finding, those that are not as expected first."""
    groups: dict[tuple[str, str], dict[str, list[tuple[str, Outcome]]]] = {}
    for state in states:
        name, backend = _without_backend(state.name)
        for outcome in state.fields[column]:
            rows = groups.setdefault((outcome.finding, outcome.mark), {})
            rows.setdefault(name, []).append((backend, outcome))
    made = [
        Group(finding, marked, tuple(Row(name, tuple(links)) for name, links in rows.items()))
        for (finding, marked), rows in groups.items()
    ]
    return tuple(sorted(made, key=lambda group: (group.mark not in _FIRST, -group.count)))


def counts_of_findings(cells: Iterable[CellResult]) -> tuple[tuple[str, int], ...]:
    """How often each finding was made, the most frequent first."""
    return tuple(Counter(cell.finding for cell in cells).most_common())


def headline(cells: Sequence[CellResult], columns: Sequence[tuple[str, str]]) -> str:
    """`5 cells, debian12, 6.12.95: all as expected`; several targets are counted."""
    where = f"{len(columns)} kernels" if len(columns) > 1 else ", ".join(columns[0]) if columns else "no kernel"
    return f"{len(cells):,} {'cell' if len(cells) == 1 else 'cells'}, {where}: {_in_words(cells)}"


def _in_words(cells: Sequence[CellResult]) -> str:
    counts = Counter(cell.mark for cell in cells)
    if len(counts) == 1:
        (words,) = (words for name, words in MARKS if name in counts)
        return words if len(cells) == 1 else f"all {words}"
    return ", ".join(f"{counts[name]:,} {words}" for name, words in MARKS if counts[name])


def _without_backend(name: str) -> tuple[str, str]:
    """A state's name without the backend of iptables, and that backend; "" where it has none."""
    parts = name.split(", ")
    backends = [part for part in parts[1:] if part.startswith(_BACKEND)]
    return ", ".join(part for part in parts if part not in backends), "".join(backends).removeprefix(_BACKEND)
