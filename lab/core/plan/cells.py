"""From scenarios to cells: variants, the targets they run on, and the names of both."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lab.core.errors import ScenarioError
from lab.core.scenario import Axes, Scenario, did_you_mean

# of a run: each is a folder, and a line of every table
MAX_REPEAT = 10_000
MAX_CELLS = 100_000

# A target's name that is longer, or has other characters, is cut and told apart by its digest.
_MAX_TARGET_FOLDER = 60  # with the longest variant a folder's name stays under 255 bytes
_UNSAFE = re.compile(r"[^A-Za-z0-9.+_-]+")
_LOOKS_REPEATED = re.compile(r"-r\d+$")


@dataclass(frozen=True)
class Variant:
    """A scenario with its axes fixed."""

    scenario: Scenario
    axes: Axes = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """For people and for folders alike: `nat-flushed,iptables=nft`; no two variants have the same."""
        return ",".join((self.scenario.name, *(f"{axis}={value}" for axis, value in self.axes.items())))


@dataclass(frozen=True)
class Cell:
    """A variant on a target, once; `repeat` counts from 1."""

    variant: Variant
    target: str
    repeat: int = 1

    @property
    def name(self) -> str:
        """The cell's folder: `VARIANT@TARGET`, from the second repeat on with `-rN`.

        A target whose name no folder can have (a path in it) is cut down and told apart by a digest.
        """
        suffix = f"-r{self.repeat}" if self.repeat > 1 else ""
        return f"{self.variant.name}@{folder_of_target(self.target)}{suffix}"


def parse_chosen(texts: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """The axes that `axis=value` texts choose; one axis may be given several values. Raises ScenarioError."""
    chosen: dict[str, tuple[str, ...]] = {}
    for text in texts:
        axis, equals, value = text.partition("=")
        if not (axis and equals and value):
            raise ScenarioError(f"--set {text}: is not of the form axis=value", hint="for example --set iptables=nft")
        chosen[axis] = (*chosen.get(axis, ()), value)
    return chosen


def variants(scenario: Scenario, chosen: Mapping[str, Sequence[str]] | None = None) -> tuple[Variant, ...]:
    """The variants of one scenario that have the chosen values, the file's order kept, the last axis fastest.

    An axis that the scenario lacks chooses nothing in it: `--set iptables=nft` keeps a scenario that has no rules.
    """
    matrix = scenario.matrix
    kept = (
        [value for value in values if chosen is None or axis not in chosen or str(value) in chosen[axis]]
        for axis, values in matrix.items()
    )
    return tuple(Variant(scenario, dict(zip(matrix, values, strict=True))) for values in itertools.product(*kept))


def select_variants(scenarios: Sequence[Scenario], chosen: Mapping[str, Sequence[str]]) -> tuple[Variant, ...]:
    """The variants of all scenarios that have the chosen values.

    Raises ScenarioError for an axis or a value that none of the scenarios has, and when nothing is left.
    """
    known: dict[str, dict[str, None]] = {}
    for scenario in scenarios:
        for axis, values in scenario.matrix.items():
            known.setdefault(axis, {}).update(dict.fromkeys(map(str, values)))
    for axis, wanted in chosen.items():
        if axis not in known:
            raise ScenarioError(f"--set {axis}: no scenario asked for has this axis", hint=did_you_mean(axis, known))
        for value in wanted:
            if value not in known[axis]:
                hint = did_you_mean(value, known[axis])
                raise ScenarioError(f"--set {axis}={value}: no scenario asked for has this value", hint=hint)
    selected = tuple(variant for scenario in scenarios for variant in variants(scenario, chosen))
    if not selected:
        texts = " ".join(f"{axis}={value}" for axis, values in chosen.items() for value in values)
        raise ScenarioError(f"--set {texts}: no variant has all of these", hint="choose fewer axes")
    return selected


def cells(chosen: Iterable[Variant], targets: Sequence[str], repeat: int = 1) -> tuple[Cell, ...]:
    """Every variant on every target, `repeat` times; a target's cells stand together, as they share a machine."""
    if not 1 <= repeat <= MAX_REPEAT:
        raise ScenarioError(f"--repeat: is {repeat}, must be 1 to {MAX_REPEAT}", hint="--repeat 1")
    counts = range(1, repeat + 1)
    ordered = tuple(chosen)
    if (count := len(targets) * len(ordered) * repeat) > MAX_CELLS:
        raise ScenarioError(
            f"these are {count} cells, a run has at most {MAX_CELLS}",
            hint="choose fewer scenarios, or a lower --repeat",
        )
    return tuple(Cell(variant, target, count) for target in targets for variant in ordered for count in counts)


def folder_of_target(target: str) -> str:
    """A target's part of a cell's name."""
    safe = _UNSAFE.sub("_", target)
    if safe == target and len(target) <= _MAX_TARGET_FOLDER and not _LOOKS_REPEATED.search(target):
        return target
    return f"{safe[:_MAX_TARGET_FOLDER]}-{hashlib.sha256(target.encode()).hexdigest()[:8]}"
