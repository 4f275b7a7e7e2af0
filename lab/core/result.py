"""A cell's result as it is stored, compared and reported: plain records, units in the names, None for unknown.

A field is a key of result.json, in the order of that file. A field with a default came after the first version: older
results lack its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lab.core.holders.model import Holder

# 1 - first version. Old results load for ever: a reader of version N reads every version up to N.
RESULT_VERSION = 1

FAMILY_NAMES: Mapping[str, str] = {"ipv4": "IPv4", "ipv6": "IPv6"}


@dataclass(frozen=True)
class Try:
    """One attempt at a cell: what became of the machine."""

    number: int
    lost: str | None  # why the machine was lost; None when it was not
    stages_seconds: Mapping[str, int | float] = field(hash=False)

    @property
    def seconds(self) -> float:
        """What all stages took together."""
        return sum(self.stages_seconds.values())


@dataclass(frozen=True)
class Loss:
    """Connections that were lost to one cause, and the numbers that show it."""

    cause: str
    connections: int
    detail: str


@dataclass(frozen=True)
class StoredEntries:
    """What the table held of the load's own connections, in several looks at it."""

    peak: int  # the most of the load's connections that had an entry at one moment
    last: int  # at the load's end
    others_peak: int  # the most entries of anything else at one moment
    looks: int
    cut: bool  # a look did not get to the table's end: more may have been there


@dataclass(frozen=True)
class Connections:
    """What became of the connections of a load; each is in one of held, failed, lost, stalled and untried."""

    attempted: int
    held: int
    failed: int
    lost: int
    accepted: int  # counted by the servers
    stalled: int
    untried: int

    @property
    def total(self) -> int:
        """How many the load was to open."""
        return self.held + self.failed + self.lost + self.stalled + self.untried


@dataclass(frozen=True)
class Memory:
    """What the table costs; None is unknown. Extensions of entries are allocated apart, and are not in it."""

    entry_bytes: int | None = None  # one entry
    entries_bytes_before: int | None = None  # of the cache that the entries are in (slabinfo)
    entries_bytes_after: int | None = None
    buckets: int | None = None
    hash_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class StoredProofs:
    """Three independent answers to whether conntrack is attached; None: cannot say."""

    hooks: bool | None
    holders: bool | None
    behaviour: bool | None
    notrack: bool = False  # rules keep some packets out
    disagreement: str | None


@dataclass(frozen=True, kw_only=True)
class FamilyResult:
    """What one family of a load over both shows by itself."""

    finding: str
    reason: str
    cause: str | None
    connections: Connections | None
    load_entries: StoredEntries | None
    proofs: StoredProofs


@dataclass(frozen=True)
class Kept:
    """A holder that was not removed, and why."""

    rule: str
    backend: str
    reason: str


@dataclass(frozen=True)
class PeerAttempt:
    """A TCP connection with another host, in both machines; None where it was not tried."""

    way: str
    port: int
    before: bool | None
    after: bool | None


@dataclass(frozen=True)
class Peer:
    """Which connections with other hosts worked before and after a removal; `cut` names those that do not any more."""

    attempts: tuple[PeerAttempt, ...]
    cut: tuple[str, ...]


@dataclass(frozen=True)
class Mitigation:
    """What came of removing the holders, why, and what was run; `finding` is None when no second machine was made."""

    outcome: str
    reason: str
    commands: tuple[tuple[str, ...], ...]
    finding: str | None
    kept: tuple[Kept, ...] = ()  # as part of a firewall
    advice: tuple[str, ...] = ()
    peer: Peer | None = None


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """The content of a cell's result.json; `as_expected` is None where nothing was expected."""

    schema_version: int = RESULT_VERSION
    cell: str
    scenario: str
    scenario_digest: str
    variant: str
    axes: Mapping[str, str | int] = field(hash=False)
    target: str
    repeat: int
    kernel_release: str | None
    versions: Mapping[str, str] = field(default_factory=dict, hash=False)
    programs_of_lab: tuple[str, ...] = ()  # that the distribution lacks: what they did and read, the lab's own did
    finding: str
    reason: str
    cause: str | None
    expected: str | None
    because: str | None  # also why an expectation does not count here, beside no `expected`
    as_expected: bool | None
    losses: tuple[Loss, ...] = ()
    message_logged: bool | None
    message_before_load: bool = False
    message_namespaces: tuple[int, ...] = ()
    max: int | None
    max_changed: tuple[int, ...]
    entries_before: int | None
    entries_peak: int | None
    load_entries: StoredEntries | None = None
    drops: int | None
    drops_while_full: int | None = None
    early_drops: int | None
    insert_failed: int | None
    counter_resets: int = 0
    connections: Connections | None
    dead: int | None = None  # connections that were open at the end and carried no byte; None where none was sent
    families: Mapping[str, FamilyResult] = field(default_factory=dict, hash=False)  # where the load went over two
    open_peak: int | None = None
    newcomers: Mapping[str, int] | None = field(default=None, hash=False)
    errors: Mapping[str, int] = field(default_factory=dict, hash=False)
    first_drop_seconds: int | float | None
    memory: Memory = Memory()
    holders: tuple[Holder, ...] | None
    proofs: StoredProofs | None
    mitigation: Mitigation | None = None
    stages_seconds: Mapping[str, int | float] = field(hash=False)  # of the last try
    tries: tuple[Try, ...]

    @property
    def seconds(self) -> float:
        """What all tries took together."""
        return sum(attempt.seconds for attempt in self.tries)

    @property
    def mark(self) -> str:
        """A word for people: ok, DIFFERS, unclear, skipped, or - where nothing was expected."""
        if self.finding == "skipped":
            return "skipped"
        if self.as_expected is True:
            return "ok"
        if self.finding == "inconclusive":
            return "unclear"
        return "-" if self.as_expected is None else "DIFFERS"


@dataclass(frozen=True, kw_only=True)
class Results:
    """The content of results.json."""

    schema_version: int = RESULT_VERSION
    cells: tuple[CellResult, ...]


def exit_status(cells: Sequence[CellResult]) -> int:
    """0 all as expected, 1 a finding differs, 3 something inconclusive and nothing differs, 4 all were skipped.

    A cell that was inconclusive where something else was expected does not differ: it is not a finding.
    """
    marks = {cell.mark for cell in cells}
    if marks == {"skipped"}:
        return 4
    return 1 if "DIFFERS" in marks else 3 if "unclear" in marks else 0
