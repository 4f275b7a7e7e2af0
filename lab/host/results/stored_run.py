"""A stored run, read: the one reader of what `lab run` writes, whoever asks. A file is opened when it is asked for.

The folder may have been sent by somebody: `opened` looks for links, FIFOs and devices before anything is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from lab.core.errors import ScenarioError
from lab.core.manifest import ALWAYS, Manifest
from lab.core.result import RESULT_VERSION, CellResult, Try
from lab.host.results import layout
from lab.host.results.plain_files import check_plain, is_folder, read_json
from lab.host.results.records import Readable, readable_parts, whole
from lab.host.results.stored_cell import StoredCell, cell_result, if_there

_EXAMPLE = "for example results/latest"
_MOST_SECONDS = 10**6  # beyond it, what a stored run says of a cell's time is no time


def _as_it_is(content: Any) -> Any:
    return content


@dataclass(frozen=True)
class StoredRun:
    """A run's folder, or one that holds its manifest.json and results.json alone. All of it raises ScenarioError, and
    Damaged for files that are not what the lab writes. `cleaned` is what every document of the run goes through.
    """

    folder: Path
    cleaned: Callable[[Any], Any] = _as_it_is

    @property
    def has_cells(self) -> bool:
        """Whether the folder has the cells' evidence."""
        return is_folder(self.folder / layout.CELLS)

    @cached_property
    def cells(self) -> tuple[StoredCell, ...]:
        """The complete cells by the names of their folders. Raises ScenarioError where it is no run's folder."""
        cells = self.folder / layout.CELLS
        if not self.has_cells:
            raise ScenarioError(f"{self.folder}: is no run's folder (it has no {layout.CELLS}/)", hint=_EXAMPLE)
        folders = sorted(path for path in cells.iterdir() if is_folder(path) and not path.name.startswith("."))
        return tuple(map(StoredCell, folders))

    @property
    def ordered_cells(self) -> tuple[StoredCell, ...]:
        """The same in the order of results.json, as far as that tells."""
        order = {name: number for number, name in enumerate(self._names())}
        return tuple(sorted(self.cells, key=lambda cell: order.get(cell.name, len(order))))

    @cached_property
    def manifest_parts(self) -> Readable[Manifest]:
        """The manifest as far as it can be read, and what of it cannot be."""
        content = self.cleaned(self.document(layout.MANIFEST) or {})
        found = readable_parts(Manifest, content)
        return replace(found, wrong=(*found.wrong, *(name for name in ALWAYS if name not in content)))

    @property
    def manifest(self) -> Manifest:
        """The same; a part that is damaged is as one that is not there."""
        return self.manifest_parts.record or Manifest()

    @cached_property
    def results(self) -> tuple[CellResult, ...]:
        """The results of results.json; none where there is no such file."""
        path = self.folder / layout.RESULTS
        found = (self.document(layout.RESULTS) or {}).get("cells")
        return tuple(cell_result(self.cleaned(content), path) for content in (found if isinstance(found, list) else ()))

    def result(self, cell: StoredCell) -> CellResult:
        """A cell's own result. Raises ScenarioError where it has none."""
        content = cell.document(layout.RESULT)
        if content is None:
            hint = f"lab judge {self.folder} makes it from the evidence"
            raise ScenarioError(f"{cell.folder}: has no {layout.RESULT}", hint=hint)
        return cell_result(self.cleaned(content), cell.folder / layout.RESULT)

    def document(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the run's as it is; None where there is none."""
        return if_there(partial(read_json, self.folder / name))

    def seconds(self, names: Collection[str]) -> dict[str, float]:
        """How long those cells took that the run has, by name, all tries together.

        It is for guesses only: what cannot be read is left out.
        """
        try:
            found = (self.document(layout.RESULTS) or {}).get("cells", [])
            tries = {str(cell["cell"]): whole(tuple[Try, ...], cell["tries"]) for cell in found}
        except (ScenarioError, OSError, ValueError, TypeError, KeyError):
            return {}
        sums = {name: sum(attempt.seconds for attempt in tries[name]) for name in names if name in tries}
        return {name: float(seconds) for name, seconds in sums.items() if 0 < seconds < _MOST_SECONDS}

    def check_version(self) -> None:
        """Return if this lab can read the run. Raises ScenarioError for one that a newer lab wrote."""
        for name in reversed(layout.RUN_FILES):
            version = (self.document(name) or {}).get("schema_version", RESULT_VERSION)
            if not isinstance(version, int) or version > RESULT_VERSION:
                raise ScenarioError(
                    f"{self.folder / name}: schema_version is {version!r:.80}, this lab reads up to {RESULT_VERSION}",
                    hint="use the lab that wrote it, or a newer one",
                )

    def _names(self) -> list[str]:
        found = (self.document(layout.RESULTS) or {}).get("cells", [])
        try:
            return [str(cell["cell"]) for cell in found]
        except (TypeError, KeyError):
            return []


def opened(folder: Path, cleaned: Callable[[Any], Any] = _as_it_is) -> StoredRun:
    """A stored run that this lab can read. Raises ScenarioError where there is none, for one of a newer lab, and for
    one that holds a link, a FIFO or a device.
    """
    if not folder.is_dir():
        raise ScenarioError(f"{folder}: there is no such run", hint="lab run makes them in results/")
    check_plain(folder)
    run = StoredRun(folder, cleaned)
    run.check_version()
    return run


def wall_seconds(manifest: Manifest) -> float | None:
    """How long a run took; None where its manifest does not say."""
    try:
        started, ended = (datetime.fromisoformat(stamp or "") for stamp in (manifest.started_at, manifest.ended_at))
        return max(0.0, (ended - started).total_seconds())
    except (TypeError, ValueError):
        return None
