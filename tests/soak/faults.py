"""What can go wrong around a run, and what it may cost: a cell its finding (`inconclusive`), never another finding."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.soak.processes import name_of, processes_of

_RESULTS_KB = (20, 700)  # below what four cells take
_NEXT_MACHINE_SECONDS = 5.0
_STATES_MB = 2048  # room for one saved state, until it is filled
_FILLER = ".filler"
_CHUNK = bytes(2**20)


@dataclass
class Disturbed:
    """A run that is under way, and the means to disturb it."""

    lab: subprocess.Popen[str]
    token: str
    cache: Path
    chance: random.Random

    @property
    def states_folder(self) -> Path:
        """Where the lab keeps the memory of machines."""
        return self.cache / "conntrack-lab" / "states"

    def hit(self, number: int, *, again_seconds: float | None = None) -> None:
        """Send a signal to one of its QEMUs, or to the next where none runs; SIGCONT after a while, if that is said."""
        deadline = time.monotonic() + _NEXT_MACHINE_SECONDS
        while time.monotonic() < deadline and self.lab.poll() is None:
            if machines := [pid for pid in processes_of(self.token) if "qemu-system" in name_of(pid)]:
                with contextlib.suppress(ProcessLookupError):
                    self._signal(self.chance.choice(machines), number, again_seconds)
                return
            time.sleep(0.05)

    def stop_lab(self, seconds: float) -> None:
        """As a laptop that sleeps: the guests go on, the lab does not."""
        self._signal(self.lab.pid, signal.SIGSTOP, seconds)

    def _signal(self, pid: int, number: int, again_seconds: float | None) -> None:
        os.kill(pid, number)
        if again_seconds is not None:
            time.sleep(again_seconds)
            os.kill(pid, signal.SIGCONT)

    def remove_states(self) -> None:
        """As another lab does that needs the space."""
        for state in self._states():
            shutil.rmtree(state, ignore_errors=True)

    def damage_states(self, name: str) -> None:
        """As a bad disk does, with no size changed: zeros for what was there."""
        for state in self._states():
            with contextlib.suppress(OSError):
                size = (state / name).stat().st_size
                os.truncate(state / name, 0)
                os.truncate(state / name, size)

    def fill_states(self) -> None:
        """Leave no byte where states are saved."""
        with contextlib.suppress(OSError), (self.states_folder / _FILLER).open("wb", buffering=0) as filler:
            while filler.write(_CHUNK):
                pass

    def _states(self) -> list[Path]:
        return sorted(self.states_folder.glob("[!.]*"))


@dataclass(frozen=True)
class Fault:
    """A way to disturb a run, and the exit statuses that the run may have then."""

    act: Callable[[Disturbed], object]
    statuses: frozenset[int]
    within_seconds: float = 2.5  # of a cell's beginning
    once: bool = False  # in a run, however long
    leaves_folders: bool = False  # nobody is left to remove what was half written
    results_kb: tuple[int, int] | None = None  # of the file system for results
    states_mb: int | None = None  # of the one for saved states

    @property
    def needs_root(self) -> bool:
        """Whether a file system has to be mounted for it."""
        return self.results_kb is not None or self.states_mb is not None


_MAYBE_LOST = frozenset({0, 3})
_INTERRUPTED = frozenset({0, 130})

FAULTS: dict[str, Fault] = {
    "none": Fault(lambda run: None, frozenset({0})),
    "SIGKILL of a QEMU": Fault(lambda run: run.hit(signal.SIGKILL), _MAYBE_LOST),
    "SIGSTOP of a QEMU for 3 s": Fault(lambda run: run.hit(signal.SIGSTOP, again_seconds=3), _MAYBE_LOST),
    "SIGSTOP of a QEMU": Fault(lambda run: run.hit(signal.SIGSTOP), _MAYBE_LOST, once=True),
    "SIGSTOP of the lab for 3 s": Fault(lambda run: run.stop_lab(3), _MAYBE_LOST),
    "saved states removed": Fault(Disturbed.remove_states, _MAYBE_LOST),
    "saved devices damaged": Fault(lambda run: run.damage_states("devices"), _MAYBE_LOST),
    "saved memory lost": Fault(lambda run: run.damage_states("memory"), _MAYBE_LOST),
    "full disk for results": Fault(lambda run: None, frozenset({2}), results_kb=_RESULTS_KB),
    "full disk for states": Fault(
        Disturbed.fill_states, frozenset({0, 2, 3}), within_seconds=10, once=True, states_mb=_STATES_MB
    ),
    "SIGINT": Fault(lambda run: run.lab.send_signal(signal.SIGINT), _INTERRUPTED, once=True),
    "SIGTERM": Fault(lambda run: run.lab.send_signal(signal.SIGTERM), _INTERRUPTED, once=True),
    "SIGHUP": Fault(lambda run: run.lab.send_signal(signal.SIGHUP), _INTERRUPTED, once=True),
    "SIGKILL of the lab": Fault(
        lambda run: run.lab.kill(), frozenset({0, -signal.SIGKILL}), once=True, leaves_folders=True
    ),
}


def dealt(chance: random.Random, as_root: bool) -> Iterator[str]:
    """Faults without end, in an order of chance: each comes once before any comes again."""
    names = [name for name, fault in FAULTS.items() if as_root or not fault.needs_root]
    while True:
        yield from chance.sample(names, len(names))


@contextlib.contextmanager
def file_systems(fault: Fault, results: Path, states: Path, chance: random.Random) -> Iterator[None]:
    """The small file systems that a fault needs."""
    with contextlib.ExitStack() as stack:
        if fault.results_kb is not None:
            stack.enter_context(_mounted(results, f"{chance.randint(*fault.results_kb)}k"))
        if fault.states_mb is not None:
            stack.enter_context(_mounted(states, f"{fault.states_mb}m"))
        yield


@contextlib.contextmanager
def _mounted(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
