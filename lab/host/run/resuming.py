"""A run taken up again: the cells that it lacks, in its own folder, as they would have been then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lab.core.errors import ScenarioError
from lab.core.manifest import Resumption, StoredChange
from lab.core.text import plural
from lab.host.machines.agent_package import agent_sha256
from lab.host.options import RunOptions
from lab.host.results.store import now
from lab.host.results.stored_run import opened
from lab.host.run import replay
from lab.host.run.begun import BegunRun
from lab.host.run.manifest import host
from lab.host.run.planned import PlannedRun, reduced


@dataclass(frozen=True)
class Resumed:
    """What is still to be run, by which options, into which run; and what is not as it was then."""

    planned: PlannedRun
    options: RunOptions
    begun: BegunRun
    changes: tuple[str, ...]


def prepare(run: Path, asked: RunOptions, say: replay.Say) -> Resumed:
    """The cells that a run lacks, ready to be run.

    Raises ScenarioError for a run that has all of its cells, and where its other cells would be other ones now: by
    another image, kernel, scenario or agent.
    """
    again = replay.prepare(run, asked, say)
    stored = opened(again.run)
    there = {cell.name: cell for cell in stored.cells}
    lacking = {plan.cell for plan in again.planned.plans if plan.cell not in there}
    wrong = [change.what for change in again.lacking]
    if stored.manifest.agent_sha256 != agent_sha256():
        wrong.append("the lab's agent is another one than in the cells that it has")
    if wrong:
        raise ScenarioError(
            f"{run}: cannot be taken up again: {'; '.join(wrong)}",
            hint="lab replay runs all of it again; lab merge joins what was run elsewhere",
        )
    if not lacking:
        raise ScenarioError(
            f"{run}: has all of its {plural(len(there), 'cell')}", hint=f"lab judge {run} shows what they found"
        )
    differences = tuple(StoredChange(change.what, change.needed) for change in again.changes)
    entry = Resumption(now(), host(), differences)
    manifest = replace(stored.manifest, ended_at=None, complete=False, resumed=(*stored.manifest.resumed, entry))
    begun = BegunRun(again.run, manifest, tuple(stored.result(cell) for cell in there.values()))
    return Resumed(reduced(again.planned, lacking), again.options, begun, tuple(change.what for change in differences))
