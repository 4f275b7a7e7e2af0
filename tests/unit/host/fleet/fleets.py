"""A scheduler, workers and clients as programs of their own, with TLS on loopback; none of them outlives a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.host.fleet.keys import make_keys
from tests import ROOT
from tests.unit.free_ports import free_row
from tests.unit.host.fleet.playback import WORDS, put_image

SECONDS = 120.0  # for what is waited for; it is there much sooner

Program = subprocess.Popen[str]


@dataclass
class Fleet:
    """A fleet in a folder; its workers play recorded cells back."""

    folder: Path
    load_seconds: float = 0.0
    programs: dict[str, Program] = field(default_factory=dict)  # by name, of each the last that was started
    _all: list[Program] = field(default_factory=list)

    def __post_init__(self) -> None:
        make_keys(self.folder / "keys", 2)
        put_image(self.folder / "client", padding_bytes=9_000_000)
        self.address = f"tls://127.0.0.1:{free_row()}"

    def start_scheduler(self) -> Program:
        """Start the scheduler, again at the same place; returns when it listens."""
        options = ("--listen", self.address, "--keys", str(self.folder / "keys"))
        started = self._start("scheduler", "-m", "lab", "fleet", "scheduler", *options)
        self.wait_for(lambda: self.said("scheduler").count("scheduler: ") == self._starts("scheduler"))
        return started

    def start_worker(self, name: str) -> Program:
        """Start a worker, or start it again with the cache that it had."""
        keys, cache = self.folder / "keys", self.folder / name
        words = ("worker", self.address, str(keys), name, str(cache), str(self.load_seconds))
        return self._start(name, "-m", "tests.unit.host.fleet.playback", *words)

    def start_client(self, *words: str, name: str = "client") -> Program:
        """Start `lab run` on the fleet."""
        options = ("--fleet", self.address, "--keys", str(self.folder / "keys"))
        return self._start(name, "-m", "lab", "run", *words, *options)

    def run(self, repeat: int) -> Program:
        """Start a run of three cells, each so many times."""
        return self.start_client(*WORDS, "--repeat", str(repeat), "--output", str(self.folder / "results"))

    def said(self, name: str) -> str:
        """What a program has printed, all of its starts together."""
        return (self.folder / f"{name}.log").read_text()

    @property
    def results(self) -> Path:
        """The run's folder."""
        return self.folder / "results" / "latest"

    def cells(self) -> list[str]:
        """The cells that are in the run's folder now."""
        folder = self.results / "cells"
        return [path.name for path in folder.glob("[!.]*")] if folder.is_dir() else []

    def document(self, name: str) -> dict[str, Any]:
        """A JSON file of the run's."""
        content: dict[str, Any] = json.loads((self.results / name).read_text())
        return content

    def running(self, worker: str) -> bool:
        """Whether a worker has a chunk; its folder goes when the process is gone that ran it."""
        chunks = self.folder / worker / "conntrack-lab" / "chunks"
        return chunks.is_dir() and any(chunks.iterdir())

    def processes(self, worker: str) -> list[int]:
        """The processes in which a worker runs chunks, or waits for them."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = os.fsencode(f"XDG_CACHE_HOME={self.folder / worker}") in (path / "environ").read_bytes()
                if is_ours and b"\0chunks\0" in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def wait_for(self, seen: Callable[[], object]) -> None:
        """Return when something is so."""
        until = time.monotonic() + SECONDS
        while not seen():
            if time.monotonic() > until:
                said = {name: self.said(name)[-2000:] for name in self.programs}
                raise AssertionError(f"it did not happen; {said}")
            time.sleep(0.05)

    def close(self) -> None:
        """End all programs."""
        for program in self._all:
            if program.poll() is None:
                program.send_signal(signal.SIGCONT)
                program.kill()
            program.wait(SECONDS)

    def _starts(self, name: str) -> int:
        return self.said(f"{name}.starts").count("\n")

    def _start(self, name: str, *words: str) -> Program:
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "client"), "PYTHONUNBUFFERED": "1"}
        with (self.folder / f"{name}.starts.log").open("a") as starts:
            starts.write("started\n")
        with (self.folder / f"{name}.log").open("a") as log:
            started = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log, text=True
            )
        self.programs[name] = started
        self._all.append(started)
        return started
