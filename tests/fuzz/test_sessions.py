"""A guest that says anything: a recorded session, changed, ends as a result, and never as a fault of the lab."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from lab.core.errors import GuestLost
from lab.core.plan import CellPlan
from lab.core.render.tables import human_table, markdown_table, one_line
from lab.core.scenario.expectation import FINDING_EVIDENCE
from lab.host.machines.channel import parse_message
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
from tests.fuzz.bounds import bounded
from tests.fuzz.edits import Edit, changed_value, edited, several_edits, values
from tests.recordings import GOLDEN

CELLS = sorted(path for path in (GOLDEN / "cells").iterdir() if path.is_dir())
_REQUEST = "fuzz"


@dataclass(frozen=True)
class Lie:
    """What a guest says instead of something in one of its messages, counted from its first."""

    message: int
    way: tuple[int, ...]
    removed: bool
    value: Any = field(hash=False)
    edits: tuple[Edit, ...] = ()  # of a text that stands there; `value` takes the place of anything else

    def change(self, content: dict[str, Any]) -> None:
        """Change a message in place."""
        if self.edits and (place := _text_at(content, self.way)) is not None:
            inside, key = place
            inside[key] = edited(inside[key], self.edits)
        else:
            changed_value(content, self.way, self.value, removed=self.removed)


def _text_at(place: Any, way: Sequence[int]) -> tuple[Any, Any] | None:
    for number in way:
        if not isinstance(place, dict | list) or not place:
            return None
        key: Any = sorted(place)[number % len(place)] if isinstance(place, dict) else number % len(place)
        if isinstance(place[key], str):
            return place, key
        place = place[key]
    return None


_ways = st.lists(st.integers(0, 40), min_size=1, max_size=4).map(tuple)
lies = st.one_of(
    st.builds(Lie, st.integers(0, 100), _ways, st.booleans(), values),
    st.builds(Lie, st.integers(0, 100), _ways, st.just(False), st.none(), several_edits.map(tuple)),
)


class Lying(ReplayMachine):
    """Says what was recorded, but for its lies; through the channel's own check, as what a real guest says."""

    def __init__(self, cell: Path, lies_of_it: Sequence[Lie], dropped: frozenset[int]) -> None:
        super().__init__(cell)
        self._lies, self._dropped, self._said = lies_of_it, dropped, 0

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        def changed_event(event: Mapping[str, Any]) -> None:
            changed = self._changed(event)
            if on_event is not None and self._said not in self._dropped:
                on_event(changed)

        answer = await super().call(operation, deadline_seconds=deadline_seconds, on_event=changed_event, **arguments)
        return self._changed(answer)

    def _changed(self, message: Mapping[str, Any]) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(json.dumps(dict(message)))
        for lie in self._lies:
            if lie.message == self._said:
                lie.change(content)
        self._said += 1
        line = json.dumps({"id": _REQUEST, "content": content}).encode("ascii")
        received: dict[str, Any] = parse_message(line, _REQUEST)["content"]
        return received


@dataclass
class LyingProvisioner(ReplayProvisioner):
    """Gives such machines."""

    lies: Sequence[Lie] = ()
    dropped: frozenset[int] = frozenset()

    @contextlib.asynccontextmanager
    async def machine(self, spec: RecordedMachine) -> AsyncIterator[ReplayMachine]:
        yield Lying(spec.cell, self.lies, self.dropped)


@pytest.mark.parametrize("cell", CELLS, ids=lambda path: path.name)
@bounded(3)
@given(
    chosen=st.lists(lies, min_size=1, max_size=8),
    dropped=st.frozensets(st.integers(0, 100), max_size=3),
    mitigate=st.booleans(),
)
def test_whatever_a_guest_says_a_cell_has_a_finding(
    cell: Path, chosen: list[Lie], dropped: frozenset[int], mitigate: bool
) -> None:
    job = Job(recorded_plan(cell), recorded_machine(cell), (cell / "scenario.toml").read_text(), mitigate=mitigate)
    seen: list[str] = []

    def on_progress(plan: CellPlan, progress: Progress) -> None:
        seen.append(progress.step or progress.stage)

    with tempfile.TemporaryDirectory(prefix="lab-fuzz-") as results, create_run(Path(results)) as folder:
        provisioner = LyingProvisioner(lies=chosen, dropped=dropped)
        runner = Runner(provisioner, folder, Deadlines(), on_progress, lambda plan, result: None)
        asyncio.run(runner.run_all([job], 1))
    (result,) = runner.results
    event(result.finding)
    assert result.finding in FINDING_EVIDENCE
    for text in (human_table([result]), markdown_table([result]), one_line(result)):
        assert text and len(text) < 200_000
        assert all(line.isprintable() for line in text.split("\n"))
    assert all(len(text) < 1000 for text in seen)


messages = st.one_of(
    st.binary(max_size=100),
    values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(["id", "ok", "result", "event", "error"]), values).map(
        lambda content: json.dumps({"id": _REQUEST, **content}).encode()
    ),
)


@bounded(100)
@given(messages)
def test_a_line_of_the_channel_is_a_storable_message_or_a_lost_guest(line: bytes) -> None:
    try:
        message = parse_message(line, _REQUEST)
    except GuestLost:
        return
    assert message["id"] == _REQUEST
    assert json.loads(json.dumps(message, allow_nan=False)) == message
    json.dumps(message, ensure_ascii=False).encode("utf-8")
