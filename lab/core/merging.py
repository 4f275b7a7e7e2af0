"""Several runs made one: shards of a plan, or parts of it. What they must share, what is missing, and the manifest.

Two runs belong together if a cell in one of them would have been the same cell in the other: the same scenarios,
images, kernels, loads and guests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lab.core.errors import ScenarioError
from lab.core.manifest import FleetWorker, Host, Manifest, MergedPart, Target
from lab.core.text import plural

_MOST_NAMED = 5


@dataclass(frozen=True)
class Part:
    """A run that is merged with others: its folder's name, its manifest, and the cells that it has."""

    run: str
    manifest: Manifest
    manifest_sha256: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Merged:
    """The manifest of the whole, without its end; and the cells that no part has, in the plan's order."""

    manifest: Manifest
    missing: tuple[str, ...]


# what is the same in all parts, by the words for it
_SHARED: Mapping[str, Callable[[Manifest], object]] = {
    "plan (the shards are of another run)": lambda manifest: manifest.shard and manifest.shard.plan_sha256,
    "number of shards": lambda manifest: manifest.shard and manifest.shard.count,
    "version of the lab": lambda manifest: manifest.tool_version,
    "agent": lambda manifest: manifest.agent_sha256,
    "overrides (--connections, --max, --set, --mitigate)": lambda manifest: manifest.overrides,
    "kind of machines": lambda manifest: manifest.provisioner.name,
    "deadlines": lambda manifest: dict(manifest.deadlines_seconds),
}


def merged(parts: Sequence[Part]) -> Merged:
    """The parts as one run. Raises ScenarioError that names the parts that do not belong together, and why."""
    first = parts[0]
    for other in parts[1:]:
        if (problem := next(_problems(first, other), None)) is not None:
            raise ScenarioError(
                f"{other.run} and {first.run} do not belong together: {problem}",
                hint="merge runs of one plan, on the same images and kernels; lab compare shows what differs",
            )
    _check_once(parts)
    planned = _planned(parts)
    there = {cell for part in parts for cell in part.cells}
    missing = tuple(cell for cell in planned if cell not in there)
    return Merged(_manifest(parts, planned, complete=not missing), missing)


def missing_text(parts: Sequence[Part], missing: Sequence[str]) -> str:
    """What is missing, in a line; the shards that nobody named first."""
    shards = [part.manifest.shard for part in parts if part.manifest.shard is not None]
    absent = sorted(set(range(1, shards[0].count + 1)) - {shard.index for shard in shards}) if shards else []
    more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    named = f"{', '.join(missing[:_MOST_NAMED])}{more}"
    lost = f"shard {', '.join(f'{index}/{shards[0].count}' for index in absent)} is not among them; " if absent else ""
    return f"{lost}{plural(len(missing), 'cell')} of the plan missing: {named}"


def _problems(first: Part, other: Part) -> Iterator[str]:
    """What keeps two parts from being one run."""
    ours, theirs = first.manifest, other.manifest
    for words, value in _SHARED.items():
        if value(ours) != value(theirs):
            yield f"they have another {words}"
    for name in ours.scenarios.keys() & theirs.scenarios.keys():
        if ours.scenarios[name] != theirs.scenarios[name]:
            yield f"the scenario {name} is another one"
    for name in ours.targets.keys() & theirs.targets.keys():
        for what, digest in _made_of(ours.targets[name]).items():
            if digest != _made_of(theirs.targets[name])[what]:
                yield f"{name}: the {what} is another one"


def _made_of(target: Target) -> dict[str, str | None]:
    return {"image": target.image_digest, "kernel": target.kernel_digest, "box": target.box_sha256}


def _check_once(parts: Sequence[Part]) -> None:
    """Raises ScenarioError for a cell that two parts have."""
    counts = Counter(cell for part in parts for cell in part.cells)
    if twice := [cell for cell, count in counts.items() if count > 1]:
        owners = [part.run for part in parts if twice[0] in part.cells]
        raise ScenarioError(
            f"{plural(len(twice), 'cell')} in more than one run: {twice[0]} is in {' and '.join(owners)}",
            hint="name each shard once",
        )


def _planned(parts: Sequence[Part]) -> tuple[str, ...]:
    """The names of all cells in the plan's order; without shards the parts' own, one after the other."""
    shard = parts[0].manifest.shard
    if shard is not None:
        return shard.plan
    names = [name for part in parts for name in part.manifest.cells or part.cells]
    return tuple(dict.fromkeys(names))


def _manifest(parts: Sequence[Part], planned: tuple[str, ...], complete: bool) -> Manifest:
    manifests = [part.manifest for part in parts]
    files = [manifest.scenario_files for manifest in manifests]
    return replace(
        manifests[0],
        started_at=min((one.started_at for one in manifests if one.started_at), default=None),
        ended_at=None,
        complete=complete,
        host=manifests[0].host if len({one.host for one in manifests}) == 1 else Host(),
        targets=_targets(manifests),
        scenarios={name: digest for one in manifests for name, digest in one.scenarios.items()},
        scenario_files={name: file for one in files if one for name, file in one.items()} if all(files) else None,
        cells=planned,
        shard=None,
        parts=tuple(map(_merged_part, parts)),
        workers=_workers(manifests),
    )


def _targets(manifests: Sequence[Manifest]) -> dict[str, Target]:
    """The targets of all parts, each with the layers of every part: a shard has those that its own cells asked for."""
    found: dict[str, Target] = {}
    for name, target in ((name, target) for manifest in manifests for name, target in manifest.targets.items()):
        before = found.get(name, target)
        layers = {layer.asked: layer for layer in (*before.layers, *target.layers)}
        stored = [*before.document.get("layers", ()), *target.document.get("layers", ())]
        documents = {tuple(layer["asked"]): layer for layer in stored}
        more = {"layers": list(documents.values())} if documents else {}
        found[name] = replace(target, layers=tuple(layers.values()), document={**target.document, **more})
    return found


def _workers(manifests: Sequence[Manifest]) -> tuple[FleetWorker, ...]:
    """The workers of all parts, by name; each with what it ran for any of them."""
    found: dict[str, FleetWorker] = {}
    for worker in (worker for manifest in manifests for worker in manifest.workers):
        before = found[worker.name].cells if worker.name in found else ()
        found[worker.name] = replace(worker, cells=(*before, *worker.cells))
    return tuple(found.values())


def _merged_part(part: Part) -> MergedPart:
    manifest = part.manifest
    shard = str(manifest.shard) if manifest.shard is not None else None
    return MergedPart(part.run, part.manifest_sha256, shard, manifest.host, manifest.started_at, manifest.ended_at)
