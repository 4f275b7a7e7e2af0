"""`lab replay`: a stored run once more, with the same cells, images and kernels; and first what is not the same."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import lab
from lab.core.errors import LabError, ScenarioError
from lab.core.plan import Cell, CellPlan, plan_cell
from lab.core.plan.repeating import Change, Recipe, cells_of, plan_changes, recipe, tool_changes
from lab.core.scenario import Scenario, parse_scenario, scenario_digest, with_sources
from lab.host import images, kernels
from lab.host.images import boxes
from lab.host.machines import accelerator
from lab.host.machines.agent_package import agent_zipapp
from lab.host.machines.machine import Deadlines
from lab.host.machines.preparing import Pinned
from lab.host.machines.qemu.binary import find_qemu
from lab.host.machines.targets import TARGETS, TargetSpec, parse_target
from lab.host.machines.this_host import require_disposable
from lab.host.machines.vagrant.commands import vagrant_version
from lab.host.results.comparison import load_run
from lab.host.results.plain_files import is_folder, read_text, sha256_of
from lab.host.results.store import MANIFEST, check_run, read_manifest, read_plan
from lab.host.results.sums import CELLS
from lab.host.run.commands import PlannedRun, RunOptions
from lab.host.run.runner import stored_scenario
from lab.host.scenario_files import find_scenarios, load_scenario, scenario_directories

Json = Mapping[str, Any]
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
        """Return if it can be run. Raises ScenarioError for what cannot be had, unless it is to be run anyway."""
        if self.lacking and not anyway:
            count = len(self.lacking)
            raise ScenarioError(
                f"{self.run}: cannot be run as it was: {count} thing{'s' if count > 1 else ''} that it needs "
                f"{'are' if count > 1 else 'is'} unavailable",
                hint="--anyway goes on with what is there, and says in the new manifest what was different",
            )
        if not self.planned.plans:
            raise ScenarioError(f"{self.run}: none of its cells can be run here", hint="the reasons stand above")


def prepare(run: Path, wish: RunOptions, say: Say) -> Replay:
    """A stored run, ready to be run again, and what is not as it was; no machine is started.

    Of `wish` counts what a recipe cannot tell: where to write, the mirror, cells at once (None: as then), the
    accelerator (auto: as then), and whether this machine is disposable. A kernel of one's own may be prepared in the
    cache. Raises ScenarioError for a run that cannot be read at all.
    """
    folder = run.parent / run.readlink() if run.is_symlink() else run  # the new run will be the latest
    check_run(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ScenarioError(f"{run}: has no {MANIFEST}", hint="name a run's folder, as in results/latest")
    try:
        results: Sequence[Json] = load_run(folder).cells
    except ScenarioError:
        results = ()  # none of its cells ended
    told = recipe(manifest, results, _copies(folder, results))
    changes = [Change(what) for what in told.lacks]
    changes += tool_changes(manifest, lab.__version__, hashlib.sha256(agent_zipapp()).hexdigest())
    scenarios, texts = _scenarios(told, changes)
    specs = _specs(told, changes)
    options = _options(told, wish)
    pinned: dict[str, Pinned] = {}
    for found in _machines(told, options, specs, say):
        if isinstance(found, Change):
            changes.append(found)
        else:
            pinned[found[0]] = found[1]
    cells, plans = _plans(folder, told, scenarios, changes)
    # of a scenario or target none of whose cells is run, nothing belongs to this run
    kept, aimed = {plan.scenario for plan in plans}, {plan.target for plan in plans}
    planned = PlannedRun(
        tuple(scenario for scenario in scenarios if scenario.name in kept),
        tuple(spec for spec in specs if spec.name in aimed),
        cells,
        plans,
        {name: text for name, text in texts.items() if name in kept},
        pinned,
    )
    replay_of = {
        "run": folder.name,
        "started_at": manifest.get("started_at"),
        "manifest_sha256": sha256_of(folder / MANIFEST),
        "differences": [change.to_json() for change in changes],
    }
    return Replay(folder, replace(options, replay_of=replay_of), planned, tuple(changes))


def _copies(folder: Path, results: Sequence[Json]) -> dict[str, str]:
    """The scenarios' texts that the cells keep, where they are what was run."""
    texts: dict[str, str] = {}
    for cell in results:
        path = folder / CELLS / Path(cell["cell"]).name
        if cell["scenario"] not in texts and is_folder(path):
            try:
                if scenario_digest(stored_scenario(path)) == cell["scenario_digest"]:
                    texts[cell["scenario"]] = read_text(path / "scenario.toml")
            except (LabError, OSError, ValueError):
                continue
    return texts


def _options(told: Recipe, wish: RunOptions) -> RunOptions:
    known = {field.name for field in fields(Deadlines)}
    deadlines = {name: value for name, value in told.deadlines_seconds.items() if name in known}
    used = str(told.provisioner.get("accelerator") or "auto")
    return replace(
        wish,
        scenarios=tuple(told.scenarios),
        targets=tuple(told.targets),
        kernel=None,  # the targets' names have it
        modules=Path(told.options["modules"]) if told.options["modules"] else None,
        # KVM may be gone here, and is then told; emulation can always be had
        accelerator=wish.accelerator if wish.accelerator != "auto" else "tcg" if used == "tcg" else "auto",
        connections=told.overrides.connections,
        max=told.overrides.max,
        chosen=told.chosen,
        repeat=told.options["repeat"],
        parallel=wish.parallel or told.options["parallel"],
        deadlines=replace(wish.deadlines, **deadlines),
        keep_failed=told.options["keep_failed"],
        mitigate=told.mitigate,
        share_machine=told.options["share_machine"],
        provider=told.options["provider"],
        control=told.options["control"],
    )


# -- scenarios and cells ----------------------------------------------------------------------------------------------


def _scenarios(told: Recipe, changes: list[Change]) -> tuple[list[Scenario], dict[str, str]]:
    """The scenarios that can be had, with their texts; what is not as it was is added to `changes`."""
    scenarios, texts = [], {}
    for name, digest in told.scenarios.items():
        kept = told.texts.get(name)
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
    folder: Path, told: Recipe, scenarios: Sequence[Scenario], changes: list[Change]
) -> tuple[tuple[Cell, ...], tuple[CellPlan, ...]]:
    """The cells that can be run, with their plans, in the run's order."""
    gone = frozenset[str]().union(*(change.without for change in changes))
    found = cells_of(told.cells, scenarios, told.targets, told.options["repeat"])
    cells, plans = [], []
    for name in told.cells:
        cell = found.get(name)
        # what is gone as a whole is told once, not for each of its cells
        if re.split("[,@]", name)[0] in gone or (cell is not None and cell.target in gone):
            continue
        if cell is None:
            changes.append(Change(f"cell {name}: its scenario gives no such cell any more", True))
            continue
        try:
            plan = plan_cell(cell, told.overrides)
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
    try:
        return plan_changes(read_plan(folder), json.loads(json.dumps(plan.to_json())))
    except (LabError, OSError):
        return []


# -- machines ---------------------------------------------------------------------------------------------------------


def _specs(told: Recipe, changes: list[Change]) -> list[TargetSpec]:
    specs = []
    for name, recorded in told.targets.items():
        try:
            specs.append(parse_target(name, recorded.get("kernel_path")))
        except ScenarioError as error:
            changes.append(Change(f"target {name}: {error}", True, frozenset({name})))
    return specs


def _machines(
    told: Recipe, options: RunOptions, specs: Sequence[TargetSpec], say: Say
) -> Iterator[Change | tuple[str, Pinned]]:
    """What is not as it was with the machines; and, by target, the image and kernel that are to be used."""
    provisioner = str(told.provisioner.get("name"))
    check = {"qemu": _qemu, "vagrant": _vagrant, "host": _host}.get(provisioner)
    everything = frozenset(spec.name for spec in specs)
    if check is None:
        yield Change(f"this lab knows no provisioner {provisioner!r:.40}", True, everything)
        return
    try:
        yield from check(told, options)
    except LabError as error:
        yield Change(f"{provisioner}: {error}{f' ({error.hint})' if error.hint else ''}", True, everything)
        return
    for spec in specs:
        recorded = told.targets[spec.name]
        recorded = recorded if isinstance(recorded, dict) else {}
        if spec.provisioner == "vagrant":
            yield from _box(spec, recorded)
        elif spec.provisioner == "qemu":
            yield from _image_and_kernel(spec, recorded, options, say)


def _qemu(told: Recipe, options: RunOptions) -> Iterator[Change]:
    qemu, recorded = find_qemu(), told.provisioner
    if recorded.get("qemu_version") != qemu.version:
        yield Change(f"QEMU is {qemu.version}, the run had {recorded.get('qemu_version')}")
    used, wish = recorded.get("accelerator"), options.accelerator
    known = accelerator.remembered(qemu)
    if wish == "auto" and used == "kvm" and not (known is not None and known.works):
        why = "is not known yet" if known is None else f"is known: it does not ({known.seen})"
        yield Change(f"the run had KVM; whether a guest boots with it here {why}")
    elif wish not in ("auto", used):
        yield Change(f"the accelerator is {wish}, the run had {used}")
    if used == "kvm" and recorded.get("host_cpu") != qemu.host_cpu:
        yield Change(f"the processor is {qemu.host_cpu}, the run had {recorded.get('host_cpu')}")


def _vagrant(told: Recipe, options: RunOptions) -> Iterator[Change]:
    version = vagrant_version()
    if told.provisioner.get("vagrant_version") != version:
        yield Change(f"Vagrant is {version}, the run had {told.provisioner.get('vagrant_version')}")


def _host(told: Recipe, options: RunOptions) -> Iterator[Change]:
    require_disposable(options.disposable_host)
    release = os.uname().release
    for name, target in told.targets.items():
        if target.get("kernel_release") != release:
            yield Change(f"{name}: its kernel is {release}, the run had {target.get('kernel_release')}", True)


def _box(spec: TargetSpec, recorded: Json) -> Iterator[Change]:
    """Whether a box is the one that was used. Raises nothing: what cannot be told is a change, too."""
    wanted, name = recorded.get("box_sha256"), str(spec.box)
    path = Path(name.partition("#")[0]).expanduser()
    if wanted is None:
        yield Change(f"{spec.name}: the run did not know the box's digest, so it may be another one")
    elif "://" in name:
        return  # by its checksum, which its name has
    elif name in TARGETS:
        built = boxes.load(TARGETS[name])
        if built is None or built.sha256 != wanted:
            is_there = "is another build" if built else "is not there, and would be built of today's packages"
            yield Change(f"{spec.name}: the box {is_there}; the run had {wanted[:12]}", True)
    elif not path.is_file():
        yield Change(f"{spec.name}: the box is gone", True, frozenset({spec.name}))
    elif (actual := sha256_of(path)) != wanted:
        yield Change(f"{spec.name}: the box is another one, {actual[:12]}; the run had {wanted[:12]}", True)


def _image_and_kernel(
    spec: TargetSpec, recorded: Json, options: RunOptions, say: Say
) -> Iterator[Change | tuple[str, Pinned]]:
    """The image with the digests that were recorded, of whatever recipe; and the kernel of one's own, where it is."""
    wanted = recorded.get("image_sha256s")
    image = images.with_files(wanted) if isinstance(wanted, dict) else None
    todays = _todays_image(spec)
    if image is None:
        is_there = "another build of it is in the cache" if todays else "none is in the cache; one of today is built"
        yield Change(
            f"{spec.name}: the image that was used, built {recorded.get('image_built')}, is gone; {is_there}", True
        )
    kernel = None
    if spec.kernel is not None:
        changes, kernel = _kernel(spec, spec.kernel, recorded, image or todays, options, say)
        yield from changes
    yield spec.name, Pinned(image, kernel)


def _todays_image(spec: TargetSpec) -> images.Image | None:
    try:
        return images.load(spec.target)
    except LabError:
        return None


def _kernel(
    spec: TargetSpec, source: str, recorded: Json, image: images.Image | None, options: RunOptions, say: Say
) -> tuple[list[Change], kernels.KernelBundle | None]:
    """What became of a kernel of one's own, and its prepared copy where that has the digest that was recorded."""
    wanted = str(recorded.get("kernel_digest"))
    kept = next(kernels.bundles_of(wanted), None)
    path = kernels.local_path(source)
    if path is not None and not path.exists():
        if kept is not None:
            return [Change(f"{path}: the kernel's file is gone; its copy in the cache is used")], kept
        return [Change(f"{path}: the kernel is gone", True, frozenset({spec.name}))], None
    if kept is None and image is None:
        return [Change(f"{source}: without an image nobody can tell whether the kernel is the run's", True)], None
    if kept is None and image is not None:
        try:
            kept = kernels.prepare(source, busybox=image.busybox, modules=options.modules, progress=say)
        except LabError as error:
            return [Change(f"{source}: {error}", True, frozenset({spec.name}))], None
    if kept is not None and kept.digest == wanted:
        return [], kept
    return [Change(f"{source}: the kernel is another one than the run's, {wanted[:12]}", True)], None
