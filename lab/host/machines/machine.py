"""What a provisioner is: something that gives a throwaway machine, and takes it away again whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lab.core.errors import GuestLost
from lab.core.plan import CellPlan
from lab.core.scenario import MachineSpec as ScenarioMachine
from lab.host.machines.targets import TargetSpec
from lab.host.options import Deadlines, RunOptions

Event = Mapping[str, Any]
OnEvent = Callable[[Event], None]


class AgentError(GuestLost):
    """The agent answered that it failed: a bug of its own or a broken machine, never a finding."""


class Unsuitable(GuestLost):
    """This machine cannot have the scenario, whatever is tried: the finding is `skipped`, with this reason."""


@dataclass(frozen=True)
class MachineSpec:
    """The machine that a cell asks for, as far as every kind has it; `digest` is of what it is made of."""

    digest: str
    memory_mb: int
    vcpus: int
    boot_args: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()  # that a plan asks for, where the kind of machine cannot add them


S_contra = TypeVar("S_contra", bound=MachineSpec, contravariant=True)


class Machine(Protocol):
    """A running machine with an agent in it."""

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        """The agent's answer. Raises GuestLost when there is none in time, or none that can be understood."""
        ...

    async def keep(self, file: Path) -> None:
        """Write the whole machine to `file`, and leave it stopped. Raises GuestLost."""
        ...

    def console(self) -> str:
        """Everything the console has shown since power-on (bounded)."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """What shaped the machine from outside: accelerator, versions, command line. Goes into the manifest."""
        ...

    def logs(self) -> Mapping[str, str]:
        """What the programs that made and unmade it printed, by file name; complete once it is gone."""
        ...

    async def shell(self) -> int:
        """Run a shell in it with this process's standard streams; its exit status. Raises ScenarioError for none."""
        ...


class Provisioner(Protocol[S_contra]):
    """Gives machines; a machine cannot leak from the `async with`."""

    start_stage: str  # what giving a machine is called among a cell's stages

    def machine(self, spec: S_contra) -> AbstractAsyncContextManager[Machine]:
        """A fresh machine that nothing else ever touched."""
        ...

    async def prepare(self, spec: S_contra, progress: Callable[[str], None]) -> bool:
        """Do what is done once for all cells of a spec (boot and save its state); False when it was done already."""
        ...

    async def discard(self, kept: Path) -> None:
        """Remove what `Machine.keep` left in the file `kept`, and beyond it; nothing happens where there is none."""
        ...

    def describe(self, spec: S_contra) -> tuple[str, ...]:
        """The commands that `machine` would run, for people."""
        ...

    def manifest(self) -> dict[str, Any]:
        """What shapes every machine of this provisioner."""
        ...


class Prepared(Protocol):
    """A target that machines can be made of."""

    def machine(self, shape: ScenarioMachine) -> MachineSpec:
        """The machine that a plan asks for, on this target."""
        ...

    def manifest(self) -> dict[str, Any]:
        """What shaped this target's machines, for the manifest."""
        ...

    def kernel_config(self, shape: ScenarioMachine) -> str | None:
        """What the kernel's configuration says of netfilter, for machines that do not have it in them."""
        ...


@dataclass(frozen=True)
class Preparation:
    """What machines are to be prepared for. `say` gets what happens, `detail` every line that a program prints;
    `pinned` are the targets, by name, that are not to be had as they are today (MachineKind.target_changes).
    """

    specs: Sequence[TargetSpec]
    plans: Sequence[CellPlan]
    options: RunOptions
    deadlines: Deadlines
    say: Callable[[str], None]
    detail: Callable[[str], None] = lambda text: None
    pinned: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """What gives machines, and the targets that they are made of, by name."""

    provisioner: Provisioner[Any]
    targets: Mapping[str, Prepared]


@dataclass
class ConsoleLog:
    """The console's text, bounded: a guest that prints for ever fills neither memory nor disk."""

    limit_bytes: int = 4 * 1024 * 1024
    _head: bytearray = field(default_factory=bytearray)
    _tail: bytearray = field(default_factory=bytearray)
    _lost_bytes: int = 0

    def feed(self, data: bytes) -> None:
        """Append; past the limit the first half stays, and the second half is the newest."""
        half = self.limit_bytes // 2
        room = max(0, half - len(self._head))
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > half:
            self._lost_bytes += len(self._tail) - half
            del self._tail[: len(self._tail) - half]

    def text(self) -> str:
        """What was printed, with a line that says so where something was left out."""
        gap = f"\n[{self._lost_bytes} bytes left out]\n" if self._lost_bytes else ""
        decoded = (bytes(part).decode("utf-8", "backslashreplace") for part in (self._head, self._tail))
        return gap.join(decoded).replace("\r\n", "\n").replace("\x00", "")


def last_lines(text: str, count: int = 12) -> str:
    """The last lines that hold anything, for an error message: at most 500 characters of each."""
    return "\n".join([line[:500] for line in text.splitlines() if line.strip()][-count:])
