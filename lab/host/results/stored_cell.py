"""A cell of a stored run: everything that lies in its folder, read. A file is opened when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lab.core.errors import ScenarioError
from lab.core.evidence import Evidence, Sample, Snapshot, parse_samples
from lab.core.facts import Facts, parse_facts
from lab.core.plan.stored import StoredPlan
from lab.core.result import RESULT_VERSION, CellResult, Try
from lab.core.scenario import Scenario, parse_scenario
from lab.guest.observe import ITEM_NAMES
from lab.host.results import layout
from lab.host.results.plain_files import Damaged, is_folder, read_json, read_text
from lab.host.results.records import Wrong, readable_parts, whole

_T = TypeVar("_T")
_MAX_SCENARIO_BYTES = 64 * 1024 * 1024  # a stored one has the files beside it in it, each of up to 16 MB
_JUDGE_AGAIN = "lab judge makes it again"


@dataclass(frozen=True)
class StoredCell:
    """A cell's folder. Everything raises Damaged for files that are not what the lab writes."""

    folder: Path

    @property
    def name(self) -> str:
        """The cell's."""
        return self.folder.name

    def document(self, name: str) -> dict[str, Any] | None:
        """A JSON file as it is; None where there is none."""
        return if_there(partial(read_json, self.folder / name))

    def text(self, name: str) -> str | None:
        """A text; None where there is none."""
        return if_there(partial(read_text, self.folder / name))

    def plan(self) -> StoredPlan:
        """The cell's plan; of its machine and load the parts that can be read. Raises ScenarioError without one."""
        path, content = self.folder / layout.PLAN, self.document(layout.PLAN)
        if content is None:
            raise ScenarioError(
                f"{self.folder}: has no {layout.PLAN}", hint="restore it, or move the cell's folder away"
            )
        found = readable_parts(StoredPlan, content)
        if found.record is None:
            raise Damaged(path, f"{found.wrong[0]} is missing or of a wrong type")
        return found.record

    def tries(self) -> tuple[Try, ...]:
        """The tries that the stored result names; none where there is no result."""
        content = self.document(layout.RESULT) or {}
        try:
            return whole(tuple[Try, ...], content.get("tries", []))
        except Wrong as wrong:
            what = f"tries are not what the lab writes: {wrong}"
            raise Damaged(self.folder / layout.RESULT, what, "remove it, and judge again") from wrong

    def scenario(self) -> Scenario:
        """The scenario that the cell was run with, from its own copy. Raises ScenarioError."""
        path, plan = self.folder / layout.SCENARIO, self.plan()
        try:
            text = read_text(path, _MAX_SCENARIO_BYTES)
        except (OSError, Damaged) as error:
            raise ScenarioError(
                f"{path}: cannot be read: {getattr(error, 'what', error)}",
                hint="the judge needs it: copy it from scenarios/ if it is unchanged, or run the cell again",
            ) from error
        try:
            return parse_scenario(text, f"{plan.scenario}.toml")
        except ScenarioError as error:
            raise Damaged(path, str(error), "restore it, or run the cell again") from error

    def evidence(self) -> Evidence:
        """What was recorded. Raises ValueError for files that are not what `write_recording` writes."""
        steps = self._part("steps") or {"reached": None, "steps": []}
        return Evidence(
            settings=self._part("settings"),
            steps=tuple(steps["steps"]),
            reached=steps["reached"],
            before=self._snapshot(layout.BEFORE),
            after=self._snapshot(layout.AFTER),
            ends={role: end for role, name in layout.ENDS.items() if (end := self._snapshot(name)) is not None},
            samples=self.samples(),
            load=self._part("load"),
            kernel_log=self.text(layout.KERNEL_LOG),
            kernel_log_holes=self._part("kernel_log_holes"),
            facts=self.facts(),
            lost=self._why("lost"),
            skipped=self._why("skipped"),
            path_error=(self._part("topology") or {}).get("error"),
            peer=self._part("peer"),
        )

    def samples(self) -> tuple[Sample, ...]:
        """The samples by time; none where no load was driven. Raises ValueError for damaged ones."""
        return parse_samples((self.text(layout.SAMPLES) or "").splitlines())

    def facts(self) -> Facts:
        """What is known of the machine. Raises ValueError for what no agent can have said."""
        return parse_facts((self.document(layout.PLAN) or {}).get("target", ""), self._part("machine"))

    def _part(self, name: str) -> dict[str, Any] | None:
        return self.document(layout.part(name))

    def _why(self, name: str) -> str | None:
        content = self._part(name)
        return None if content is None else str(content[name])

    def _snapshot(self, name: str) -> Snapshot | None:
        place = f"{layout.EVIDENCE}/{name}"
        if not is_folder(self.folder / place):
            return None
        texts = {item: text for item in ITEM_NAMES if (text := self.text(f"{place}/{item}.txt")) is not None}
        return Snapshot(texts, self.document(f"{place}/{layout.ERRORS}") or {})


def cell_result(content: object, path: Path) -> CellResult:
    """A stored result, from result.json or the cells of results.json. Raises Damaged."""
    name = f"{content.get('cell')!r:.100}" if isinstance(content, dict) else "a cell"
    version = content.get("schema_version", RESULT_VERSION) if isinstance(content, dict) else None
    if isinstance(version, int) and version > RESULT_VERSION:
        what = f"{name}: schema_version is {version!r:.20}, this lab reads up to {RESULT_VERSION}"
        raise Damaged(path, what, "use the lab that wrote it, or a newer one")
    try:
        return whole(CellResult, content)
    except Wrong as wrong:
        raise Damaged(path, f"{name}: {wrong}", _JUDGE_AGAIN) from wrong


def if_there(read: Callable[[], _T]) -> _T | None:
    """What is read; None where there is no such file."""
    try:
        return read()
    except FileNotFoundError:
        return None
