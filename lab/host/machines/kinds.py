"""The kinds of machines, a row each: how their targets are named, what goes with them, and where they are made.

A new kind is a folder, with a module that has what `MachineKind` asks for, and a row here. What takes time to import is
imported by `Kind.load`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lab.core.errors import ScenarioError
from lab.host.machines.qemu import targets as qemu_targets
from lab.host.machines.targets import TargetSpec
from lab.host.machines.vagrant import targets as vagrant_targets
from lab.host.options import Deadlines, RunOptions

if TYPE_CHECKING:
    from lab.core.plan import CellPlan
    from lab.core.plan.repeating import Change
    from lab.core.scenario import MachineSpec as ScenarioMachine
    from lab.host.machines.machine import Machine, Preparation, Ready

Json = Mapping[str, Any]
Say = Callable[[str], None]


class MachineKind(Protocol):
    """What the module of a kind has."""

    def describer(self, options: RunOptions, verbose: bool) -> Callable[[TargetSpec, ScenarioMachine], list[str]]:
        """What gives the commands of a machine for people, indented lines; nothing is started or built."""

    def prepared(self, preparation: Preparation) -> AbstractAsyncContextManager[Ready]:
        """The provisioner, and each target prepared: built or found, and checked.

        Raises PrerequisiteError and ScenarioError.
        """

    def kept(
        self, spec: TargetSpec, machine: ScenarioMachine, file: Path, preparation: Preparation
    ) -> AbstractAsyncContextManager[Machine]:
        """The machine that `Machine.keep` left in `file`, as it was. Raises LabError where it is gone."""

    def changes(self, recorded: Json, targets: Mapping[str, Json], options: RunOptions) -> Iterator[Change]:
        """What makes machines here in another way than the provisioner and targets that a manifest has.

        Raises LabError where it can make none.
        """

    def target_changes(
        self, spec: TargetSpec, recorded: Json, options: RunOptions, say: Say
    ) -> tuple[list[Change], object | None]:
        """What is not as it was with a target; and what `prepared` is to take for it, which it knows how to read."""


def _one(plans: Sequence[CellPlan]) -> int:
    return 1


def _as_many_as_fit(plans: Sequence[CellPlan]) -> int:
    return machines_at_once(max(plan.machine.vcpus for plan in plans), max(plan.machine.memory_mb for plan in plans))


def machines_at_once(vcpus: int, memory_mb: int) -> int:
    """As many machines as free memory carries, and one more than have processors of their own, for cells wait for some
    of their time.

    On two processors 78 cells took 315 s with 2 at once, 255 with 3, 272 with 4 (26 November 2026, emulated).
    """
    free_mb = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    return max(1, min((os.cpu_count() or 1) // vcpus + 1, free_mb // memory_mb))


def _qemu() -> MachineKind:
    from lab.host.machines.qemu import kind

    return kind


def _vagrant() -> MachineKind:
    from lab.host.machines.vagrant import kind

    return kind


def _host() -> MachineKind:
    from lab.host.machines.this_host import kind

    return kind


@dataclass(frozen=True)
class Kind:
    """A kind of machine: `owns` says whether a text names a target of it, `expand` gives all that a pattern means."""

    name: str
    load: Callable[[], MachineKind]
    owns: Callable[[str], bool]
    parse: Callable[[str, str | None], TargetSpec]
    expand: Callable[[str], Sequence[TargetSpec]]
    example: str
    listed: Mapping[str, str]  # what `lab list` says of targets that the lab does not build: names and summaries
    kernel: Callable[[], str | None] = lambda: None  # the release of those, where it is known
    takes: frozenset[str] = frozenset()  # of the options in _NOT_FOR_ALL
    deadlines: Deadlines = Deadlines()  # noqa: RUF009  # frozen
    from_images: bool = False  # whether its targets are of what `lab image build` makes
    parallel: Callable[[Sequence[CellPlan]], int] = _one  # cells at once, where -j does not say

    def deadlines_with(self, options: RunOptions) -> Deadlines:
        """The kind's deadlines, and --timeouts."""
        return replace(self.deadlines, **options.timeouts)

    def check(self, options: RunOptions) -> None:
        """Raises ScenarioError for options that do not go with these machines, or not with each other."""
        for name, (why, hint) in _NOT_FOR_ALL.items():
            value = getattr(options, name)
            if value and name not in self.takes:
                words = f" {','.join(value)}" if isinstance(value, tuple) else ""
                flag = name.replace("_", "-")
                raise ScenarioError(f"--{flag}{words}: machines of {self.name} {why}", hint=hint)
        if options.share_machine and options.keep_failed:
            raise ScenarioError(
                "--keep-failed cannot keep a machine that --share-machine returns to its snapshot for the next cell",
                hint="leave one of the two out",
            )


# an option that not every kind takes -> why another does not, and what to do
_NOT_FOR_ALL = {
    "kernel": ("boot their own kernel", "use a target of QEMU, for example --target debian12"),
    "share_machine": ("are not shared", "leave it out: it is for Vagrant boxes"),
}
_HOST = "host"
_THIS_HOST = TargetSpec(_HOST, _HOST, _HOST)
# in the order in which they are asked whose a text is: the last takes any
_ROWS = (
    Kind(
        name=vagrant_targets.KIND,
        load=_vagrant,
        owns=lambda text: text.startswith(vagrant_targets.BOX_MARK),
        parse=vagrant_targets.parse,
        expand=lambda text: (vagrant_targets.parse(text),),
        example="vagrant:debian12",
        listed={"vagrant:BOX": "any Vagrant box: vagrant:NAME, vagrant:PATH, vagrant:URL#sha256=HEX"},
        takes=frozenset({"share_machine"}),
        deadlines=vagrant_targets.DEADLINES,
    ),
    Kind(
        name=_HOST,
        load=_host,
        owns=lambda text: text == _HOST,
        parse=lambda text, kernel: _THIS_HOST,
        expand=lambda text: (_THIS_HOST,),
        example=_HOST,
        listed={_HOST: "this very machine, with --disposable-host"},
        kernel=lambda: os.uname().release,
    ),
    Kind(
        name=qemu_targets.KIND,
        load=_qemu,
        owns=lambda text: True,
        parse=qemu_targets.parse,
        expand=qemu_targets.expand,
        example="debian12",
        listed={"image:PATH": "a distribution's own image: image:PATH, image:URL#sha256=HEX"},
        takes=frozenset({"kernel"}),
        from_images=True,
        parallel=_as_many_as_fit,
    ),
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ROWS}


def parse_target(text: str, kernel: str | None = None) -> TargetSpec:
    """The target that `text` names: `debian12`, `debian12+kernel:PATH`, `vagrant:BOX`, or `host`.

    `kernel` is that of a stored target, whose name has only what it was called. Raises ScenarioError.
    """
    return _owner(text).parse(text, kernel)


def expand_targets(patterns: Sequence[str]) -> tuple[TargetSpec, ...]:
    """The targets that names and globs mean, each once, in the order asked. Raises ScenarioError for one of none."""
    specs: dict[str, TargetSpec] = {}
    for pattern in patterns:
        for spec in _owner(pattern).expand(pattern):
            specs.setdefault(spec.name, spec)
    return tuple(specs.values())


def kind_of(specs: Sequence[TargetSpec], provisioner: str | None = None) -> Kind:
    """What makes the machines of these targets. Raises ScenarioError where it is not one, or not `provisioner`."""
    found = {spec.kind for spec in specs}
    if provisioner is not None and found != {provisioner}:
        other = next(spec.name for spec in specs if spec.kind != provisioner)
        hint = f"for example --target {KINDS[provisioner].example}"
        raise ScenarioError(f"--provisioner {provisioner}: cannot make {other}", hint=hint)
    if len(found) > 1:
        raise ScenarioError(f"one run cannot have machines of {' and '.join(sorted(found))}", hint="make two runs")
    return KINDS[found.pop()]


def _owner(text: str) -> Kind:
    return next(kind for kind in _ROWS if kind.owns(text))
