"""A fleet on this host: the lab's own scheduler and workers, with TLS on loopback and a cache for each worker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.common import ROOT, BenchError
from lab.host.process import dying_with_parent

SCHEDULER = "scheduler"
_TOKEN = "LAB_BENCH_FLEET"  # in the environment of all that the fleet starts, its guests too
_SECONDS = 120.0

Program = subprocess.Popen[bytes]


@dataclass
class LocalFleet:
    """Programs in a folder; all of them end with the block."""

    folder: Path
    workers: Sequence[str]
    _programs: dict[str, Program] = field(default_factory=dict)
    _token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __enter__(self) -> LocalFleet:
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"tls://127.0.0.1:{free.getsockname()[1]}"
        made = [sys.executable, "-m", "lab", "fleet", "keys", str(self.folder / "keys"), "--days", "2"]
        subprocess.run(made, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        for name in (SCHEDULER, *self.workers):
            self.start(name)
        for name in self.workers:
            self.wait_for(lambda name=name: "at once" in self.said(name), f"worker {name}")  # type: ignore[misc]
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._programs:
            self.kill(name)

    @property
    def options(self) -> list[str]:
        """What leads `lab run` to this fleet."""
        return ["--fleet", self.address, "--keys", str(self.folder / "keys")]

    def start(self, name: str) -> None:
        """Start the scheduler or a worker, or start it again as it was."""
        keys = ("--keys", str(self.folder / "keys"))
        words = ["scheduler", "--listen", self.address, *keys]
        if name != SCHEDULER:
            cache = ("--cache", str(self.folder / name))
            words = ["worker", self.address, *keys, "--name", name, "--slots", "1", *cache]
        self._programs[name] = self._start(name, ["fleet", *words])

    def client(self, *words: str) -> Program:
        """Start `lab run` on the fleet; what it says is `said("client")`."""
        return self._start("client", ["run", *words, *self.options])

    def kill(self, name: str) -> None:
        """End a program with SIGKILL."""
        self._programs[name].send_signal(signal.SIGKILL)
        self._programs[name].wait(_SECONDS)

    def said(self, name: str) -> str:
        """What a program has printed, all of its starts together."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def has_booted(self, name: str) -> bool:
        """Whether a worker has an image and the saved state of a machine, both whole."""
        return any((self.folder / name / "conntrack-lab" / "states").glob("[!.]*"))

    def guests(self) -> list[int]:
        """The QEMUs of this fleet that there are now."""
        entry, found = f"{_TOKEN}={self._token}".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                is_guest = (process / "comm").read_text().startswith("qemu")
                if is_guest and entry in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def wait_for(self, seen: Callable[[], bool], what: str, seconds: float = _SECONDS) -> None:
        """Return when something is so. Raises BenchError when it is not in time."""
        until = time.monotonic() + seconds
        while not seen():
            if time.monotonic() > until:
                raise BenchError(f"{what}: not within {seconds:g} s; look into {self.folder}")
            time.sleep(0.1)

    def _start(self, name: str, words: Sequence[str]) -> Program:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                dying_with_parent([sys.executable, "-m", "lab", *words]),
                cwd=ROOT,
                env={**os.environ, _TOKEN: self._token, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
