"""Recorded cells played back: the provisioner without a guest, for tests and for looking at a run once more.

A machine answers from a cell's folder as lab/host/results/store.py writes it, event by event, so everything above the
channel runs as it does with a guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.core.errors import GuestLost
from lab.core.plan import Cell, CellPlan, Overrides, Variant, plan_cell
from lab.core.scenario import parse_scenario
from lab.guest.observe import ITEM_NAMES
from lab.host.machines.machine import AgentError, MachineSpec, OnEvent
from lab.host.results.stored_cell import StoredCell


@dataclass(frozen=True, kw_only=True)
class RecordedMachine(MachineSpec):
    """The machine that a recorded cell had; `cell` is its folder."""

    cell: Path


@dataclass
class ReplayProvisioner:
    """Machines that play back recorded cells; the first `losses` of them vanish in the middle of `lose_at`."""

    lose_at: str | None = None
    losses: int = 0
    start_stage: str = "restore"
    given: int = field(default=0, init=False)
    alive: int = field(default=0, init=False)

    @contextlib.asynccontextmanager
    async def machine(self, spec: RecordedMachine) -> AsyncIterator[ReplayMachine]:
        """A machine that says what the cell's machine said."""
        lose_at = self.lose_at if self.given < self.losses else None
        self.given += 1
        self.alive += 1
        try:
            yield ReplayMachine(spec.cell, lose_at)
        finally:
            self.alive -= 1

    async def prepare(self, spec: RecordedMachine, progress: Callable[[str], None]) -> bool:
        """Nothing is to be prepared."""
        return False

    async def discard(self, kept: Path) -> None:
        """See Provisioner.discard."""

    def describe(self, spec: RecordedMachine) -> tuple[str, ...]:
        """What is played back."""
        return (f"replay {spec.cell}",)

    def manifest(self) -> dict[str, Any]:
        """What shapes every machine of this provisioner."""
        return {"name": "replay"}


class ReplayMachine:
    """Answers the runner's requests from a cell's folder. Where the recording ends the machine is lost."""

    def __init__(self, cell: Path, lose_at: str | None = None) -> None:
        self._cell = cell
        self._lose_at = lose_at
        self._snapshots = iter(("before", "after"))
        self._answers: Mapping[str, Callable[[OnEvent], Mapping[str, Any]]] = {
            "hello": lambda on_event: self._recorded("machine"),
            "begin": lambda on_event: {},
            "keep": lambda on_event: {},
            "apply": self._apply,
            "set": lambda on_event: self._recorded("settings"),
            "observe": self._observe,
            "load": self._load,
            "path": lambda on_event: self._recorded("topology"),
            "untrack_ends": lambda on_event: self._recorded("topology")["untracked_ends"],
            "check": lambda on_event: {"crash": None},
            "peer": lambda on_event: self._recorded("peer"),
            "kernel_log": self._kernel_log,
        }

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        """See Machine.call. A machine that is to be lost sends the operation's events, but never its result."""
        await asyncio.sleep(0)  # as with a real machine, others have their turn
        if operation not in self._answers:
            raise AgentError(f"`{operation}` failed in the guest: no such operation was recorded")
        answer = self._answers[operation](on_event or (lambda event: None))
        if operation == self._lose_at:
            raise GuestLost(f"the machine was made to vanish during `{operation}`")
        return answer

    async def keep(self, file: Path) -> None:
        """See Machine.keep."""
        raise GuestLost("a machine that is only played back cannot be kept")

    async def shell(self) -> int:
        """See Machine.shell."""
        raise GuestLost("a machine that is only played back has no shell")

    def console(self) -> str:
        """See Machine.console."""
        path = self._cell / "console.log"
        return _read(path) if path.exists() else ""

    def logs(self) -> Mapping[str, str]:
        """See Machine.logs."""
        return {}

    def facts(self) -> Mapping[str, Any]:
        """See Machine.facts."""
        return {"provisioner": "replay", "cell": self._cell.name}

    def _kernel_log(self, on_event: OnEvent) -> Mapping[str, Any]:
        holes = self._cell / "evidence" / "kernel_log_holes.json"
        return {"text": self._text(self._cell / "kmsg.log"), **(json.loads(_read(holes)) if holes.exists() else {})}

    def _apply(self, on_event: OnEvent) -> Mapping[str, Any]:
        recorded = self._recorded("steps")
        for step in recorded["steps"]:
            on_event(step)
        if recorded["reached"] is None:
            raise self._lost()
        return {"reached": recorded["reached"]}

    def _observe(self, on_event: OnEvent) -> Mapping[str, Any]:
        folder = self._cell / "evidence" / next(self._snapshots)
        if not folder.is_dir():
            raise self._lost()
        for item in _items(folder):
            on_event({"event": "evidence", **item})
        return {}

    def _load(self, on_event: OnEvent) -> Mapping[str, Any]:
        for line in (self._text(self._cell / "evidence" / "samples.jsonl") or "").splitlines():
            on_event({"event": "sample", **json.loads(line)})
        return self._recorded("load")

    def _recorded(self, name: str) -> Mapping[str, Any]:
        """What the guest answered. Raises GuestLost when it never did."""
        path = self._cell / "evidence" / f"{name}.json"
        if not path.exists():
            raise self._lost()
        content: Mapping[str, Any] = json.loads(_read(path))
        return content

    def _text(self, path: Path) -> str | None:
        """A text; None where the recorded machine said that there is none. Raises GuestLost when it was lost before."""
        if path.exists():
            return _read(path)
        if (self._cell / "evidence" / "lost.json").exists():
            raise self._lost()
        return None

    def _lost(self) -> GuestLost:
        path = self._cell / "evidence" / "lost.json"
        return GuestLost(json.loads(_read(path))["lost"] if path.exists() else "the recording ends here")


def recorded_plan(cell: Path) -> CellPlan:
    """The plan of a recorded cell, made again from its own scenario. Raises ScenarioError."""
    stored = StoredCell(cell).plan()
    scenario = parse_scenario(_read(cell / "scenario.toml"), f"{stored.scenario}.toml")
    planned = Cell(Variant(scenario, stored.axes), stored.target, stored.repeat)
    return plan_cell(planned, Overrides(stored.load.connections, stored.max))


def recorded_machine(cell: Path) -> RecordedMachine:
    """The machine that plays back a recorded cell. Raises ScenarioError."""
    machine = StoredCell(cell).plan().machine
    return RecordedMachine(f"replay of {cell}", machine.memory_mb, machine.vcpus, machine.boot_args, cell=cell)


def _items(folder: Path) -> Iterator[Mapping[str, Any]]:
    """The items of a snapshot as the guest sent them."""
    errors = json.loads(_read(folder / "errors.json"))
    for name in sorted(ITEM_NAMES):
        path = folder / f"{name}.txt"
        text, error = _read(path) if path.exists() else None, errors.get(name)
        if text is None and error is None:
            continue  # it was never sent
        truncated = text is not None and error == "truncated"
        yield {"name": name, "text": text, "error": None if truncated else error, "truncated": truncated}


def _read(path: Path) -> str:
    # as bytes: what the kernel printed comes back with the line ends that it had
    return path.read_bytes().decode("utf-8")
