"""The tables of the path's remote ends: a container's own table may be the full one, while the host's has room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.core.evidence import Sample
from lab.core.judging.rises import steps


@dataclass(frozen=True)
class EndMeasured:
    """What the table of an end has shown."""

    role: str  # client or server
    entries_peak: int
    table_max: int | None
    dropped_for_room: int

    @property
    def namespace(self) -> str:
        """Of the network namespace that the end is (lab/guest/paths.py)."""
        return f"lab-{self.role}"


def end_tables(samples: Sequence[Sample]) -> tuple[EndMeasured, ...]:
    """The ends whose tables had anything in them."""
    roles = dict.fromkeys(role for sample in samples for role in sample.ends)
    found = (_measured(role, tuple(_of_end(role, samples))) for role in roles)
    return tuple(one for one in found if one.entries_peak)


def _measured(role: str, samples: Sequence[Sample]) -> EndMeasured:
    limits = [sample.table_max for sample in samples if sample.table_max is not None]
    return EndMeasured(
        role=role,
        entries_peak=max((sample.entries or 0 for sample in samples), default=0),
        table_max=limits[-1] if limits else None,
        dropped_for_room=sum(step.dropped_for_room for step in steps(samples) if step.full),
    )


def _of_end(role: str, samples: Sequence[Sample]) -> Iterator[Sample]:
    """The samples as if its table were the machine's. Until it is there its counters are at zero; one that was left out
    later had nothing in it.
    """
    there = False
    for sample in samples:
        table = sample.ends.get(role)
        there = there or table is not None
        if table is not None:
            yield Sample(sample.seconds, table.entries, sample.table_max, table.counters)
        elif not there:
            yield Sample(sample.seconds, None, None, None)
