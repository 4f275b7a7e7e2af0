"""From a cell to what its guest is sent: every value filled in, nothing left to decide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lab.core.errors import ScenarioError
from lab.core.plan.cells import Cell, Variant
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
    placeholder_values,
    scenario_digest,
)
from lab.core.scenario.condition import Requirement
from lab.core.scenario.expectation import chosen_by
from lab.core.scenario.template import substitute

# 1 - first version of plan.json.
PLAN_VERSION = 1

# What a held connection costs its guest: two sockets, two descriptors, perhaps an entry. And what the system needs.
GUEST_BASE_MB = 400
GUEST_KIB_PER_CONNECTION = 10
FILES_PER_CONNECTION = 2
SPARE_FILES = 1024

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
                **({"packages": list(self.machine.packages)} if self.machine.packages else {}),
            },
            "steps": [step_request(planned) for planned in self.steps],
            "settings": dict(self.settings),
            "max": self.conntrack.max,
            "load": {name: value for name, value in vars(self.load).items() if value is not None},
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
            if chosen_by(step.when, axes)
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
