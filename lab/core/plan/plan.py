"""From a cell to what its guest is sent: every value filled in, nothing left to decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lab.core.errors import ScenarioError
from lab.core.plan.cells import Cell, Variant
from lab.core.plan.reach import check_reachable
from lab.core.scenario import (
    BACKEND_AXIS,
    DEFAULT_PATH,
    FAMILIES,
    PATHS,
    TIMEOUT_SYSCTLS,
    Axes,
    ConntrackSpec,
    FileStep,
    LoadSpec,
    MachineSpec,
    RunStep,
    Step,
    SysctlStep,
    UnloadStep,
    placeholder_values,
    scenario_digest,
)
from lab.core.scenario.condition import Requirement
from lab.core.scenario.expectation import chosen_by
from lab.core.scenario.template import substitute

# 1 - first version of plan.json.
PLAN_VERSION = 1

MAX_SYSCTL = "net.netfilter.nf_conntrack_max"
# the sysctl nf_conntrack_buckets is read-only up to 4.9, the parameter is writable on every kernel
BUCKETS_PARAMETER = "/sys/module/nf_conntrack/parameters/hashsize"


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
    during: tuple[PlannedStep, ...] = ()  # while the load is there

    @property
    def families(self) -> tuple[str, ...]:
        """The families that the load goes over."""
        family = self.load.family or FAMILIES[0]
        return FAMILIES[:-1] if family == FAMILIES[-1] else (family,)

    @property
    def touched_ends(self) -> tuple[str, ...]:
        """The ends of the path that a step does something in: by its `in`, or by the name of the end's namespace."""
        ends = PATHS[self.machine.path or DEFAULT_PATH].ends
        steps = [planned.step for planned in (*self.steps, *self.during)]
        return tuple(end for end in ends if any(_touches(step, end) for step in steps))

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that the steps run, each once: what the image must have."""
        steps = (planned.step for planned in (*self.steps, *self.during))
        argvs = (step.argv for step in steps if isinstance(step, RunStep))
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
                "path": self.machine.path or DEFAULT_PATH,
                **({"packages": list(self.machine.packages)} if self.machine.packages else {}),
            },
            "steps": [step_request(planned) for planned in self.steps],
            **({"during": [step_request(planned) for planned in self.during]} if self.during else {}),
            "settings": dict(self.settings),
            "max": self.conntrack.max,
            "load": {name: value for name, value in vars(self.load).items() if value not in (None, False)},
        }


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
    check_reachable(scenario, load, max_files)
    return CellPlan(
        cell=cell.name,
        scenario=scenario.name,
        scenario_digest=scenario_digest(scenario),
        variant=cell.variant.name,
        axes=axes,
        target=cell.target,
        repeat=cell.repeat,
        machine=machine,
        steps=_planned("state", scenario.state, axes),
        during=_planned("during", scenario.during, axes),
        conntrack=replace(scenario.conntrack, max=overrides.max or scenario.conntrack.max),
        load=load,
        requires=requirement(cell.variant),
    )


def requirement(variant: Variant) -> Requirement:
    """What a variant needs of its machine: what the scenario says, and the backend that its axis names."""
    scenario, requires = variant.scenario, variant.scenario.requires
    path = PATHS[scenario.machine.path or DEFAULT_PATH]
    modules = (*requires.modules, *(one for one in path.modules if one not in requires.modules))
    requires = replace(requires, modules=modules, ipv6=(scenario.load.family or FAMILIES[0]) != FAMILIES[0])
    backend = variant.axes.get(BACKEND_AXIS)
    if backend is None or backend in requires.backends:
        return requires
    return replace(requires, backends=(*requires.backends, str(backend)))


def step_request(planned: PlannedStep) -> dict[str, object]:
    """A step as the guest's agent takes it."""
    match planned.step:
        case RunStep(argv, refused, end=end):
            what: dict[str, object] = {"kind": "run", "argv": list(argv), "refused": refused, **_in(end)}
        case FileStep(path, text):
            what = {"kind": "file", "path": path, "text": text}
        case SysctlStep(values, end=end):
            what = {"kind": "sysctl", "values": dict(values), **_in(end)}
        case UnloadStep(modules):
            what = {"kind": "unload", "modules": list(modules)}
        case RemoveStep(argv, expected):
            rules = [{**vars(one), "listing": list(one.listing)} for one in expected]
            what = {"kind": "remove", "argv": list(argv), "expected": rules}
    return {"key": planned.key, **what}


def _in(end: str | None) -> dict[str, str]:
    return {} if end is None else {"in": end}


def _touches(step: Step | RemoveStep, end: str) -> bool:
    if getattr(step, "end", None) == end:
        return True
    words = step.argv if isinstance(step, RunStep) else (step.text,) if isinstance(step, FileStep) else ()
    return any(f"lab-{end}" in word for word in words)


def _planned(key: str, steps: tuple[Step, ...], axes: Axes) -> tuple[PlannedStep, ...]:
    """The steps that the axes choose, filled in."""
    values = placeholder_values(axes)
    return tuple(
        PlannedStep(f"{key}[{index}]", _fill_in(step, values))
        for index, step in enumerate(steps)
        if chosen_by(step.when, axes)
    )


def _fill_in(step: Step, values: Mapping[str, str]) -> Step:
    """The step with its placeholders replaced; its condition has done its work and is left out."""
    match step:
        case RunStep(argv, refused, end=end):
            return RunStep(tuple(substitute(word, values) for word in argv), refused, end=end)
        case FileStep(path, text, source=source):
            return FileStep(substitute(path, values), substitute(text, values), source=source)
        case SysctlStep(pairs, end=end):
            return SysctlStep(tuple((name, substitute(value, values)) for name, value in pairs), end=end)
        case UnloadStep(modules):
            return UnloadStep(modules)


def _check_override(option: str, value: int | None) -> None:
    if value is not None and not 1 <= value < 2**31:
        raise ScenarioError(f"{option}: is {value}, must be 1 to {2**31 - 1}", hint=f"for example {option} 1000")
