"""The recorded samples of a run's cells, as the lines of characters that its table has."""

from __future__ import annotations

from pathlib import Path

from lab.core.errors import LabError
from lab.core.render.occupancy import UNKNOWN, Marks, sparkline
from lab.host.results import store


def sparklines(run: Path, marks: Marks) -> dict[str, str]:
    """The sparkline of every cell of a run, by the cell's name; empty for a cell that sampled nothing.

    What cannot be read is unknown; a run without cells has none.
    """
    if not (run / "cells").is_dir():
        return {}
    return {folder.name: _sparkline(folder, marks) for folder in store.cell_folders(run)}


def _sparkline(cell: Path, marks: Marks) -> str:
    try:
        return sparkline(store.read_samples(cell), marks)
    except (OSError, LabError, ValueError, RecursionError):
        return UNKNOWN
