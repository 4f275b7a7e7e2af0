"""Two runs side by side: whose findings changed, which numbers differ by more than chance, and what cannot be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lab.core.comparing.differences import (
    Difference,
    manifest_differences,
    program_differences,
    target_differences,
)
from lab.core.comparing.matching import TargetPair, match_targets, named
from lab.core.comparing.model import ComparedCell, Comparison, Run, Sample, distinct
from lab.core.comparing.verdicts import Pair, compared
from lab.core.errors import ScenarioError
from lab.core.manifest import Target
from lab.core.result import CellResult
from lab.core.text import printable


def compare(
    base: Run, new: Run, matches: Sequence[str] = (), *, subset: bool = False, strict: bool = False
) -> Comparison:
    """Compare two runs. `matches` are `TARGET=TARGET` texts: these targets, and no others. With `subset` NEW is meant
    to have fewer cells than BASE; otherwise those that it lacks are missing.

    Raises ScenarioError where the runs have nothing in common, or nothing that can be compared.
    """
    _check_overrides(base, new)
    targets = match_targets(base.targets, new.targets, matches)
    pairs = _pairs(base, new, targets)
    if not pairs:
        raise ScenarioError(
            f"{base.name} and {new.name} have no cell in common: targets {named(base.targets)} and "
            f"{named(new.targets)}",
            hint="run the same scenarios, or match targets with --match TARGET=TARGET",
        )
    cells = compared(pairs, base, new)
    if all(pair.digests for pair in pairs):
        raise ScenarioError(
            "\n".join([f"{base.name} and {new.name} cannot be compared", *_refusals(cells)]),
            hint="run one of them again with the scenarios of the other",
        )
    only_base, only_new = _only_in_one(base, new, targets, pairs, asked=bool(matches))
    return Comparison(
        base=base,
        new=new,
        targets=targets,
        cells=cells,
        only_base=only_base,
        only_new=only_new,
        unfinished=(*_unfinished("BASE", base, only_new), *_unfinished("NEW", new, only_base)),
        differences=(*_of_targets(base, new, targets), *manifest_differences(base.manifest, new.manifest)),
        missing=() if subset else only_base,
        strict=strict,
    )


# -- what is compared with what ---------------------------------------------------------------------------------------


def _pairs(base: Run, new: Run, targets: Iterable[TargetPair]) -> list[Pair]:
    ours, theirs = _samples(base), _samples(new)
    return [
        Pair(variant, pair, sample, theirs[variant, pair.new])
        for pair in targets
        for (variant, target), sample in ours.items()
        if target == pair.base and (variant, pair.new) in theirs
    ]


def _samples(run: Run) -> dict[tuple[str, str], Sample]:
    cells: dict[tuple[str, str], list[CellResult]] = {}
    for cell in run.cells:
        cells.setdefault((cell.variant, cell.target), []).append(cell)
    return {(variant, target): Sample(target, tuple(repeats)) for (variant, target), repeats in cells.items()}


def _only_in_one(
    base: Run, new: Run, targets: Sequence[TargetPair], pairs: Iterable[Pair], asked: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The cells that the other run lacks; of the targets that were asked for, where some were."""
    left, right = {pair.base for pair in targets}, {pair.new for pair in targets}
    used = [(pair.variant, pair.targets) for pair in pairs]
    ours = {(variant, pair.base) for variant, pair in used}
    theirs = {(variant, pair.new) for variant, pair in used}

    def rest(run: Run, known: set[tuple[str, str]], of: set[str]) -> tuple[str, ...]:
        cells = (cell for cell in run.cells if not asked or cell.target in of)
        return tuple(cell.cell for cell in cells if (cell.variant, cell.target) not in known)

    return rest(base, ours, left), rest(new, theirs, right)


def _unfinished(name: str, run: Run, missing: Sequence[str]) -> tuple[str, ...]:
    if run.manifest.complete is not False or not missing:
        return ()
    cells = "one cell of the other is" if len(missing) == 1 else f"{len(missing)} cells of the other are"
    return (f"{name} did not end, and {cells} not in it",)


def _check_overrides(base: Run, new: Run) -> None:
    own = "each scenario's own"
    first, second = base.manifest.overrides, new.manifest.overrides
    for name, ours, theirs in (
        ("connections", first.connections, second.connections),
        ("max", first.max, second.max),
    ):
        if ours != theirs:
            sides = ((ours, base), (theirs, new))
            values = " and ".join(f"{value or own} in {run.name}" for value, run in sides)
            raise ScenarioError(
                f"the runs cannot be compared: --{name} is {values}",
                hint=f"run one of them again with the same --{name}",
            )


def _of_targets(base: Run, new: Run, targets: Iterable[TargetPair]) -> list[Difference]:
    found = []
    for pair in targets:
        ours, theirs = _target(base, pair.base), _target(new, pair.new)
        kernels = (_kernel(base, pair.base, ours), _kernel(new, pair.new, theirs))
        if pair.base != pair.new:
            found.append(Difference("target", pair.base, pair.new))
        found += target_differences(pair.base, ours, theirs, kernels)
        if not (ours.packages and theirs.packages):
            found += program_differences(pair.base, _programs(base, pair.base), _programs(new, pair.new))
    return found


def _target(run: Run, name: str) -> Target:
    return run.manifest.targets.get(name, Target())


def _kernel(run: Run, target: str, recorded: Target) -> str | None:
    """What a target's guests said, else what its manifest has."""
    said = distinct(cell.kernel_release for cell in run.cells if cell.target == target)
    return ", ".join(said or distinct([recorded.kernel_release])) or None


def _programs(run: Run, target: str) -> Mapping[str, str]:
    cells = (cell for cell in run.cells if cell.target == target)
    return {name: version for cell in cells for name, version in cell.versions.items()}


def _refusals(cells: Iterable[ComparedCell]) -> list[str]:
    return [f"  {printable(reason)}" for reason in dict.fromkeys(cell.reason for cell in cells)]
