"""The cells that a run is made of, checked as far as that goes without starting anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lab.core.errors import ScenarioError
from lab.core.manifest import StoredShard
from lab.core.plan import Cell, CellPlan, Overrides, cells, describe, parse_chosen, plan_cell, select_variants
from lab.core.plan.shard import plan_digest, share
from lab.core.scenario import Scenario, with_sources
from lab.core.scenario.filling import NEEDS_FULL, cannot_fill
from lab.core.shards import Shard
from lab.host.kernels.source import join_sources
from lab.host.machines.kinds import Kind, expand_targets, kind_of
from lab.host.machines.qemu.targets import labelled, with_kernel
from lab.host.machines.targets import TargetSpec
from lab.host.options import RunOptions
from lab.host.results.stored_run import opened
from lab.host.scenario_files import load_scenarios, scenario_directories


@dataclass(frozen=True)
class PlannedRun:
    """Every cell of a run. `pinned` are the targets, by name, that are not to be had as they are today, and `replay_of`
    is the run that is run again, as the manifest tells it.
    """

    scenarios: tuple[Scenario, ...]
    targets: tuple[TargetSpec, ...]
    cells: tuple[Cell, ...]
    plans: tuple[CellPlan, ...]
    texts: Mapping[str, str]  # of the scenarios' files, by name
    pinned: Mapping[str, Any] = field(default_factory=dict)
    replay_of: Mapping[str, Any] | None = None
    shard: StoredShard | None = None

    @property
    def kind(self) -> Kind:
        """What makes the machines."""
        return kind_of(self.targets)

    def describe(self, options: RunOptions, verbose: bool = False) -> list[str]:
        """Every cell's steps, and the commands that would start its machine as far as its kind shows them."""
        commands = self.kind.load().describer(options, verbose)
        targets = {spec.name: spec for spec in self.targets}
        lines: list[str] = []
        for plan in self.plans:
            lines += [*describe(plan), *commands(targets[plan.target], plan.machine)]
            if options.mitigate:
                lines.append("  where conntrack is found attached: again, with what removes it after the last step")
        return lines


def plan_run(options: RunOptions) -> PlannedRun:
    """The cells that the options mean. Raises ScenarioError for anything wrong with scenarios, targets or numbers."""
    targets = expand_targets(options.targets)
    kind_of(targets, options.provisioner).check(options)
    kernel = join_sources(options.kernel)
    if kernel is not None:
        targets = tuple(with_kernel(spec, kernel) for spec in targets)
    return plan_on(options, labelled(targets))


def plan_on(options: RunOptions, targets: tuple[TargetSpec, ...]) -> PlannedRun:
    """The same on these targets, whatever the options say of targets and kernels. Raises ScenarioError."""
    scenarios = load_scenarios(options.scenarios, scenario_directories())
    chosen = select_variants(scenarios, parse_chosen(options.chosen))
    planned = cells(chosen, [spec.name for spec in targets], options.repeat)
    overrides = Overrides(options.connections, options.max)
    texts = {
        scenario.name: with_sources(Path(scenario.path).read_text(encoding="utf-8"), scenario) for scenario in scenarios
    }
    whole = PlannedRun(scenarios, targets, planned, tuple(plan_cell(cell, overrides) for cell in planned), texts)
    return whole if options.shard is None else sharded(whole, options.shard, _seconds(options.durations, whole.plans))


def sharded(whole: PlannedRun, shard: Shard, seconds: Mapping[str, float]) -> PlannedRun:
    """A shard of a run, by the seconds that its cells took before. Raises ScenarioError for one without a cell."""
    plans = share(whole.plans, shard, seconds)
    if not plans:
        raise ScenarioError(f"--shard {shard}: has no cell, the plan has {len(whole.plans)}", hint="take fewer shards")
    stored = StoredShard(shard.index, shard.count, plan_digest(whole.plans), tuple(plan.cell for plan in whole.plans))
    return replace(reduced(whole, {plan.cell for plan in plans}), shard=stored)


def reduced(whole: PlannedRun, names: Collection[str]) -> PlannedRun:
    """Those cells of a run that are named, with the scenarios and targets that they need."""
    plans = tuple(plan for plan in whole.plans if plan.cell in names)
    kept, aimed = {plan.scenario for plan in plans}, {plan.target for plan in plans}
    return replace(
        whole,
        scenarios=tuple(scenario for scenario in whole.scenarios if scenario.name in kept),
        targets=tuple(spec for spec in whole.targets if spec.name in aimed),
        cells=tuple(cell for cell in whole.cells if cell.name in names),
        plans=plans,
        texts={name: text for name, text in whole.texts.items() if name in kept},
    )


def _seconds(durations: Path | None, plans: Sequence[CellPlan]) -> dict[str, float]:
    return opened(durations).seconds([plan.cell for plan in plans]) if durations is not None else {}


def too_small(planned: PlannedRun) -> list[str]:
    """A line for each scenario that is expected to fill its table, and cannot with the load that was asked for."""
    scenarios = {scenario.name: scenario for scenario in planned.scenarios}
    lines = []
    for plan in {plan.scenario: plan for plan in planned.plans}.values():
        scenario = scenarios[plan.scenario]
        why = cannot_fill(scenario, plan.load.connections, plan.load.newcomers, plan.conntrack.max)
        needs = [name for name in NEEDS_FULL if any(name == expected.finding for expected in scenario.expectations)]
        if why and needs:
            lines.append(f"{plan.scenario}: {why}, so it is not judged where it expects {' or '.join(needs)}")
    return lines
