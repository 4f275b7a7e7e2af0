"""The files that CI systems read: JUnit XML and KTAP, wherever the user wants them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.core.errors import LabError
from lab.core.render.junit import junit
from lab.core.render.ktap import ktap
from lab.core.render.test_cases import RunFacts, run_facts
from lab.core.result import CellResult
from lab.host.results.plain_files import write_aside
from lab.host.results.stored_run import StoredRun

_SUITES = "conntrack-lab"

# an option's name -> what it writes
FORMATS: Mapping[str, Callable[[Sequence[CellResult], RunFacts], str]] = {
    "junit": lambda cells, facts: junit(cells, _SUITES, facts),
    "ktap": lambda cells, facts: ktap(cells, facts.folder),
}


@dataclass(frozen=True)
class CiFiles:
    """Which file is asked for in which of FORMATS."""

    paths: Mapping[str, Path]

    def check(self) -> None:
        """Return if every file can be written; raises LabError, so that nothing is run for results that get lost."""
        for name, path in self.paths.items():
            if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
                raise LabError(f"--{name} {path}: cannot be written", hint="name a file in a folder that exists")

    def write(self, cells: Sequence[CellResult], run: Path) -> None:
        """Write them, each whole or not at all. Raises LabError for a file that cannot be written after all."""
        if not self.paths:
            return
        facts = run_facts(StoredRun(run).manifest, str(run))
        self.write_texts({name: partial(FORMATS[name], cells, facts) for name in self.paths})

    def write_texts(self, made: Mapping[str, Callable[[], str]]) -> None:
        """The same with texts of another origin, by their options' names."""
        for name, path in self.paths.items():
            try:
                _write(path, made[name]())
            except OSError as error:
                hint = "name another file; lab judge writes it without running anything again"
                raise LabError(f"--{name} {path}: cannot be written: {error.strerror}", hint=hint) from error


def _write(path: Path, text: str) -> None:
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe: no file can take its place
        path.write_text(text, encoding="utf-8")
    else:
        write_aside(path, text)
