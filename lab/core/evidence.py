"""What a cell recorded, as values: the raw texts stay raw, and what is missing stays missing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.core.facts import Facts
from lab.core.kernel.conntrack import integer, stat_totals

Json = Mapping[str, Any]
UNKNOWN_MACHINE = Facts(target="")
_MAX_SECONDS = 10**9
_COUNTS = ("attempted", "held", "failed", "lost", "accepted")
_MORE_COUNTS = ("open", "newcomers_attempted", "newcomers_held")  # only some loads have these


@dataclass(frozen=True)
class Snapshot:
    """One observation of the machine: the items that could be read, and why the others could not."""

    texts: Mapping[str, str] = field(default_factory=dict, hash=False)
    errors: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class EndTable:
    """The table of an end of the path, in its own network namespace."""

    entries: int | None
    counters: Mapping[str, int] | None = field(hash=False)


@dataclass(frozen=True)
class Sample:
    """The table and the connections at one moment of the load; None is what could not be read."""

    seconds: float
    entries: int | None
    table_max: int | None
    counters: Mapping[str, int] | None = field(hash=False)
    attempted: int = 0
    held: int = 0
    failed: int = 0
    lost: int = 0
    accepted: int = 0
    open: int | None = None  # connections that are open now; None where the load did not tell
    newcomers_attempted: int | None = None
    newcomers_held: int | None = None
    ends: Mapping[str, EndTable] = field(default_factory=dict, hash=False)  # by role, where they were recorded

    @property
    def full(self) -> bool:
        """Whether the table had reached its max (a max of 0 means no bound)."""
        return self.entries is not None and bool(self.table_max) and self.entries >= (self.table_max or 0)

    def counter(self, name: str) -> int | None:
        """A column of /proc/net/stat/nf_conntrack, or None where this kernel has none of that name."""
        return None if self.counters is None else self.counters.get(name)


@dataclass(frozen=True)
class Evidence:
    """Everything that a finding may be made from. A part that was never reached is None or empty."""

    settings: Json | None = field(default=None, hash=False)
    steps: tuple[Json, ...] = ()
    reached: bool | None = None
    before: Snapshot | None = None
    after: Snapshot | None = None
    ends: Mapping[str, Snapshot] = field(default_factory=dict, hash=False)  # by role, of those that the state touches
    samples: tuple[Sample, ...] = ()
    load: Json | None = field(default=None, hash=False)
    kernel_log: str | None = None
    kernel_log_holes: Json | None = field(default=None, hash=False)  # how much of the log is missing
    facts: Facts = UNKNOWN_MACHINE
    lost: str | None = None  # why the machine was lost, in the last of its tries
    skipped: str | None = None  # why this machine cannot have the scenario
    path_error: str | None = None  # why the load's path could not be made: the command, and what it said
    peer: Json | None = field(default=None, hash=False)  # which connections with other hosts worked, after the load

    @property
    def kernel_release(self) -> str | None:
        """`uname -r` in the machine; None when it never told."""
        return self.facts.kernel_release


def parse_sample(raw: Json) -> Sample:
    """A sample as the guest sent it (raw texts of the files, counts of connections). Raises ValueError."""
    counts = {name: raw.get(name, 0) for name in _COUNTS}
    more = {name: raw[name] for name in _MORE_COUNTS if raw.get(name) is not None}
    seconds = raw.get("seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < _MAX_SECONDS:
        raise ValueError(f"a sample without a time: {raw!r:.80}")
    if any(not isinstance(one, int) or isinstance(one, bool) or one < 0 for one in (*counts.values(), *more.values())):
        raise ValueError(f"a sample whose counts are no counts: {counts | more!r:.120}")
    entries, table_max, stat = (_text(raw, name) for name in ("count", "max", "stat"))
    return Sample(
        seconds=float(seconds),
        entries=None if entries is None else integer(entries),
        table_max=None if table_max is None else integer(table_max),
        counters=None if stat is None else stat_totals(stat),
        ends=_ends(raw.get("ends") or {}),
        **counts,
        **more,
    )


def _ends(raw: object) -> Mapping[str, EndTable]:
    if not isinstance(raw, dict) or not all(isinstance(one, dict) for one in raw.values()):
        raise ValueError(f"the tables of the ends are no tables: {raw!r:.80}")
    tables = {}
    for role, table in raw.items():
        count, stat = _text(table, "count"), _text(table, "stat")
        counters = None if stat is None else stat_totals(stat)
        tables[str(role)] = EndTable(None if count is None else integer(count), counters)
    return tables


def parse_samples(lines: Iterable[str]) -> tuple[Sample, ...]:
    """The samples of a samples.jsonl, by time; those of the same time in the order of their progress, so that the
    order in the file never matters. Raises ValueError that names the line.
    """
    samples = []
    for number, line in enumerate(lines, start=1):
        try:
            samples.append(parse_sample(json.loads(line)))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"sample {number}: {error}") from None
    return tuple(sorted(samples, key=_order))


def _order(sample: Sample) -> tuple[Any, ...]:
    """Whatever can differ between two samples takes part, and what is unknown comes before any number."""
    progress = (sample.attempted, sample.accepted, sample.held + sample.failed + sample.lost)
    counters = sample.counters
    known = [-1 if value is None else value for value in (sample.entries, sample.counter("drop"), sample.table_max)]
    more = [-1 if (count := getattr(sample, name)) is None else count for name in _MORE_COUNTS]
    rest = (sample.held, sample.failed, *more, counters is not None, sorted((counters or {}).items()))
    return (sample.seconds, *progress, *known, *rest)


def _text(raw: Json, name: str) -> str | None:
    value = raw.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is no text: {value!r:.80}")
    return value
