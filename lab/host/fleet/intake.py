"""A cell comes from a worker, which is not trusted with it: checked, judged again, and put into the run's folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import LabError
from lab.core.plan import CellPlan
from lab.core.result import CellResult
from lab.core.sums import SUMS
from lab.host.fleet import WORKER_HINT, archive
from lab.host.results import layout, store
from lab.host.results.checked import DIFFERS, UNKNOWN
from lab.host.results.judging import judge_folder
from lab.host.results.plain_files import read_json, read_text
from lab.host.results.stored_cell import StoredCell
from lab.host.results.verify import cell_files


@dataclass(frozen=True)
class Intake:
    """Where a run's cells go, and what is known of them beforehand."""

    run: store.RunFolder
    texts: Mapping[str, str]  # of the scenarios, by name
    mitigate: bool

    def take(self, plan: CellPlan, data: bytes) -> CellResult:
        """The result of a cell that is in the run's folder from now on. Raises LabError for an archive that is not
        what was asked for, whole; then nothing is there.
        """
        with self.run.cell(plan.cell) as place:
            return self._judged(plan, data, place)

    def compare(self, plan: CellPlan, data: bytes, first: CellResult) -> str | None:
        """A cell that came before comes again: that it found something else, in a line. Nothing is stored."""
        with tempfile.TemporaryDirectory(prefix=layout.PARTIAL, dir=self.run.path) as folder:
            try:
                again = self._judged(plan, data, Path(folder))
            except LabError as error:
                return f"{plan.cell}: came a second time, not whole: {error}"
        if again.finding == first.finding:
            return None
        return f"{plan.cell}: came a second time, and found {again.finding}; {first.finding}, which came first, counts"

    def _judged(self, plan: CellPlan, data: bytes, place: Path) -> CellResult:
        archive.unpack(data, place)
        wrong = next((seen for seen in cell_files(place) if seen.state in (DIFFERS, UNKNOWN)), None)
        if wrong is not None:
            raise LabError(f"{plan.cell}: {Path(wrong.where).name}: {wrong.what}", WORKER_HINT)
        (place / SUMS).unlink()  # made anew of what is there in the end
        try:
            self._check_asked_for(plan, place)
        except FileNotFoundError as error:
            raise LabError(f"{plan.cell}: has no {Path(error.filename).name}", WORKER_HINT) from error
        return judge_folder(place, StoredCell(place).tries(), self.mitigate)

    def _check_asked_for(self, plan: CellPlan, place: Path) -> None:
        planned = json.loads(json.dumps(plan.to_json()))
        for what, is_it in (
            (layout.PLAN, read_json(place / layout.PLAN) == planned),
            (layout.SCENARIO, read_text(place / layout.SCENARIO) == self.texts[plan.scenario]),
        ):
            if not is_it:
                raise LabError(f"{plan.cell}: its {what} is not what the worker was sent", WORKER_HINT)
