"""All misleading states in one run of real guests, at most two at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.host.results import store
from lab.host.run.runner import Runner
from tests.records import document
from tests.truth.catalogue import STATES
from tests.truth.state import State
from tests.truth.witness import Seen, seen
from tests.vm.conftest import Guests, guests

__all__ = ["guests"]  # the fixture

ALL = os.environ.get("LAB_TRUTH") == "all"
CHOSEN = tuple(state for state in STATES if state.core or ALL)


@dataclass(frozen=True)
class Witnessed:
    """A state as it was run: what the lab says, and what the witness saw."""

    state: State
    result: Mapping[str, Any]
    witness: Seen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is run in guests says so itself; the rest of this folder boots none."""
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent and "witnessed" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.vm)


@pytest.fixture(scope="session")
def ran(request: pytest.FixtureRequest, guests: Guests) -> Mapping[str, Witnessed]:
    """Every state that a test was selected for, by its name."""
    called = (item.callspec.params for item in request.session.items if hasattr(item, "callspec"))
    names = {params.get("witnessed") for params in called}
    states = [state for state in CHOSEN if state.name in names]
    jobs = [job for state in states for job in guests.jobs(state.path.read_text(encoding="utf-8"))]
    with store.create_run(guests.results) as folder:
        runner = Runner(
            guests.provisioner, folder, guests.deadlines, lambda plan, progress: None, lambda plan, result: None
        )
        asyncio.run(runner.run_all(jobs, parallel=2))
    found = {}
    for state, job in zip(states, jobs, strict=True):
        result = next(document(one) for one in runner.results if one.cell == job.plan.cell)
        log = (folder.path / "cells" / job.plan.cell / "kmsg.log").read_text(encoding="utf-8")
        found[state.name] = Witnessed(state, result, seen(log))
    return found


@pytest.fixture(params=[state.name for state in CHOSEN])
def witnessed(request: pytest.FixtureRequest, ran: Mapping[str, Witnessed]) -> Witnessed:
    """One of the chosen states."""
    return ran[request.param]
