"""Cells for benchmarks: run by the lab's own command, or driven request by request with a clock on each.

What a cell costs is measured on whole `lab run` commands. Where the time goes within one is measured with `take_apart`,
which drives the same code in this process and notes each request, and what the QEMU process spent on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.common import ROOT, BenchError, progress
from lab.core.errors import GuestLost, LabError
from lab.core.plan import CellPlan, Overrides, cells, parse_chosen, plan_cell, select_variants
from lab.host.machines import accelerator
from lab.host.machines.kinds import parse_target
from lab.host.machines.machine import Event, OnEvent, Preparation
from lab.host.machines.qemu.binary import find_qemu
from lab.host.machines.qemu.command import KVM, TCG
from lab.host.machines.qemu.machine import ImageMachine, QemuMachine
from lab.host.machines.qemu.preparing import PreparedImage, prepare_targets
from lab.host.machines.qemu.provisioner import QemuProvisioner
from lab.host.options import Deadlines, RunOptions
from lab.host.results.recording import Recording
from lab.host.run.recording import record
from lab.host.scenario_files import load_scenarios, scenario_directories

TARGET = "debian12"
SCENARIOS = ROOT / "bench" / "scenarios"
_TICKS = os.sysconf("SC_CLK_TCK")
_RUN_SECONDS = 3600.0
_NOTHING_RAN = 2  # the lab's exit status for what it could not start

Stages = Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """A `lab run` that has ended."""

    seconds: float
    cells: tuple[Mapping[str, Any], ...]
    ended_at: tuple[float, ...]  # when each cell's result came, in seconds since the first cell's first stage

    def stages(self) -> list[Stages]:
        """Each cell's seconds by stage, without the boot that the first of a kind waits for."""
        return [
            {name: spent for name, spent in cell["stages_seconds"].items() if name != "boot"} for cell in self.cells
        ]


@dataclass(frozen=True)
class Spent:
    """What a request took: seconds on the clock, and of QEMU on the processors."""

    what: str
    seconds: float
    cpu_seconds: float


@dataclass
class Apart:
    """One cell, taken apart."""

    recording: Recording
    restore_seconds: float
    restore_cpu_seconds: float
    destroy_seconds: float
    requests: list[Spent] = field(default_factory=list)
    items: list[Spent] = field(default_factory=list)  # of each observation: from one item to the next
    load_ended_at: float = 0.0  # when the load's answer came, and the cell's last answer, on the monotonic clock
    ended_at: float = 0.0


@dataclass(frozen=True)
class Ready:
    """A machine that can be restored."""

    provisioner: QemuProvisioner
    spec: ImageMachine
    target: PreparedImage


def lab_run(
    words: Sequence[str],
    on_start: Callable[[subprocess.Popen[str]], None] | None = None,
    strict: bool = True,
    keep: Path | None = None,
) -> Run:
    """Run `lab run WORDS` to its end; `on_start` gets the process. Raises BenchError when nothing was run.

    The run's folder is kept in `keep`, where that is given.

    A host that is busy enough loses a guest now and then. `strict`: a run with a cell that was tried twice, or stayed
    inconclusive, is thrown away and made again, once.
    """
    run = _lab_run(words, on_start, keep)
    if strict and (unclear := _unclear(run)):
        progress(f"again: {unclear} lost its machine, or was inconclusive")
        run = _lab_run(words, on_start, keep)
        if unclear := _unclear(run):
            raise BenchError(f"{unclear} lost its machine again, or was inconclusive")
    return run


def _unclear(run: Run) -> str:
    return ", ".join(cell["cell"] for cell in run.cells if len(cell["tries"]) > 1 or cell["finding"] == "inconclusive")


def _lab_run(words: Sequence[str], on_start: Callable[[subprocess.Popen[str]], None] | None, keep: Path | None) -> Run:
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as temporary:
        folder = str(keep or temporary)
        argv = [sys.executable, "-m", "lab", "run", *words, "--output", folder]
        started = time.monotonic()
        with _killed_at_the_end(argv) as process:
            if on_start is not None:
                on_start(process)
            told, ended_at = _follow(process)
            status = process.wait(_RUN_SECONDS)
        seconds = time.monotonic() - started
        stored = Path(folder) / "latest" / "results.json"
        if status == _NOTHING_RAN or not stored.exists() or not ended_at:
            raise BenchError(f"`lab run {' '.join(words)}` ended with status {status}: {''.join(told[-5:]).strip()}")
        return Run(seconds, tuple(json.loads(stored.read_text())["cells"]), tuple(ended_at))


@contextlib.contextmanager
def _killed_at_the_end(argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        argv, cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def _follow(process: subprocess.Popen[str]) -> tuple[list[str], list[float]]:
    """The lines of a run's progress, and when each cell ended, counted from the line of the first restore."""
    told: list[str] = []
    ended: list[float] = []
    began = 0.0
    for line in process.stderr or ():
        told.append(line)
        if not began and line.rstrip().endswith(": restore"):
            began = time.monotonic()
        if line.startswith("[") and "/" in line.partition("]")[0]:
            ended.append(time.monotonic() - began)
    return told, ended


def plan_of(scenario: str, *, connections: int | None, chosen: Sequence[str] = (), target: str = TARGET) -> CellPlan:
    """The plan of the one cell that a scenario, a name or a path, means with the chosen values of its axes."""
    variants = select_variants(load_scenarios([scenario], scenario_directories(ROOT)), parse_chosen(chosen))
    planned = cells(variants, [target], 1)
    if len(planned) != 1:
        raise BenchError(f"{scenario} with {chosen} means {len(planned)} cells, not one")
    return plan_cell(planned[0], Overrides(connections, None))


async def ready(plan: CellPlan) -> Ready:
    """The plan's machine, booted and saved where that was not done yet."""
    spec = parse_target(plan.target)
    targets = await prepare_targets(Preparation([spec], [plan], RunOptions(), Deadlines(), progress))
    qemu = find_qemu()
    answer = accelerator.remembered(qemu)
    provisioner = QemuProvisioner(qemu, KVM if answer is not None and answer.works else TCG, Deadlines())
    target = targets[plan.target]
    if not isinstance(target, PreparedImage):
        raise BenchError(f"{plan.target} is no image of the lab's own")
    machine = target.machine(plan.machine)
    await provisioner.prepare(machine, progress)
    return Ready(provisioner, machine, target)


async def take_apart(plan: CellPlan, on_event: Callable[[str, Event], None] = lambda operation, event: None) -> Apart:
    """Run a cell in this process with a clock on each request; `on_event` gets what the guest sends, as it comes."""
    made = await ready(plan)
    started = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        machine = await stack.enter_async_context(made.provisioner.machine(made.spec))
        restored = time.monotonic()
        timed = _Timed(machine, on_event)
        apart = Apart(Recording(), restored - started, timed.cpu_seconds(), 0.0, timed.requests, timed.items)
        try:
            await record(timed, plan, Deadlines(), apart.recording, lambda seen: None)
        except GuestLost as lost:
            raise BenchError(f"{plan.cell}: {str(lost).splitlines()[0]}") from lost
        apart.load_ended_at, apart.ended_at = timed.load_ended_at, time.monotonic()
        await stack.aclose()
        apart.destroy_seconds = time.monotonic() - apart.ended_at
    return apart


class _Timed:
    """A machine with a clock on each request."""

    def __init__(self, machine: QemuMachine, on_event: Callable[[str, Event], None]) -> None:
        self._machine = machine
        self._on_event = on_event
        self.requests: list[Spent] = []
        self.items: list[Spent] = []
        self.load_ended_at = 0.0

    def cpu_seconds(self) -> float:
        """What QEMU has spent so far."""
        return cpu_seconds(self._machine.process.process.pid)

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        """See Machine.call."""
        name = f"{operation}, with hooks" if arguments.get("list_hooks") else operation
        started = before = (time.monotonic(), self.cpu_seconds())

        def note(event: Event) -> None:
            nonlocal before
            now = (time.monotonic(), self.cpu_seconds())
            if event.get("event") == "evidence":
                self.items.append(Spent(f"{name}: {event.get('name')}", now[0] - before[0], now[1] - before[1]))
            before = now
            self._on_event(operation, event)
            if on_event is not None:
                on_event(event)

        try:
            return await self._machine.call(operation, deadline_seconds=deadline_seconds, on_event=note, **arguments)
        finally:
            spent = time.monotonic() - started[0], self.cpu_seconds() - started[1]
            self.requests.append(Spent(name, *spent))
            if operation == "load":
                self.load_ended_at = time.monotonic()

    async def keep(self, file: Path) -> None:
        """See Machine.keep."""
        await self._machine.keep(file)

    def console(self) -> str:
        """See Machine.console."""
        return self._machine.console()

    def facts(self) -> Mapping[str, Any]:
        """See Machine.facts."""
        return self._machine.facts()

    def logs(self) -> Mapping[str, str]:
        """See Machine.logs."""
        return self._machine.logs()

    async def shell(self) -> int:
        """See Machine.shell."""
        return await self._machine.shell()


@contextlib.asynccontextmanager
async def restored(made: Ready) -> AsyncIterator[float]:
    """A restored machine; yields the seconds that it took to its agent's first answer."""
    started = time.monotonic()
    async with made.provisioner.machine(made.spec):
        yield time.monotonic() - started


def restore_seconds(made: Ready) -> float:
    """From nothing to the first answer of a restored machine's agent."""

    async def once() -> float:
        async with restored(made) as seconds:
            return seconds

    return asyncio.run(once())


def boot_seconds(made: Ready) -> float:
    """From nothing to the first answer of the agent in a machine that boots cold."""
    started = time.monotonic()
    asyncio.run(made.provisioner.prove_boot(made.spec, Deadlines().boot))
    return time.monotonic() - started


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, in user and kernel mode (proc(5)); 0 for one that has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mb(pid: int) -> tuple[float, float]:
    """A process's memory in MB: its share, in which pages that N processes share count a Nth (Pss), and all that it has
    mapped and present (Rss). (0, 0) for one that has gone.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0, 0.0
    kib = {words[0]: int(words[1]) for line in text.splitlines() if len(words := line.split()) == 3}
    return kib.get("Pss:", 0) * 1024 / 1e6, kib.get("Rss:", 0) * 1024 / 1e6


def children(pid: int) -> list[int]:
    """A process's children now."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except OSError:
        return []


def main_of(benchmark: Callable[[], int]) -> int:
    """Run a benchmark; what stops it is told, and becomes status 2."""
    try:
        return benchmark()
    except (BenchError, LabError, subprocess.TimeoutExpired) as error:
        progress(f"bench: {error}")
        return 2
