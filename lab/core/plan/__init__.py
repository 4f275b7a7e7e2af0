"""From scenarios to cells, and from a cell to what its guest is told: every value filled in, nothing left to decide."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lab.core.errors import ScenarioError
from lab.core.scenario import (
    BACKEND_AXIS,
    TIMEOUT_SYSCTLS,
    TOPOLOGIES,
    Axes,
    ConntrackSpec,
    FileStep,
    LoadSpec,
    MachineSpec,
    RunStep,
    Scenario,
    Step,
    SysctlStep,
    UnloadStep,
    did_you_mean,
    placeholder_values,
    scenario_digest,
)
from lab.core.scenario.condition import Requirement
from lab.core.scenario.expectation import AxisValue
from lab.core.scenario.template import substitute
from lab.core.text import shortened

# 1 - first version of plan.json.
PLAN_VERSION = 1

# What a held connection costs its guest: two sockets, two descriptors, perhaps an entry. And what the system needs.
GUEST_BASE_MB = 400
GUEST_KIB_PER_CONNECTION = 10
FILES_PER_CONNECTION = 2
SPARE_FILES = 1024

# of a run: each is a folder, and a line of every table
MAX_REPEAT = 10_000
MAX_CELLS = 100_000

MAX_SYSCTL = "net.netfilter.nf_conntrack_max"
# the sysctl nf_conntrack_buckets is read-only up to 4.9, the parameter is writable on every kernel
BUCKETS_PARAMETER = "/sys/module/nf_conntrack/parameters/hashsize"

# A target's name that is longer, or has other characters, is cut and told apart by its digest.
_MAX_STEP = 300  # of a step's own words, in the line that tells what became of it
_MAX_COMPLAINT = 300  # of what a step printed, in the line that tells of it
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


@dataclass(frozen=True)
class Overrides:
    """What the command line sets in place of the scenario's own."""

    connections: int | None = None
    max: int | None = None


@dataclass(frozen=True)
class ExpectedRule:
    """The rule that must be at a place: a number in iptables' chain, or a handle of nftables."""

    listing: tuple[str, ...]  # argv that prints the chain
    chain: str
    number: int | None
    handle: int | None
    rule: str


@dataclass(frozen=True)
class RemoveStep:
    """Run a program that removes rules by their places, if those rules are there and no others."""

    argv: tuple[str, ...]
    expected: tuple[ExpectedRule, ...]


@dataclass(frozen=True)
class PlannedStep:
    """A step with every placeholder filled in; `key` is where the file has it."""

    key: str
    step: Step | RemoveStep


@dataclass(frozen=True)
class CellPlan:
    """All that a cell does in its guest."""

    cell: str
    scenario: str
    scenario_digest: str
    variant: str
    axes: Axes = field(hash=False)
    target: str
    repeat: int
    machine: MachineSpec
    steps: tuple[PlannedStep, ...]
    conntrack: ConntrackSpec
    load: LoadSpec
    requires: Requirement

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that the steps run, each once: what the image must have."""
        argvs = (planned.step.argv for planned in self.steps if isinstance(planned.step, RunStep))
        return tuple(dict.fromkeys(argv[0] for argv in argvs))

    @property
    def settings(self) -> Mapping[str, int]:
        """The table's settings by sysctl name, or path for what is no sysctl, in the order to write them.

        Those that do not exist in the guest are to be left: that state has no table.
        """
        buckets, most = self.conntrack.buckets, self.conntrack.max
        return {
            **({BUCKETS_PARAMETER: buckets} if buckets is not None else {}),
            **({MAX_SYSCTL: most} if most is not None else {}),
            **{TIMEOUT_SYSCTLS[name]: seconds for name, seconds in self.conntrack.timeouts.items()},
        }

    def to_json(self) -> dict[str, object]:
        """plan.json; `steps` and `settings` are what the guest is sent."""
        return {
            "schema_version": PLAN_VERSION,
            "cell": self.cell,
            "scenario": self.scenario,
            "scenario_digest": self.scenario_digest,
            "variant": self.variant,
            "axes": dict(self.axes),
            "target": self.target,
            "repeat": self.repeat,
            "machine": {
                "boot_args": list(self.machine.boot_args),
                "memory_mb": self.machine.memory_mb,
                "vcpus": self.machine.vcpus,
                "topology": self.machine.topology or TOPOLOGIES[0],
            },
            "steps": [step_request(planned) for planned in self.steps],
            "settings": dict(self.settings),
            "max": self.conntrack.max,
            "load": {name: value for name, value in vars(self.load).items() if value is not None},
        }


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


def plan_cell(cell: Cell, overrides: Overrides | None = None, max_files: int | None = None) -> CellPlan:
    """What the guest of a cell is to do. `max_files` is the guest's limit of open files, where it is known.

    Raises ScenarioError when that cannot be done: more connections than the guest's memory or files can hold, an
    override that is not positive.
    """
    overrides = overrides or Overrides()
    scenario, axes = cell.variant.scenario, cell.variant.axes
    _check_override("--connections", overrides.connections)
    _check_override("--max", overrides.max)
    values = placeholder_values(axes)
    machine = replace(
        scenario.machine, boot_args=tuple(substitute(text, values) for text in scenario.machine.boot_args)
    )
    load = replace(scenario.load, connections=overrides.connections or scenario.load.connections)
    _check_load(scenario, load, max_files)
    return CellPlan(
        cell=cell.name,
        scenario=scenario.name,
        scenario_digest=scenario_digest(scenario),
        variant=cell.variant.name,
        axes=axes,
        target=cell.target,
        repeat=cell.repeat,
        machine=machine,
        steps=tuple(
            PlannedStep(f"state[{index}]", _fill_in(step, values))
            for index, step in enumerate(scenario.state)
            if _applies(step.when, axes)
        ),
        conntrack=replace(scenario.conntrack, max=overrides.max or scenario.conntrack.max),
        load=load,
        requires=requirement(cell.variant),
    )


def requirement(variant: Variant) -> Requirement:
    """What a variant needs of its machine: what the scenario says, and the backend that its axis names."""
    requires = variant.scenario.requires
    backend = variant.axes.get(BACKEND_AXIS)
    if backend is None or backend in requires.backends:
        return requires
    return replace(requires, backends=(*requires.backends, str(backend)))


def reachable_connections(memory_mb: int, max_files: int | None = None) -> int:
    """How many connections a guest of this size can hold, both ends of each in it."""
    by_memory = max(0, memory_mb - GUEST_BASE_MB) * 1024 // GUEST_KIB_PER_CONNECTION
    if max_files is None:
        return by_memory
    return min(by_memory, max(0, max_files - SPARE_FILES) // FILES_PER_CONNECTION)


def memory_needed_mb(connections: int) -> int:
    """The guest memory that so many connections need."""
    return GUEST_BASE_MB - (-connections * GUEST_KIB_PER_CONNECTION // 1024)


def step_request(planned: PlannedStep) -> dict[str, object]:
    """A step as the guest's agent takes it."""
    match planned.step:
        case RunStep(argv, refused):
            what: dict[str, object] = {"kind": "run", "argv": list(argv), "refused": refused}
        case FileStep(path, text):
            what = {"kind": "file", "path": path, "text": text}
        case SysctlStep(values):
            what = {"kind": "sysctl", "values": dict(values)}
        case UnloadStep(modules):
            what = {"kind": "unload", "modules": list(modules)}
        case RemoveStep(argv, expected):
            rules = [{**vars(one), "listing": list(one.listing)} for one in expected]
            what = {"kind": "remove", "argv": list(argv), "expected": rules}
    return {"key": planned.key, **what}


def describe(plan: CellPlan) -> tuple[str, ...]:
    """What a cell will do, a line for each thing, for `--dry-run`; safe for a terminal whatever the file says."""
    machine, load = plan.machine, plan.load
    boot_args = f", boot arguments {' '.join(machine.boot_args)}" if machine.boot_args else ""
    topology = f", topology {machine.topology}" if machine.topology else ""
    lines = [plan.cell, f"  machine: {machine.memory_mb} MB, {machine.vcpus} vCPUs{topology}{boot_args}"]
    for planned in plan.steps:
        first, *more = _describe_step(planned.step)
        lines += [f"  {planned.key}: {first}", *(f"    | {line}" for line in more)]
    lines += [f"  set, where it exists: {name} = {value}" for name, value in plan.settings.items()]
    lines.append(f"  load: {describe_load(load)}")
    return tuple(_printable(line) for line in lines)


def describe_load(load: LoadSpec) -> str:
    """A load in a phrase: `churn 5000 connections, 500 per second, each for 0.1 s, ended by fin`."""
    parts = [f"{load.kind} {load.connections} connections"]
    parts += [f"{load.rate_per_second} per second"] if load.rate_per_second else []
    parts += [f"each for {load.hold_seconds:g} s"] if load.hold_seconds is not None else []
    parts += [f"ended by {load.close}"] if load.close else []
    parts += [f"then {load.newcomers} newcomers over TCP"] if load.newcomers else []
    return ", ".join(parts)


def describe_outcome(plan: CellPlan, outcome: Mapping[str, object]) -> str:
    """What became of a step, in a line: `state[0]: run nft -f x: exit status 1, 0.2 s: what it complained of`.

    `outcome` is what the guest said, so it may be anything; the line is safe for a terminal all the same.
    """
    number, seconds = outcome.get("number"), outcome.get("seconds")
    known = isinstance(number, int) and 0 <= number < len(plan.steps)
    planned = plan.steps[number] if known and isinstance(number, int) else None
    step = (
        shortened(f"{planned.key}: {_describe_step(planned.step)[0]}", _MAX_STEP)
        if planned
        else "a step that was not planned"
    )
    parts = [f"exit status {outcome.get('exit_status')!r:.20}"]
    parts += [f"{seconds:.1f} s"] if isinstance(seconds, float) else []
    complaint = " ".join(str(outcome.get("stderr") or "")[:_MAX_COMPLAINT].split())
    wanted = "" if outcome.get("as_wanted") is True else ", not as wanted"
    return _printable(f"{step}: {', '.join(parts)}{wanted}{f': {complaint}' if complaint else ''}")


def _describe_step(step: Step | RemoveStep) -> tuple[str, ...]:
    match step:
        case RemoveStep(argv, _):
            return (f"run {shlex.join(argv)}",)
        case RunStep(argv, refused):
            return (f"run {shlex.join(argv)}{' (must be refused)' if refused else ''}",)
        case FileStep(path, text, source=source) if source:
            return (f"write {path} from {source}, {len(text.encode())} bytes",)
        case FileStep(path, text):
            return (f"write {path}", *text.splitlines())
        case SysctlStep(values):
            return (f"sysctl {' '.join(f'{name}={shlex.quote(value)}' for name, value in values)}",)
        case UnloadStep(modules):
            return (f"unload, where loaded: {' '.join(modules)}",)


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in line)


def _fill_in(step: Step, values: Mapping[str, str]) -> Step:
    """The step with its placeholders replaced; its condition has done its work and is left out."""
    match step:
        case RunStep(argv, refused):
            return RunStep(tuple(substitute(word, values) for word in argv), refused)
        case FileStep(path, text, source=source):
            return FileStep(substitute(path, values), substitute(text, values), source=source)
        case SysctlStep(pairs):
            return SysctlStep(tuple((name, substitute(value, values)) for name, value in pairs))
        case UnloadStep(modules):
            return UnloadStep(modules)


def _applies(when: Mapping[str, AxisValue], axes: Axes) -> bool:
    return all(axes.get(axis) == value for axis, value in when.items())


def _check_override(option: str, value: int | None) -> None:
    if value is not None and not 1 <= value < 2**31:
        raise ScenarioError(f"{option}: is {value}, must be 1 to {2**31 - 1}", hint=f"for example {option} 1000")


def open_at_once(load: LoadSpec) -> int:
    """How many connections a load has open at the same time, at most."""
    if load.kind == "hold":
        return load.connections
    if load.kind == "churn":
        if not load.rate_per_second:
            return load.connections
        return min(load.connections, math.ceil(load.rate_per_second * (load.hold_seconds or 0.0)) + 1)
    return load.newcomers or 0


def _check_load(scenario: Scenario, load: LoadSpec, max_files: int | None) -> None:
    memory_mb = scenario.machine.memory_mb
    reachable = reachable_connections(memory_mb, max_files)
    wanted = open_at_once(load)
    if wanted <= reachable:
        return
    own = load.connections == scenario.load.connections
    where = f"{scenario.path}: load.connections" if own else f"{scenario.path}: --connections"
    mends = [f"ask for at most {reachable}"] if reachable else []
    if reachable == reachable_connections(memory_mb):
        mends.append(f"set machine.memory_mb = {memory_needed_mb(wanted)}")
    elif not reachable:
        mends.append("let more files be open in the machine")
    what = f"is {wanted}, at most {reachable} can be reached in a machine of {memory_mb} MB"
    raise ScenarioError(f"{where}: {what}", hint=", or ".join(mends))


def folder_of_target(target: str) -> str:
    """A target's part of a cell's name."""
    safe = _UNSAFE.sub("_", target)
    if safe == target and len(target) <= _MAX_TARGET_FOLDER and not _LOOKS_REPEATED.search(target):
        return target
    return f"{safe[:_MAX_TARGET_FOLDER]}-{hashlib.sha256(target.encode()).hexdigest()[:8]}"
