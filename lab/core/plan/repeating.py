"""What a stored run was told to do, from its manifest, so that the same can be run again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.core.errors import ScenarioError
from lab.core.plan.cells import Cell, variants
from lab.core.scenario import Scenario

Json = Mapping[str, Any]

_MOST_NAMES = 5
_REPEAT = re.compile(r"-r(\d{1,5})$")
# keys of a plan that name the cell, and do not tell the guest anything
_NAMES_OF_PLAN = frozenset({"schema_version", "cell", "target", "scenario_digest"})


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
    """What a run was told to do, but for its options (lab/host/options.py). `lacks` says what its manifest, being
    older, does not tell, and what is taken.
    """

    cells: tuple[str, ...]
    scenarios: Mapping[str, str] = field(hash=False)  # digests
    texts: Mapping[str, str] = field(hash=False)  # of the scenarios' files, as far as they are kept
    targets: Mapping[str, Json] = field(hash=False)
    provisioner: Json = field(hash=False)
    repeats: int  # of which there is a result
    lacks: tuple[str, ...]


def recipe(manifest: Json, results: Sequence[Json], copies: Mapping[str, str]) -> Recipe:
    """The recipe of a run. `results` are its cells' results, `copies` the scenarios' texts that its cells keep.

    Raises ScenarioError that names the first key that is missing or not what it must be.
    """
    targets = _table(manifest, "targets")
    for name, target in targets.items():
        if not isinstance(target, dict):
            raise _damaged(f"targets.{name}")
    return Recipe(
        cells=_cells(manifest, results),
        scenarios={str(name): str(digest) for name, digest in _table(manifest, "scenarios").items()},
        texts={**copies, **_texts(manifest)},
        targets=targets,
        provisioner=_table(manifest, "provisioner"),
        repeats=_most_repeats(results),
        lacks=tuple(_lacks(manifest, results, copies)),
    )


def cells_of(
    names: Iterable[str], scenarios: Sequence[Scenario], targets: Iterable[str], repeats: int
) -> dict[str, Cell]:
    """The cells with these names, in their order; a name that no variant, target and repeat give is left out."""
    told = tuple(names)
    # no more than are named: a number in a file that somebody sent may be any
    counts = {int(match[1]) for name in told if (match := _REPEAT.search(name)) is not None}
    every = (
        Cell(variant, target, repeat)
        for scenario in scenarios
        for variant in variants(scenario)
        for target in targets
        for repeat in sorted({1, *counts})
        if repeat <= repeats
    )
    found = {cell.name: cell for cell in every}
    return {name: found[name] for name in told if name in found}


def plan_changes(old: Json, new: Json) -> list[str]:
    """The keys in which what a guest is told differs from a stored plan; a key that the stored one lacks does not."""
    return [name for name in old if name not in _NAMES_OF_PLAN and not _covers(old[name], new.get(name))]


def tool_changes(manifest: Json, tool_version: str, agent_sha256: str) -> list[Change]:
    """What differs in the lab itself; never needed, as results of every version are comparable."""
    changes = []
    if manifest.get("tool_version") != tool_version:
        changes.append(Change(f"conntrack-lab is {tool_version}, the run was made by {manifest.get('tool_version')}"))
    if manifest.get("agent_sha256") != agent_sha256:
        changes.append(Change("the agent in the guest is another build than the run's"))
    return changes


def _covers(old: object, new: object) -> bool:
    """Whether `new` says all that `old` does: it may have further keys."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return all(name in new and _covers(value, new[name]) for name, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_covers, old, new))
    return old == new


def _lacks(manifest: Json, results: Sequence[Json], copies: Mapping[str, str]) -> Iterable[str]:
    if "cells" not in manifest:
        taken = "those that ended are taken" + ("" if manifest.get("complete") else "; the run did not end")
        yield f"the manifest is older and does not list the cells: {taken}"
    elif missing := len(manifest["cells"]) - len(results):
        yield f"the run did not end: {missing} of its {len(manifest['cells'])} cells have no result, and are run too"
    if "options" not in manifest:
        yield "the manifest is older and does not tell -j, --keep-failed, --modules, and how boxes were made: defaults"
    if "scenario_files" not in manifest:
        names = [name for name in _table(manifest, "scenarios") if name not in copies]
        what = f"today's files of {_some(names)} are taken" if names else "the cells' copies are taken"
        yield f"the manifest is older and keeps no scenario's text: {what}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _cells(manifest: Json, results: Sequence[Json]) -> tuple[str, ...]:
    names = manifest.get("cells")
    told = names if isinstance(names, list) else [cell.get("cell") for cell in results]
    if not told or not all(isinstance(name, str) for name in told):
        raise ScenarioError("the run does not tell its cells", hint="name a run of which a cell has ended")
    return tuple(told)


def _most_repeats(results: Sequence[Json]) -> int:
    counts = [cell.get("repeat") for cell in results]
    return max((count for count in counts if isinstance(count, int)), default=1)


def _texts(manifest: Json) -> dict[str, str]:
    files = _table(manifest, "scenario_files") if "scenario_files" in manifest else {}
    for name, file in files.items():
        if not isinstance(file, dict) or not isinstance(file.get("text"), str):
            raise _damaged(f"scenario_files.{name}")
    return {name: file["text"] for name, file in files.items()}


def _table(document: Json, name: str) -> Json:
    value = document.get(name)
    if not isinstance(value, dict):
        raise _damaged(name)
    return value


def _damaged(key: str) -> ScenarioError:
    return ScenarioError(f"manifest.json: {key} is missing or damaged", hint="name another run")
