"""Cells in real guests under random faults, for scripts/soak: what must hold however a run is disturbed.

The lab runs as a user runs it, as a program with a cache of its own. A fault may cost a cell its finding
(`inconclusive`), and never gives it another one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.host.cache import cache_root

_ID = "LAB_SOAK_ID"
_RUN_SECONDS = 600.0
_MOST_MORE_DESCRIPTORS = 8  # a sample may fall into a cell's beginning or end
_MOST_MORE_KB = 80_000
_DISK_KB = 700
# scenario, and the finding of all its cells, whatever is done to the lab
SCENARIOS = {"pristine": "untracked", "nat-present": "table-full", "nat-flushed": "untracked"}


@dataclass
class Disturbed:
    """A run that is under way, and the means to disturb it."""

    lab: subprocess.Popen[str]
    token: str
    cache: Path
    chance: random.Random

    def machines(self) -> list[int]:
        """The QEMUs of this run."""
        return [pid for pid in processes_of(self.token) if "qemu-system" in _name_of(pid)]

    def hit(self, number: int, *, again_seconds: float | None = None) -> None:
        """Send a signal to one of its QEMUs; SIGCONT after a while, where that is said."""
        machines = self.machines()
        if not machines:
            return
        pid = self.chance.choice(machines)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            if again_seconds is not None:
                time.sleep(again_seconds)
                os.kill(pid, signal.SIGCONT)

    def states(self) -> list[Path]:
        """The saved states in its cache."""
        return sorted((self.cache / "conntrack-lab" / "states").glob("[!.]*"))

    def remove_states(self) -> None:
        """As another lab does that needs the space."""
        for state in self.states():
            shutil.rmtree(state, ignore_errors=True)

    def damage_states(self) -> None:
        """As a bad disk does, with no size changed."""
        for state in self.states():
            with contextlib.suppress(OSError):
                devices = state / "devices"
                devices.write_bytes(bytes(devices.stat().st_size))


@dataclass(frozen=True)
class Fault:
    """A way to disturb a run, and the exit statuses that it may have then."""

    act: Callable[[Disturbed], object]
    statuses: frozenset[int]
    full_disk: bool = False


def _nothing(run: Disturbed) -> None:
    """Undisturbed."""


FAULTS: dict[str, Fault] = {
    "none": Fault(_nothing, frozenset({0})),
    "SIGKILL of a QEMU": Fault(lambda run: run.hit(signal.SIGKILL), frozenset({0, 3})),
    "SIGSTOP of a QEMU for 3 s": Fault(lambda run: run.hit(signal.SIGSTOP, again_seconds=3), frozenset({0, 3})),
    "SIGSTOP of a QEMU": Fault(lambda run: run.hit(signal.SIGSTOP), frozenset({0, 3})),
    "saved states removed": Fault(Disturbed.remove_states, frozenset({0, 3})),
    "saved states damaged": Fault(Disturbed.damage_states, frozenset({0, 3})),
    "full disk": Fault(_nothing, frozenset({0, 2}), full_disk=True),
    "SIGINT": Fault(lambda run: run.lab.send_signal(signal.SIGINT), frozenset({0, 130})),
    "SIGTERM": Fault(lambda run: run.lab.send_signal(signal.SIGTERM), frozenset({0, 130})),
    "SIGKILL of the lab": Fault(lambda run: run.lab.kill(), frozenset({0, -9})),
}


@dataclass
class Tally:
    """What was done and what was seen."""

    cells: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def text(self, seconds: float) -> str:
        """For people."""
        lines = [f"{sum(self.cells.values())} cells in {sum(self.runs.values())} runs, {seconds:.0f} s"]
        lines += [f"  {count:5} {name}" for name, count in self.cells.most_common()]
        lines += [f"  runs: {', '.join(f'{name} {count}' for name, count in sorted(self.runs.items()))}"]
        lines += [f"  exit statuses: {', '.join(f'{name}: {count}' for name, count in sorted(self.statuses.items()))}"]
        return "\n".join([*lines, f"wrong: {len(self.wrong)}", *self.wrong])


def processes_of(token: str) -> list[int]:
    """The processes that descend from a lab with this token in its environment."""
    wanted = f"{_ID}={token}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def _name_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _use_of(pid: int) -> tuple[int, int] | None:
    """Descriptors and KB of memory."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return len(os.listdir(f"/proc/{pid}/fd")), rss
    except (OSError, StopIteration):
        return None


@contextlib.contextmanager
def small_disk(folder: Path, chance: random.Random) -> Iterator[Path]:
    """A file system that is full before a run has ended."""
    folder.mkdir()
    size = chance.randint(20, _DISK_KB)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def one_run(work: Path, chance: random.Random, target: str, repeat: int, tally: Tally) -> None:
    """A run with a fault; what is wrong with it is added to the tally."""
    name = chance.choice([name for name, fault in FAULTS.items() if not fault.full_disk or os.geteuid() == 0])
    fault, token = FAULTS[name], uuid.uuid4().hex
    output = work / f"results-{token[:6]}"
    environment = {**os.environ, "XDG_CACHE_HOME": str(work / "cache"), _ID: token}
    scenarios = chance.sample(sorted(SCENARIOS), 2)
    argv = [sys.executable, "-m", "lab", "run", *scenarios, "--target", target, "--set", "iptables=nft", "-j", "1"]
    argv += ["--connections", "300", "--max", "100", "--repeat", str(repeat), "--output", str(output)]
    argv += ["--timeouts", "restore=20,load=30,collect=20,state=20"]
    with small_disk(output, chance) if fault.full_disk else contextlib.nullcontext():
        with (work / "stderr").open("w") as stderr:
            lab = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=stderr, text=True)
        run = Disturbed(lab, token, work / "cache", chance)
        uses = _attend(run, fault, work / "stderr", chance.uniform(0.0, 12.0 * repeat))
        said = (work / "stderr").read_text(errors="replace")
        _check(name, fault, lab.returncode, said, uses, tally)
        _check_cells(name, output, tally)
    _check_leaks(name, run, work, tally)
    shutil.rmtree(output, ignore_errors=True)


def _attend(run: Disturbed, fault: Fault, progress: Path, after_seconds: float) -> list[tuple[int, int]]:
    """Wait for the end of a run, disturb it once on the way, and note what it uses. Its first word of a cell is waited
    for: a signal that comes while a program starts is not the lab's to handle.
    """
    started, disturbed, uses = time.monotonic(), False, []
    while run.lab.poll() is None and time.monotonic() - started < _RUN_SECONDS:
        time.sleep(0.25)
        if (use := _use_of(run.lab.pid)) is not None:
            uses.append(use)
        has_begun = "@" in progress.read_text(errors="replace")
        if not disturbed and has_begun and time.monotonic() - started > after_seconds:
            disturbed = True
            fault.act(run)
    if run.lab.poll() is None:
        run.lab.kill()
    run.lab.wait()
    return uses


def _check(name: str, fault: Fault, status: int, said: str, uses: list[tuple[int, int]], tally: Tally) -> None:
    tally.runs[name] += 1
    tally.statuses[status] += 1
    if status not in fault.statuses:
        tally.wrong.append(f"{name}: exit status {status}: {said[-600:]}")
    if "Traceback" in said or "a fault of the lab itself" in said:
        tally.wrong.append(f"{name}: a fault of the lab: {said[-1500:]}")
    settled = uses[len(uses) // 4 :]
    if status == 0 and len(settled) > 8:  # a run that was cut short has no end to compare
        first, last = settled[: len(settled) // 2], settled[len(settled) // 2 :]
        for what, index, most in (("descriptors", 0, _MOST_MORE_DESCRIPTORS), ("KB", 1, _MOST_MORE_KB)):
            grown = max(use[index] for use in last) - max(use[index] for use in first)
            if grown > most:
                tally.wrong.append(f"{name}: the lab has {grown} more {what} at its end")


def _check_cells(name: str, output: Path, tally: Tally) -> None:
    for path in sorted(output.glob("*/cells/[!.]*/result.json")):
        cell = json.loads(path.read_text())
        tally.cells[cell["finding"]] += 1
        if cell["finding"] not in (SCENARIOS[cell["scenario"]], "inconclusive"):
            tally.wrong.append(f"{name}: {cell['cell']}: {cell['finding']}: {cell['reason'][:500]}")
    if name == "none" and any(output.glob("*/cells/.partial-*")):
        tally.wrong.append(f"{name}: a half-written cell is left")


def _check_leaks(name: str, run: Disturbed, work: Path, tally: Tally) -> None:
    deadline = time.monotonic() + 10
    while (left := processes_of(run.token)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        tally.wrong.append(f"{name}: process {pid} ({_name_of(pid)}) is left")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    stale = list((work / "cache" / "conntrack-lab" / "states").glob(".tmp-*"))
    if stale and name != "SIGKILL of the lab":
        tally.wrong.append(f"{name}: {len(stale)} half-made states are left")
    for folder in stale:  # what a killed lab left goes when the next one boots that machine, which may be much later
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run until the time is over or the cells are enough; 1 where something was wrong."""
    parser = argparse.ArgumentParser(prog="scripts/soak")
    parser.add_argument("--seconds", type=float, default=None, help="for how long")
    parser.add_argument("--cells", type=int, default=None, help="for how many cells")
    parser.add_argument("--repeat", type=int, default=2, help="of each cell in a run (2)")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--target", default="debian12")
    options = parser.parse_args()
    if options.seconds is None and options.cells is None:
        options.seconds = 600.0
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    chance, tally, started = random.Random(seed), Tally(), time.monotonic()
    sys.stderr.write(f"seed {seed}\n")
    with tempfile.TemporaryDirectory(prefix="lab-soak-") as folder:
        work = Path(folder)
        (work / "cache" / "conntrack-lab").mkdir(parents=True)
        (work / "cache" / "conntrack-lab" / "images").symlink_to(cache_root() / "images")
        while (options.seconds is None or time.monotonic() - started < options.seconds) and (
            options.cells is None or sum(tally.cells.values()) < options.cells
        ):
            known = len(tally.wrong)
            one_run(work, chance, options.target, options.repeat, tally)
            sys.stderr.write("".join(f"{line}\n" for line in tally.wrong[known:]))
            sys.stderr.write(f"{sum(tally.cells.values())} cells, {len(tally.wrong)} wrong\n")
            sys.stderr.flush()
    sys.stdout.write(f"{tally.text(time.monotonic() - started)}\n")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
