"""What several commands do with a stored run: find it, and print its results in the format that was asked for."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lab.core.errors import LabError
from lab.host.cli.console import say, shows
from lab.host.publish import github

if TYPE_CHECKING:
    from lab.core.result import CellResult
    from lab.host.publish.ci import CiFiles


def stored_run(folder: str) -> Path:
    """A run's folder. Raises LabError where there is nothing of that name; what is in it, its readers check."""
    run = Path(folder)
    if not run.exists():
        raise LabError(f"{folder}: there is no such run", hint="name a run's folder, for example results/latest")
    return run


def ci_files(options: argparse.Namespace) -> CiFiles:
    """The files for CI systems that were asked for, none of them written yet."""
    from lab.host.publish.ci import FORMATS, CiFiles

    return CiFiles({name: Path(path) for name in FORMATS if (path := getattr(options, name)) is not None})


def formatted(cells: list[CellResult], form: str, run: Path) -> str:
    """The results of a run in one of the formats; what is not in them is read in the run's folder."""
    from lab.core.render import tables as output
    from lab.core.render.occupancy import ASCII, BLOCKS
    from lab.host.results.samples import sparklines
    from lab.host.results.store import results_json

    if form == "json":
        return github.printed_json(json.dumps(results_json(cells), indent=1))
    if form == "md":
        return github.printed(output.markdown_table(cells))
    marks = BLOCKS if shows(sys.stdout, BLOCKS.all) else ASCII
    return github.printed(output.human_table(cells, sparklines(run, marks)))


def show_results(cells: list[CellResult], run: Path, form: str, files: CiFiles) -> None:
    """A run's results: to the files that CI reads, to stdout, and to GitHub where it runs this."""
    from lab.core.render.github import run_summary

    files.write(cells, run)
    print(formatted(cells, form, run))
    for command in github.workflow_commands(cells, str(run)):
        print(command, file=sys.stderr, flush=True)
    github.append_summary(partial(run_summary, cells, str(run)), say)
