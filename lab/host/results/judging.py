"""A cell's evidence, read and judged in a process of its own: what a guest said may keep a parser busy for ever."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import LabError
from lab.core.evidence import Evidence
from lab.core.facts import Facts
from lab.core.judging.finding import Finding, judge
from lab.core.mitigation import Judged, judged
from lab.host.results import store
from lab.host.results.apart import Exceeded, call_apart

_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Read:
    """What a machine's evidence shows; `samples_csv` is None where it cannot be read."""

    judged: Judged
    facts: Facts
    samples_csv: str | None


def judged_apart(folder: Path) -> Read:
    """The evidence in a cell's folder, judged in another process; `inconclusive`, with why, where that took more time
    or memory than it may. Raises ScenarioError for damaged files.
    """
    try:
        read: Read = call_apart(f"{__name__}:{read_and_judge.__name__}", folder)
    except Exceeded as exceeded:
        return _unread(f"the evidence could not be judged: {exceeded}")
    return read


def read_and_judge(folder: Path) -> Read:
    """The same in this process. Raises ScenarioError for damaged files."""
    try:
        evidence = store.read_evidence(folder)
        finding = judge(evidence)
        return Read(judged(evidence, finding), evidence.facts, store.samples_csv(evidence.samples))
    except LabError:
        raise
    except _DAMAGE as error:
        return _unread(f"the evidence cannot be read: {error}")


def _unread(why: str) -> Read:
    return Read(Judged(Finding("inconclusive", why), None), Evidence().facts, None)
