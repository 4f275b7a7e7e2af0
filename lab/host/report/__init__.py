"""`lab report`: a run as one HTML page with plots that needs nothing else, or as Markdown."""

from __future__ import annotations

import os
from pathlib import Path

from lab.core.errors import LabError, PrerequisiteError, ScenarioError
from lab.core.render.report import report
from lab.core.render.report_markdown import markdown
from lab.core.render.views import Report
from lab.host.report.reading import ReadRun, read_run
from lab.host.results.layout import PAGE
from lab.host.results.plain_files import write_aside
from lab.host.results.stored_run import wall_seconds

__all__ = ["MADE_BY", "PAGE", "report_html", "report_markdown", "write_report"]

MADE_BY = "Made by lab report"  # by which a file is known as one that may be written again
_HEAD_BYTES = 300


def report_markdown(run: Path) -> str:
    """A run as Markdown. Raises ScenarioError for what is no run, is damaged, or is too new."""
    stored = read_run(run)
    return markdown(_report(stored), MADE_BY)


def report_html(run: Path, output: Path) -> str:
    """A run as an HTML page that is to lie at `output`, from where its links lead to the evidence.

    Raises ScenarioError as `report_markdown` does, and PrerequisiteError where the page's libraries are not installed.
    """
    try:
        from lab.host.report import page, plots
    except ModuleNotFoundError as error:
        raise PrerequisiteError(
            f"lab report needs {str(error.name).partition('.')[0]}, which is not installed",
            hint="pip install 'conntrack-lab[report]' (in a checkout: pip install -e '.[report]'); "
            "--format md needs nothing",
        ) from error
    stored = read_run(run)
    made = _report(stored)
    drawn = plots.draw_all([cell.panels for cell in made.cells])
    folder = os.path.relpath(stored.folder.resolve(), output.parent.resolve())
    return page.page(made, drawn, folder, MADE_BY)


def write_report(run: Path, output: Path, form: str = "html") -> None:
    """Write a run's report to `output`, whole or not at all.

    Raises what making it raises, and LabError where `output` cannot be written or is something else than a report.
    """
    if not run.is_dir():
        raise ScenarioError(f"{run}: there is no such run", hint="for example lab report results/latest")
    if output.is_dir() or not os.access(output.parent, os.W_OK):
        raise LabError(f"{output}: cannot be written", hint="name a file in a folder that you may write with --output")
    if output.exists() and not _is_report(output):
        raise LabError(f"{output}: is there, and is no report", hint="name another file with --output, or remove it")
    text = report_html(run, output) if form == "html" else report_markdown(run)
    try:
        write_aside(output, text)
    except OSError as error:
        raise LabError(
            f"{output}: cannot be written: {error.strerror}", hint="name another file with --output"
        ) from error


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return MADE_BY.encode() in file.read(_HEAD_BYTES)


def _report(stored: ReadRun) -> Report:
    try:
        return report(stored.name, stored.manifest, stored.cells, stored.summaries, wall_seconds(stored.manifest))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ScenarioError(
            f"{stored.folder}: a result or plan is damaged: {error!r}", hint=f"lab judge {stored.folder}"
        ) from error
