"""A guest that says anything: a recorded session, changed at random, ends as a result, and never as a fault of the lab.

LAB_FUZZ_ROUNDS=500 makes it long.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.core.plan import CellPlan
from lab.core.render.tables import human_table, markdown_table, one_line
from lab.core.scenario.expectation import FINDING_EVIDENCE
from lab.host.machines.machine import OnEvent
from lab.host.machines.playback import (
    RecordedMachine,
    ReplayMachine,
    ReplayProvisioner,
    recorded_machine,
    recorded_plan,
)
from lab.host.options import Deadlines
from lab.host.results.store import create_run
from lab.host.run.recording import Progress
from lab.host.run.runner import Job, Runner
from tests.fuzz.mutations import STRANGE, another_text
from tests.recordings import GOLDEN

pytestmark = pytest.mark.asyncio

ROUNDS = int(os.environ.get("LAB_FUZZ_ROUNDS", "20"))
SEED = int(os.environ.get("LAB_FUZZ_SEED", "0"))
CELLS = sorted(path for path in (GOLDEN / "cells").iterdir() if path.is_dir())


class Lying(ReplayMachine):
    """Says what was recorded, with something changed in a few of its messages."""

    def __init__(self, cell: Path, chance: random.Random) -> None:
        super().__init__(cell)
        self._chance = chance

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        def changed_event(event: Mapping[str, Any]) -> None:
            if on_event is not None and self._chance.random() < 0.98:
                on_event(self._changed(event))

        answer = await super().call(operation, deadline_seconds=deadline_seconds, on_event=changed_event, **arguments)
        return self._changed(answer)

    def _changed(self, message: Mapping[str, Any]) -> dict[str, Any]:
        # as it comes from the channel: JSON
        content: dict[str, Any] = json.loads(json.dumps(dict(message)))
        if self._chance.random() < 0.15 and content:
            self._change(content)
        return content

    def _change(self, content: dict[str, Any]) -> None:
        name = self._chance.choice(sorted(content))
        value = content[name]
        if isinstance(value, dict) and value and self._chance.random() < 0.7:
            self._change(value)
        elif isinstance(value, str) and self._chance.random() < 0.7:
            content[name] = another_text(self._chance, value)
        elif self._chance.random() < 0.3:
            del content[name]
        else:
            content[name] = self._chance.choice(STRANGE)


class LyingProvisioner(ReplayProvisioner):
    """Gives such machines."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    @contextlib.asynccontextmanager
    async def machine(self, spec: RecordedMachine) -> AsyncIterator[ReplayMachine]:
        yield Lying(spec.cell, self._chance)


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_whatever_a_guest_says_a_cell_has_a_finding(number: int, tmp_path: Path) -> None:
    chance = random.Random(SEED * 10**6 + number)
    cell = chance.choice(CELLS)
    job = Job(recorded_plan(cell), recorded_machine(cell), (cell / "scenario.toml").read_text(), mitigate=True)
    seen: list[str] = []

    def on_progress(plan: CellPlan, progress: Progress) -> None:
        seen.append(progress.step or progress.stage)

    with create_run(tmp_path) as folder:
        runner = Runner(LyingProvisioner(chance), folder, Deadlines(), on_progress, lambda plan, result: None)
        await runner.run_all([job], 1)
    (result,) = runner.results
    assert result.finding in FINDING_EVIDENCE
    for text in (human_table([result]), markdown_table([result]), one_line(result)):
        assert text and len(text) < 200_000
        assert all(line.isprintable() for line in text.split("\n"))
    assert all(len(text) < 1000 for text in seen)
