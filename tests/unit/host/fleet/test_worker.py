"""Workers and clients that find nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.host.fleet.fleets import SECONDS, Fleet
from tests.unit.host.fleet.playback import Play


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(
        tmp_path, Play(patience={"SCHEDULER_SECONDS": 1.0, "FIRST_WORKER_SECONDS": 1.0, "CONNECT_SECONDS": 5.0})
    )
    try:
        yield made
    finally:
        made.close()


def test_a_worker_without_a_scheduler_tries_for_a_while_and_ends(fleet: Fleet) -> None:
    fleet.start_scheduler()
    worker = fleet.start_worker("a")
    fleet.programs["scheduler"].kill()
    assert worker.wait(SECONDS) == 2
    assert "worker a: the scheduler is gone; trying again for 1 s" in fleet.said("a")
    assert f"lab: {fleet.address}: no scheduler" in fleet.said("a")


def test_a_run_that_finds_no_worker_ends(fleet: Fleet) -> None:
    fleet.start_scheduler()
    assert fleet.run(1).wait(SECONDS) == 2
    assert "lab: no worker came within 1 s" in fleet.said("client")
