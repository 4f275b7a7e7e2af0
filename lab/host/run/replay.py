"""`lab replay`: a stored run once more, with the same cells, images and kernels; and first what is not the same."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lab
from lab.core.errors import LabError, ScenarioError
from lab.core.manifest import Manifest
from lab.core.plan import Cell, CellPlan, Overrides, plan_cell
from lab.core.plan.repeating import Change, Recipe, cells_of, plan_changes, recipe, tool_changes
from lab.core.result import CellResult
from lab.core.scenario import Scenario, parse_scenario, scenario_digest, with_sources
from lab.host.machines.agent_package import agent_sha256
from lab.host.machines.kinds import KINDS, parse_target
from lab.host.machines.targets import TargetSpec
from lab.host.options import RunOptions, restored_options
from lab.host.results.comparison import load_run
from lab.host.results.layout import CELLS, MANIFEST, PLAN, SCENARIO
from lab.host.results.plain_files import is_folder, sha256_of
from lab.host.results.stored_cell import StoredCell
from lab.host.results.stored_run import opened
from lab.host.run.planned import PlannedRun, reduced
from lab.host.scenario_files import find_scenarios, load_scenario, scenario_directories

Say = Callable[[str], None]


@dataclass(frozen=True)
class Replay:
    """A run that can be run again, as far as it can: what to run, and everything that is not as it was."""

    run: Path  # the folder itself, where a link led to it
    options: RunOptions
    planned: PlannedRun
    changes: tuple[Change, ...]

    @property
    def lacking(self) -> tuple[Change, ...]:
        """What the cells need and cannot have."""
        return tuple(change for change in self.changes if change.needed)

    def check(self, anyway: bool) -> None:
        """Return if it can be run. Raises ScenarioError for what is unavailable, unless it is to be run anyway."""
        if self.lacking and not anyway:
            count = len(self.lacking)
            raise ScenarioError(
                f"{self.run}: cannot be run as it was: {count} thing{'s' if count > 1 else ''} that it needs "
                f"{'are' if count > 1 else 'is'} unavailable",
                hint="--anyway goes on with what is there, and says in the new manifest what was different",
            )
        if not self.planned.plans:
            raise ScenarioError(f"{self.run}: none of its cells can be run here", hint="the reasons stand above")


def prepare(run: Path, asked: RunOptions, say: Say) -> Replay:
    """A stored run, ready to be run again, and what is not as it was; no machine is started.

    Of `asked` counts what a manifest cannot tell: where to write, the mirror, cells at once (None: as then), the
    accelerator (auto: as then), and whether this machine is disposable. The user's own kernel may be prepared in the
    cache. Raises ScenarioError for a run that cannot be read at all.
    """
    folder = run.parent / run.readlink() if run.is_symlink() else run  # the new run will be the latest
    kept_run = opened(folder)
    document, manifest = kept_run.document(MANIFEST), kept_run.manifest
    if document is None:
        raise ScenarioError(f"{run}: has no {MANIFEST}", hint="name a run's folder, as in results/latest")
    try:
        results: Sequence[CellResult] = load_run(folder).cells
    except ScenarioError:
        results = ()  # none of its cells ended
    stored = recipe(manifest, kept_run.manifest_parts.wrong, results, _copies(folder, results))
    options = _options(document, manifest, stored, asked)
    changes = [Change(what) for what in stored.lacks]
    changes += tool_changes(manifest, lab.__version__, agent_sha256())
    scenarios, texts = _scenarios(manifest, stored, changes)
    specs = _specs(manifest, changes)
    pinned = _pinned(manifest, options, specs, changes, say)
    cells, plans = _plans(folder, manifest, stored, options, scenarios, changes)
    replay_of = _replay_of(folder, manifest, changes)
    whole = PlannedRun(tuple(scenarios), tuple(specs), cells, plans, texts, pinned, replay_of)
    # of a scenario or target none of whose cells is run, nothing belongs to this run
    return Replay(folder, options, reduced(whole, {plan.cell for plan in plans}), tuple(changes))


def _replay_of(folder: Path, manifest: Manifest, changes: Sequence[Change]) -> Mapping[str, Any]:
    """What the new manifest says of the run that is run again."""
    return {
        "run": folder.name,
        "started_at": manifest.started_at,
        "manifest_sha256": sha256_of(folder / MANIFEST),
        "differences": [change.to_json() for change in changes],
    }


def _copies(folder: Path, results: Sequence[CellResult]) -> dict[str, str]:
    """The scenarios' texts that the cells keep, where they are what was run."""
    texts: dict[str, str] = {}
    for cell in results:
        kept = StoredCell(folder / CELLS / Path(cell.cell).name)
        if cell.scenario not in texts and is_folder(kept.folder):
            with contextlib.suppress(LabError, OSError, ValueError):
                if scenario_digest(kept.scenario()) == cell.scenario_digest:
                    texts[cell.scenario] = kept.text(SCENARIO) or ""
    return texts


def _options(document: Mapping[str, Any], manifest: Manifest, stored: Recipe, asked: RunOptions) -> RunOptions:
    """The options of the stored run, with those that count of what is asked for now."""
    options = restored_options(document, replace(asked, parallel=None, repeat=stored.repeats))
    used = manifest.provisioner.accelerator
    return replace(
        options,
        scenarios=tuple(manifest.scenarios),
        targets=tuple(manifest.targets),
        parallel=asked.parallel or options.parallel,
        # KVM may be gone here, and is then told; emulation can always be had
        accelerator="tcg" if asked.accelerator == "auto" and used == "tcg" else asked.accelerator,
    )


# -- scenarios and cells ----------------------------------------------------------------------------------------------


def _scenarios(manifest: Manifest, stored: Recipe, changes: list[Change]) -> tuple[list[Scenario], dict[str, str]]:
    """The scenarios that can be had, with their texts; what is not as it was is added to `changes`."""
    scenarios, texts = [], {}
    for name, digest in manifest.scenarios.items():
        kept = stored.texts.get(name)
        try:
            scenario = parse_scenario(kept, f"{name}.toml") if kept is not None else _todays(name)
            own = kept if kept is not None else Path(scenario.path).read_text(encoding="utf-8")
            text = with_sources(own, scenario)
        except (LabError, OSError, ValueError) as error:
            changes.append(Change(f"scenario {name}: unavailable: {error}", True, frozenset({name})))
            continue
        if scenario_digest(scenario) != digest:
            whose = "its stored text" if kept is not None else "its text is not kept, and today's file"
            changes.append(Change(f"scenario {name}: {whose} does not mean what was run", True))
        scenarios.append(scenario)
        texts[name] = text
    return scenarios, texts


def _todays(name: str) -> Scenario:
    (path,) = find_scenarios([name], scenario_directories())
    return load_scenario(path)


def _plans(
    folder: Path,
    manifest: Manifest,
    stored: Recipe,
    options: RunOptions,
    scenarios: Sequence[Scenario],
    changes: list[Change],
) -> tuple[tuple[Cell, ...], tuple[CellPlan, ...]]:
    """The cells that can be run, with their plans, in the run's order."""
    gone = frozenset[str]().union(*(change.without for change in changes))
    found = cells_of(stored.cells, scenarios, manifest.targets, options.repeat)
    overrides = Overrides(options.connections, options.max)
    cells, plans = [], []
    for name in stored.cells:
        cell = found.get(name)
        # what is gone as a whole is said once, not for each of its cells
        if re.split("[,@]", name)[0] in gone or (cell is not None and cell.target in gone):
            continue
        if cell is None:
            changes.append(Change(f"cell {name}: its scenario gives no such cell any more", True))
            continue
        try:
            plan = plan_cell(cell, overrides)
        except ScenarioError as error:
            changes.append(Change(f"cell {name}: cannot be planned: {error}", True))
            continue
        if differing := _stored_plan_changes(folder / CELLS / name, plan):
            changes.append(Change(f"cell {name}: this lab tells the guest another {', '.join(differing)}", True))
        cells.append(cell)
        plans.append(plan)
    return tuple(cells), tuple(plans)


def _stored_plan_changes(folder: Path, plan: CellPlan) -> list[str]:
    """What differs from the plan that the cell's folder keeps; nothing where it keeps none."""
    cell = StoredCell(folder)
    try:
        cell.plan()  # not a damaged one
        return plan_changes(cell.document(PLAN) or {}, json.loads(json.dumps(plan.to_json())))
    except (LabError, OSError):
        return []


# -- machines ---------------------------------------------------------------------------------------------------------


def _specs(manifest: Manifest, changes: list[Change]) -> list[TargetSpec]:
    specs = []
    for name, recorded in manifest.targets.items():
        try:
            specs.append(parse_target(name, recorded.kernel_path))
        except ScenarioError as error:
            changes.append(Change(f"target {name}: {error}", True, frozenset({name})))
    return specs


def _pinned(
    manifest: Manifest, options: RunOptions, specs: Sequence[TargetSpec], changes: list[Change], say: Say
) -> dict[str, Any]:
    """By target what is to be used as it was; what is not as it was with the machines is added to `changes`."""
    provisioner = str(manifest.provisioner.name)
    everything = frozenset(spec.name for spec in specs)
    if provisioner not in KINDS:
        changes.append(Change(f"this lab knows no provisioner {provisioner!r:.40}", True, everything))
        return {}
    machines = KINDS[provisioner].load()
    targets = {name: target.document for name, target in manifest.targets.items()}
    try:
        if options.fleet is None:  # else it is others that make the machines
            changes += machines.changes(manifest.provisioner.document, targets, options)
    except LabError as error:
        changes.append(Change(f"{provisioner}: {error}{f' ({error.hint})' if error.hint else ''}", True, everything))
        return {}
    pinned = {}
    for spec in specs:
        found, pinned[spec.name] = KINDS[spec.kind].load().target_changes(spec, targets[spec.name], options, say)
        changes += found
    return pinned
