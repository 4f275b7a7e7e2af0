"""A scheduler, workers and clients as programs of their own, with TLS; none of them outlives a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]

from lab.host.fleet.keys import make_keys
from lab.host.process import dying_with_parent
from lab.host.publish.schemas import schema_text
from lab.host.results.comparison import compare_runs
from lab.host.results.verify import verify_run
from tests import ROOT
from tests.unit.free_ports import free_row
from tests.unit.host.fleet.playback import WORDS, Play, put_image

SECONDS = 120.0  # for what is waited for; it is there much sooner
FINDINGS = {"pristine": "untracked", "nat-present": "table-full", "modules-blocked": "state-refused"}
LOOPBACK = "127.0.0.1"

Program = subprocess.Popen[str]


@dataclass
class Fleet:
    """A fleet in a folder; its workers play recorded cells back."""

    folder: Path
    play: Play = field(default_factory=Play)
    host: str = LOOPBACK  # of the scheduler
    programs: dict[str, Program] = field(default_factory=dict)  # by name, of each the last that was started
    _all: list[Program] = field(default_factory=list)

    def __post_init__(self) -> None:
        make_keys(self.folder / "keys", 2)
        put_image(self.folder / "client", padding_bytes=9_000_000)
        self.address = f"tls://{self.host}:{free_row()}"

    def start(self, name: str, words: Sequence[str], within: Sequence[str] = (), play: Play | None = None) -> Program:
        """Start `lab` with these words, under a name."""
        environment = {"XDG_CACHE_HOME": str(self.folder / "client"), "PYTHONUNBUFFERED": "1", "no_proxy": "*"}
        with (self.folder / f"{name}.starts.log").open("a") as starts:
            starts.write("started\n")
        with (self.folder / f"{name}.log").open("a") as log:
            started = subprocess.Popen(
                dying_with_parent([*within, sys.executable, "-m", "tests.unit.host.fleet.playback", *words]),
                cwd=ROOT,
                env={**os.environ, **environment, **(play or self.play).environment()},
                stdout=log,
                stderr=log,
                text=True,
            )
        self.programs[name] = started
        self._all.append(started)
        return started

    def start_scheduler(self) -> Program:
        """Start the scheduler, again at the same place; returns when it listens."""
        started = self.start("scheduler", ("fleet", "scheduler", "--listen", self.address, *self._keys))
        self.wait_for(lambda: self.said("scheduler").count("scheduler: ") == self._starts("scheduler"))
        return started

    def start_worker(self, name: str, *words: str, within: Sequence[str] = (), **play: Any) -> Program:
        """Start a worker of one slot, or start it again with the cache that it had; returns when it is there."""
        options = ("--name", name, "--slots", "1", "--cache", str(self.folder / name), "--listen", self.host, *words)
        command = ("fleet", "worker", self.address, *self._keys, *options)
        started = self.start(name, command, within, replace(self.play, **play))
        self.wait_for(lambda: self.said(name).count(f"worker {name}: 1 cells at once") >= self._starts(name))
        return started

    def start_client(
        self, *words: str, command: str = "run", name: str = "client", within: Sequence[str] = ()
    ) -> Program:
        """Start a command of `lab` on the fleet."""
        return self.start(name, (command, *words, "--fleet", self.address, *self._keys), within)

    def run(self, repeat: int, words: Sequence[str] = WORDS, within: Sequence[str] = ()) -> Program:
        """Start a run of three cells, each so many times."""
        output = str(self.folder / "results")
        return self.start_client(*words, "--repeat", str(repeat), "--output", output, within=within)

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

    def check_whole(self, repeat: int) -> None:
        """All cells of `run` are there, as they would be from this host."""
        found = Counter((cell["scenario"], cell["finding"]) for cell in self.document("results.json")["cells"])
        assert found == dict.fromkeys(FINDINGS.items(), repeat)
        manifest = self.document("manifest.json")
        assert manifest["complete"] is True
        assert Counter(cell for worker in manifest["workers"] for cell in worker["cells"]) == Counter(manifest["cells"])
        validator = jsonschema.Draft202012Validator(json.loads(schema_text("manifest")))
        assert [error.message for error in validator.iter_errors(manifest)] == []
        assert {seen.state for seen in verify_run(self.results.resolve(), cache=False)} == {"ok"}
        assert compare_runs(self.results, self.results).exit_status == 0

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

    @property
    def _keys(self) -> tuple[str, str]:
        return ("--keys", str(self.folder / "keys"))

    def _starts(self, name: str) -> int:
        return self.said(f"{name}.starts").count("\n")
