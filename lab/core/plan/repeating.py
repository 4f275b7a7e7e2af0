"""What a stored run was told to do, from its manifest, so that the same can be run again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.core.errors import ScenarioError
from lab.core.manifest import ALWAYS, Manifest
from lab.core.plan.cells import Cell, variants
from lab.core.result import CellResult
from lab.core.scenario import TOPOLOGIES, Scenario

_MOST_NAMES = 5
_REPEAT = re.compile(r"-r(\d{1,5})$")
# keys of a plan that name the cell, and do not tell the guest anything
_NAMES_OF_PLAN = frozenset({"schema_version", "cell", "target", "scenario_digest"})
# the parts of a manifest without which nothing can be run again, beside ALWAYS
_NEEDED = re.compile(r"options|scenario_files|(overrides|options|deadlines_seconds|targets)\.[^.]+|scenario_files\..+")


@dataclass(frozen=True)
class Change:
    """Something that is not as it was. `needed`: without it the cells are other ones. `without` are the targets and
    scenarios that cannot be run at all because of it.
    """

    what: str
    needed: bool = False
    without: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, object]:
        """As in the manifest's `replay_of.differences`."""
        return {"what": self.what, "needed": self.needed}


@dataclass(frozen=True)
class Recipe:
    """What a run was to do, but for its options (lab/host/options.py). `lacks` says what its manifest, being
    older, does not tell, and what is taken.
    """

    cells: tuple[str, ...]
    texts: Mapping[str, str] = field(hash=False)  # of the scenarios' files, as far as they are kept
    repeats: int  # of which there is a result
    lacks: tuple[str, ...]


def recipe(
    manifest: Manifest, wrong: Iterable[str], results: Sequence[CellResult], copies: Mapping[str, str]
) -> Recipe:
    """The recipe of a run. `wrong` names what could not be read of its manifest, `results` are its cells' results,
    `copies` the scenarios' texts that its cells keep.

    Raises ScenarioError that names the first key that is missing or not what it must be.
    """
    for name in wrong:
        if name in ALWAYS or _NEEDED.fullmatch(name):
            raise _damaged(name)
    kept = {name: file.text for name, file in (manifest.scenario_files or {}).items()}
    return Recipe(
        cells=_cells(manifest, results),
        texts={**copies, **kept},
        repeats=max((cell.repeat for cell in results), default=1),
        lacks=tuple(_lacks(manifest, results, copies)),
    )


def cells_of(
    names: Iterable[str], scenarios: Sequence[Scenario], targets: Iterable[str], repeats: int
) -> dict[str, Cell]:
    """The cells with these names, in their order; a name that no variant, target and repeat give is left out."""
    asked_for = tuple(names)
    # no more than are named: a number in a file that somebody sent may be any
    counts = {int(match[1]) for name in asked_for if (match := _REPEAT.search(name)) is not None}
    every = (
        Cell(variant, target, repeat)
        for scenario in scenarios
        for variant in variants(scenario)
        for target in targets
        for repeat in sorted({1, *counts})
        if repeat <= repeats
    )
    found = {cell.name: cell for cell in every}
    return {name: found[name] for name in asked_for if name in found}


def plan_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys in which what a guest is asked differs from a stored plan; a key that the stored one lacks does not."""
    named = {**old, "machine": _with_path(old.get("machine"))}
    return [name for name in named if name not in _NAMES_OF_PLAN and not _covers(named[name], new.get(name))]


def _with_path(machine: object) -> object:
    """A stored plan's machine; older ones called the path a topology."""
    if not isinstance(machine, Mapping) or machine.get("topology") not in TOPOLOGIES:
        return machine
    rest = {name: value for name, value in machine.items() if name != "topology"}
    return {**rest, "path": TOPOLOGIES[str(machine["topology"])]}


def tool_changes(manifest: Manifest, tool_version: str, agent_sha256: str) -> list[Change]:
    """What differs in the lab itself; never needed, as results of every version are comparable."""
    changes = []
    if manifest.tool_version != tool_version:
        changes.append(Change(f"conntrack-lab is {tool_version}, the run was made by {manifest.tool_version}"))
    if manifest.agent_sha256 != agent_sha256:
        changes.append(Change("the agent in the guest is another build than the run's"))
    return changes


def _covers(old: object, new: object) -> bool:
    """Whether `new` says all that `old` does: it may have further keys."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return all(name in new and _covers(value, new[name]) for name, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_covers, old, new))
    return old == new


def _lacks(manifest: Manifest, results: Sequence[CellResult], copies: Mapping[str, str]) -> Iterable[str]:
    if manifest.cells is None:
        taken = "those that ended are taken" + ("" if manifest.complete else "; the run did not end")
        yield f"the manifest is older and does not list the cells: {taken}"
    elif missing := len(manifest.cells) - len(results):
        yield f"the run did not end: {missing} of its {len(manifest.cells)} cells have no result, and are run too"
    if manifest.options is None:
        yield "the manifest is older and does not tell -j, --keep-failed, --modules, and how boxes were made: defaults"
    if manifest.scenario_files is None:
        names = [name for name in manifest.scenarios if name not in copies]
        what = f"today's files of {_some(names)} are taken" if names else "the cells' copies are taken"
        yield f"the manifest is older and keeps no scenario's text: {what}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _cells(manifest: Manifest, results: Sequence[CellResult]) -> tuple[str, ...]:
    names = manifest.cells if manifest.cells is not None else tuple(cell.cell for cell in results)
    if not names:
        raise ScenarioError("the run does not tell its cells", hint="name a run of which a cell has ended")
    return names


def _damaged(key: str) -> ScenarioError:
    return ScenarioError(f"manifest.json: {key} is missing or damaged", hint="name another run")
