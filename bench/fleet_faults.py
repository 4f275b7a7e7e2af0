"""A run on a fleet whose workers are killed one after the other, and whose scheduler is killed once.

A worker is started again a second later, as systemd would. The run is taken up again where its scheduler was lost.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from bench.common import ROOT, BenchError, progress
from bench.guests import Run
from bench.local_fleet import SCHEDULER, LocalFleet, Program

KILL_SECONDS = 20.0
_RESTART_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_MOST_SECONDS_PER_CELL = 30.0
_GUESTS_END_SECONDS = 10.0
_SCHEDULER_GOES_AT = 0.4  # of the cells
_INTERRUPTED = 2  # the lab's exit status where the scheduler is gone


@dataclass
class Outlived:
    """What a run had to live through, and what came of it."""

    run: Run
    folder: Path
    statuses: list[int | None] = field(default_factory=list)  # of `lab run`, each time
    kills: Counter[str] = field(default_factory=Counter)
    cells_before: int = 0  # the scheduler was killed
    fetches: Mapping[str, int] = field(default_factory=dict)  # of the image, by worker
    guests_left: int = 0  # after the run, and after the fleet
    read: Mapping[str, int] = field(default_factory=dict)  # exit status of what reads the run


@dataclass
class _Killer:
    """Kills a worker every KILL_SECONDS, the next one each time, and starts again what it killed."""

    fleet: LocalFleet
    kills: Counter[str] = field(default_factory=Counter)
    _due: float = 0.0
    _next: Iterator[str] = field(default_factory=lambda: iter(()))
    _down: dict[str, float] = field(default_factory=dict)  # when it is to be started

    def begin(self) -> None:
        """From now on."""
        self._next, self._due = cycle(self.fleet.workers), time.monotonic() + KILL_SECONDS

    def kill(self, name: str) -> None:
        """Kill a program, and start it again soon."""
        self.fleet.kill(name)
        self.kills[name] += 1
        self._down[name] = time.monotonic() + _RESTART_SECONDS

    def tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        for name in [name for name, at in self._down.items() if at <= now]:
            del self._down[name]
            self.fleet.start(name)
        if self._due and now >= self._due:
            self._due += KILL_SECONDS
            self.kill(next(self._next))

    def settle(self) -> None:
        """Start what is down, and kill no more."""
        self._due = 0.0
        while self._down:
            self.tick()
            time.sleep(_LOOK_SECONDS)


def outlive(folder: Path, words: Sequence[str], cells: int) -> Outlived:
    """Run `lab run WORDS`, which means so many cells, on three workers that are killed. Raises BenchError."""
    started, results = time.monotonic(), folder / "results"
    with LocalFleet(folder / "fleet", "abc") as fleet:
        killer, until = _Killer(fleet), started + 300 + _MOST_SECONDS_PER_CELL * cells
        outlived = Outlived(Run(0.0, (), ()), results / "latest", kills=killer.kills)
        client = fleet.client(*words, "--output", str(results))
        try:
            # one that is killed again and again while it boots a machine for the first time gets nowhere
            fleet.wait_for(lambda: all(map(fleet.has_booted, fleet.workers)), "a machine on every worker", 300)
            killer.begin()
            status = _attend(killer, client, until, lambda: _count(outlived.folder) >= _SCHEDULER_GOES_AT * cells)
            if status is not None:
                raise BenchError(f"lab run ended with {status} on its own: {fleet.said('client')[-1000:]}")
            outlived.cells_before = _count(outlived.folder)
            killer.kill(SCHEDULER)
            outlived.statuses.append(_attend(killer, client, until))
            client = fleet.client("--resume", str(outlived.folder))
            outlived.statuses.append(_attend(killer, client, until))
            if outlived.statuses != [_INTERRUPTED, 0]:
                progress(f"lab run: {outlived.statuses}: {fleet.said('client')[-1000:]}")
        finally:
            client.kill()
            client.wait()
        outlived.guests_left = _guests_left(fleet)
        killer.settle()
        said = fleet.said("client")
        outlived.fetches = {name: said.count(f"{name}: gets ") for name in fleet.workers}
    outlived.guests_left += _guests_left(fleet)
    outlived.run = Run(time.monotonic() - started, _cells(outlived.folder), ())
    outlived.read = {"verify": lab("verify", str(outlived.folder))}
    return outlived


def lab(*words: str) -> int:
    """The exit status of a command of the lab."""
    return subprocess.run(
        [sys.executable, "-m", "lab", *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ).returncode


def _attend(killer: _Killer, client: Program, until: float, enough: Callable[[], bool] = lambda: False) -> int | None:
    """Let a run go on until it ends, or until there is enough of it; its exit status if it ended."""
    said_at = time.monotonic()
    while client.poll() is None and not enough():
        if time.monotonic() > until:
            raise BenchError("the run does not come to its end")
        if time.monotonic() - said_at > 60:
            said_at = time.monotonic()
            progress(f"{sum(killer.kills.values())} kills so far")
        killer.tick()
        time.sleep(_LOOK_SECONDS)
    return client.returncode


def _count(run: Path) -> int:
    return sum(1 for _ in run.glob("cells/[!.]*/result.json"))


def _cells(run: Path) -> tuple[Mapping[str, Any], ...]:
    return tuple(json.loads((run / "results.json").read_text())["cells"])


def _guests_left(fleet: LocalFleet) -> int:
    """How many QEMUs there are still, a moment after they should have gone."""
    until = time.monotonic() + _GUESTS_END_SECONDS
    while (left := fleet.guests()) and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
    return len(left)
