"""The recorded samples of a run's cells, as the lines of characters that its table has."""

from __future__ import annotations

from pathlib import Path

from lab.core.errors import LabError
from lab.core.render.occupancy import UNKNOWN, Marks, sparkline
from lab.host.results.stored_cell import StoredCell
from lab.host.results.stored_run import StoredRun


def sparklines(folder: Path, marks: Marks) -> dict[str, str]:
    """The sparkline of every cell of a run, by the cell's name; empty for a cell that sampled nothing.

    What cannot be read is unknown; a run without cells has none.
    """
    run = StoredRun(folder)
    return {cell.name: _sparkline(cell, marks) for cell in run.cells} if run.has_cells else {}


def _sparkline(cell: StoredCell, marks: Marks) -> str:
    try:
        return sparkline(cell.samples(), marks)
    except (OSError, LabError, ValueError, RecursionError):
        return UNKNOWN
