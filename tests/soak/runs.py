"""A run of the lab under a fault, as a user starts it, and all that must hold afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.soak.faults import FAULTS, Disturbed, Fault, file_systems
from tests.soak.processes import TOKEN, Use, name_of, processes_of, use_of
from tests.soak.tally import Tally

_SECONDS_PER_CELL = 120.0
_END_SECONDS = 10.0
_MOST_MORE = Use(descriptors=8, memory_kb=40_000)  # a sample may fall into a cell's beginning or end
_CELLS_PER_STRIKE = 6
# a short run has more faults; only a long one shows what each cell leaves
_REPEATS = (1, 2, 4, 4, 10)
# scenario, and the finding of all its cells, whatever is done to the lab
SCENARIOS = {"pristine": "untracked", "nat-present": "table-full", "nat-flushed": "untracked"}
# of a run that is whole, and of one that was cut short: never 70, which is a fault of the lab itself
_READ = {"verify": (frozenset({0}), frozenset({0, 1, 2, 3})), "report": (frozenset({0}), frozenset({0, 2}))}


@dataclass(frozen=True)
class Place:
    """Where runs are made: a cache, and folders that have to be empty again."""

    work: Path
    target: str

    @property
    def cache(self) -> Path:
        """The XDG cache of all runs."""
        return self.work / "cache"

    @property
    def temporary(self) -> Path:
        """For temporary files."""
        return self.work / "tmp"

    def environment(self, token: str) -> dict[str, str]:
        """In which the lab runs."""
        return {**os.environ, "XDG_CACHE_HOME": str(self.cache), "TMPDIR": str(self.temporary), TOKEN: token}


def disturbed_run(place: Place, name: str, chance: random.Random, tally: Tally) -> None:
    """A run with a fault; what is wrong with it is added to the tally."""
    fault, token = FAULTS[name], uuid.uuid4().hex
    output, progress = place.work / f"results-{token[:6]}", place.work / "stderr"
    states = place.cache / "conntrack-lab" / "states"
    repeat = 2 if fault.needs_root else chance.choice(_REPEATS)
    was_booted = any(states.glob("[!.]*")) and fault.states_mb is None
    with file_systems(fault, output, states, chance):
        with progress.open("w") as stderr:
            lab = subprocess.Popen(
                _argv(place.target, output, repeat, chance),
                env=place.environment(token),
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
            )
        run = Disturbed(lab, token, place.cache, chance)
        uses = _attend(run, fault, progress, 2 * repeat)
        said = progress.read_text(errors="replace")
        tally.runs[name] += 1
        tally.statuses[lab.returncode] += 1
        cells = _check_cells(name, output, tally)
        if lab.returncode != 0 or any(_shows(cell) for cell in cells) or (was_booted and ": boot\n" in said):
            tally.effective[name] += 1
        check_end(name, lab.returncode, said, tally)
        if lab.returncode == 0:  # a run that was cut short has no end to compare
            check_growth(name, uses, tally)
        check_left(name, token, place, output, tally)
        _check_read(name, lab.returncode, place, output, tally)
    shutil.rmtree(output, ignore_errors=True)


def _argv(target: str, output: Path, repeat: int, chance: random.Random) -> list[str]:
    argv = [sys.executable, "-m", "lab", "run", *chance.sample(sorted(SCENARIOS), 2), "--target", target]
    argv += ["--set", "iptables=nft", "-j", "1", "--connections", "300", "--max", "100", "--repeat", str(repeat)]
    argv += ["--timeouts", "restore=20,load=30,collect=20,state=20", "--output", str(output)]
    return [*argv, *chance.choice(([], [], ["--mitigate"]))]


def _attend(run: Disturbed, fault: Fault, progress: Path, cells: int) -> list[Use]:
    """Wait for the end of a run, disturb it on the way, and note what it uses."""
    started, uses, strikes = time.monotonic(), [], _strikes(run.chance, fault, progress, cells)
    try:
        while run.lab.poll() is None and time.monotonic() - started < _SECONDS_PER_CELL * cells:
            time.sleep(0.25)
            if (use := use_of(run.lab.pid)) is not None:
                uses.append(use)
            if next(strikes, False):
                with contextlib.suppress(ProcessLookupError):
                    fault.act(run)
    finally:
        run.lab.kill()  # nothing, where it has ended
        run.lab.wait()
    return uses


def _strikes(chance: random.Random, fault: Fault, progress: Path, cells: int) -> Iterator[bool]:
    """Whether it is time for the fault, each time that is asked. The lab's first word of a cell is waited for: a signal
    that comes while a program starts is not the lab's to handle.
    """
    count = 1 if fault.once else max(1, cells // _CELLS_PER_STRIKE)
    for cell in [0] if fault.states_mb else sorted(chance.sample(range(cells), count)):
        while not _has_begun(progress.read_text(errors="replace"), cell):
            yield False
        due = time.monotonic() + chance.uniform(0, fault.within_seconds)
        while time.monotonic() < due:
            yield False
        yield True


def _has_begun(said: str, after: int) -> bool:
    """Whether a cell is under way, and so many have ended."""
    return "@" in said and sum(line.startswith("[") for line in said.splitlines()) >= after


def _shows(cell: Mapping[str, Any]) -> bool:
    return cell["finding"] == "inconclusive" or len(cell["tries"]) > 1


def check_end(name: str, status: int, said: str, tally: Tally) -> None:
    """How the lab ended, and its last words."""
    if status not in FAULTS[name].statuses:
        tally.add_wrong(name, f"exit status {status}: {said[-600:]}")
    if "Traceback" in said or "a fault of the lab itself" in said:
        tally.add_wrong(name, f"a fault of the lab: {said[-1500:]}")


def check_growth(name: str, uses: Sequence[Use], tally: Tally) -> None:
    """What the lab used in the second half of its time and not in the first, its start left out."""
    settled = uses[len(uses) // 4 :]
    if len(settled) <= 8:
        return
    first, last = settled[: len(settled) // 2], settled[len(settled) // 2 :]
    descriptors = max(use.descriptors for use in last) - max(use.descriptors for use in first)
    memory_kb = max(use.memory_kb for use in last) - max(use.memory_kb for use in first)
    if descriptors > _MOST_MORE.descriptors:
        tally.add_wrong(name, f"the lab has {descriptors} more descriptors at its end")
    if memory_kb > _MOST_MORE.memory_kb:
        tally.add_wrong(name, f"the lab has {memory_kb} KB more at its end")


def _check_cells(name: str, output: Path, tally: Tally) -> list[dict[str, Any]]:
    """The results of the cells that ended."""
    cells = []
    for path in sorted(output.glob("[!l]*/cells/[!.]*/result.json")):
        cell = json.loads(path.read_text())
        cells.append(cell)
        tally.cells[cell["finding"]] += 1
        check_cell(name, cell, tally)
    return cells


def check_cell(name: str, cell: Mapping[str, Any], tally: Tally) -> None:
    """A cell's finding, and what came of its mitigation."""
    if cell["finding"] not in (SCENARIOS[cell["scenario"]], "inconclusive"):
        tally.add_wrong(name, f"{cell['cell']}: {cell['finding']}: {cell['reason'][:500]}")
    if (mitigation := cell["mitigation"]) is not None:
        tally.mitigations[mitigation["outcome"]] += 1
        if mitigation["outcome"] not in ("fixes", "unknown"):
            tally.add_wrong(name, f"{cell['cell']}: {mitigation['outcome']}: {mitigation['reason'][:500]}")


def check_left(
    name: str, token: str, place: Place, output: Path, tally: Tally, end_seconds: float = _END_SECONDS
) -> None:
    """Processes and files that outlive a run by `end_seconds`; they are ended and removed."""
    deadline = time.monotonic() + end_seconds
    while (left := processes_of(token)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        tally.add_wrong(name, f"process {pid} ({name_of(pid)}) is left")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    states = place.cache / "conntrack-lab" / "states"
    folders = [*states.glob(".tmp-*"), *output.glob("[!l]*/cells/.partial-*"), *place.temporary.iterdir()]
    if folders and not FAULTS[name].leaves_folders:
        tally.add_wrong(name, f"left: {', '.join(folder.name for folder in folders)}")
    # what a killed lab left goes when the next one boots that machine, which may be much later
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _check_read(name: str, status: int, place: Place, output: Path, tally: Tally) -> None:
    """Whether the lab reads what it wrote, whole or cut short."""
    for run in output.glob("[!l]*Z-*"):
        for command, (whole, cut) in _READ.items():
            argv = [
                sys.executable,
                "-m",
                "lab",
                command,
                str(run),
                *(["--format", "md"] if command == "report" else []),
            ]
            read = subprocess.run(argv, env=place.environment(""), capture_output=True, text=True)
            if read.returncode not in (whole if status in (0, 3) else cut) or "Traceback" in read.stderr:
                tally.add_wrong(name, f"lab {command}: exit status {read.returncode}: {read.stderr[-600:]}")
