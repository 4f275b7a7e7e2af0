"""What docs/fleet.md says of a fleet that breaks: dead workers, none at all, cut lines, and cells that run twice."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.host.fleet.cable import HERE, THERE, Cable
from tests.unit.host.fleet.fleets import SECONDS, Fleet
from tests.unit.host.fleet.playback import Play
from tests.unit.namespaces import in_namespace

HANGING = {"HANG_SECONDS": 1.0}  # with Dask's heartbeats it takes five
CUT = {"CUT_SECONDS": 11.0}
NAT = "nat-present,iptables=nft@debian12"
TWO = ("pristine", "nat-present", "--set", "iptables=nft", "--connections", "300")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    try:
        yield made
    finally:
        made.close()


def cabled(folder: Path, play: Play, body: Callable[[Fleet, Cable], None]) -> None:
    """Run `body` with a fleet whose scheduler is at one end of a cable."""

    def run() -> None:
        cable = Cable()
        fleet = Fleet(folder, play, HERE)
        try:
            fleet.start_scheduler()
            body(fleet, cable)
        finally:
            fleet.close()
            cable.close()

    in_namespace(run)


def hold(folder: Path, *cells: str) -> str:
    """A folder for Play.hold, in which these cells are held."""
    folder.mkdir()
    for cell in cells:
        (folder / cell).touch()
    return str(folder)


def test_a_cell_that_five_workers_died_with_ends_the_run(fleet: Fleet) -> None:
    fleet.play = Play(load_seconds=300.0)
    fleet.start_scheduler()
    for name in "abcde":
        fleet.start_worker(name)
    client = fleet.run(1, ("pristine", "--connections", "300"))
    for count in range(1, 6):
        fleet.wait_for(lambda: any(map(fleet.running, fleet.programs.keys() - {"scheduler", "client"})))
        (name,) = filter(fleet.running, "abcde")
        fleet.programs[name].kill()
        fleet.programs[name].wait(SECONDS)
        fleet.wait_for(lambda: fleet.said("client").count("lost the worker at") == count)  # noqa: B023
        for path in (fleet.folder / name / "conntrack-lab" / "chunks").iterdir():
            path.rename(fleet.folder / f"left-by-{name}")
    assert client.wait(SECONDS) == 2
    assert "lab: pristine@debian12: 5 workers died while they ran it" in fleet.said("client")
    assert fleet.cells() == []


def test_a_run_waits_for_a_worker_and_then_no_longer(fleet: Fleet) -> None:
    fleet.play = Play(load_seconds=300.0, patience={"NO_WORKER_SECONDS": 4.0})
    fleet.start_scheduler()
    worker = fleet.start_worker("a")
    client = fleet.run(1)
    fleet.wait_for(lambda: fleet.running("a"))
    worker.kill()
    assert client.wait(SECONDS) == 2
    assert "lab: there has been no worker for 4 s" in fleet.said("client")


def test_a_worker_that_hangs_is_lost_and_takes_part_again_when_it_goes_on(fleet: Fleet) -> None:
    held = hold(fleet.folder / "hold", "pristine@debian12")
    fleet.play = Play(patience=HANGING)
    fleet.start_scheduler()
    worker = fleet.start_worker("a", hold=held)
    client = fleet.run(1)
    fleet.wait_for(lambda: fleet.running("a") and fleet.processes("a"))
    worker.send_signal(signal.SIGSTOP)
    fleet.wait_for(lambda: "lost the worker at" in fleet.said("client"))
    fleet.start_worker("b")
    assert client.wait(SECONDS) == 0, fleet.said("client")
    fleet.check_whole(repeat=1)
    worker.send_signal(signal.SIGCONT)
    fleet.wait_for(lambda: fleet.said("a").count("worker a: 1 cells at once") == 2)
    assert not fleet.running("a")
    assert fleet.processes("a") == []


def test_a_worker_behind_a_cut_line_stops_and_takes_part_again(tmp_path: Path) -> None:
    held = hold(tmp_path / "hold", "pristine@debian12")

    def body(fleet: Fleet, cable: Cable) -> None:
        fleet.start_worker("a", "--listen", THERE, within=cable.there, hold=held)
        client = fleet.run(1)
        fleet.wait_for(lambda: fleet.running("a") and fleet.processes("a"))
        cable.cut()
        fleet.wait_for(lambda: "lost the worker at" in fleet.said("client"))
        fleet.start_worker("b")
        assert client.wait(SECONDS) == 0, fleet.said("client")
        fleet.check_whole(repeat=1)
        fleet.wait_for(lambda: not fleet.running("a") and not fleet.processes("a"))
        cable.join()
        fleet.wait_for(lambda: fleet.said("a").count("worker a: 1 cells at once") == 2)

    cabled(tmp_path, Play(patience=CUT), body)


def test_a_short_cut_does_no_harm(tmp_path: Path) -> None:
    held = hold(tmp_path / "hold", "pristine@debian12")

    def body(fleet: Fleet, cable: Cable) -> None:
        fleet.start_worker("a", "--listen", THERE, within=cable.there, hold=held)
        client = fleet.run(1)
        fleet.wait_for(lambda: fleet.running("a") and fleet.processes("a"))
        cable.cut()
        (Path(held) / "pristine@debian12").unlink()
        fleet.wait_for(lambda: not fleet.running("a"))
        assert fleet.cells() == []
        cable.join()
        assert client.wait(SECONDS) == 0, fleet.said("client")
        fleet.check_whole(repeat=1)
        assert "lost the worker" not in fleet.said("client")

    cabled(tmp_path, Play(), body)


def test_when_a_client_vanishes_the_workers_stop(tmp_path: Path) -> None:
    def body(fleet: Fleet, cable: Cable) -> None:
        fleet.start_worker("a")
        client = fleet.run(1, within=cable.there)
        fleet.wait_for(lambda: fleet.running("a") and fleet.processes("a"))
        cable.cut()
        fleet.wait_for(lambda: not fleet.running("a") and not fleet.processes("a"))
        assert client.wait(SECONDS) == 2
        assert "lab: the scheduler is gone" in fleet.said("client")

    cabled(tmp_path, Play(load_seconds=300.0, patience=CUT), body)


def test_of_a_cell_that_ran_twice_the_first_result_counts_and_another_finding_is_news(tmp_path: Path) -> None:
    here, there = hold(tmp_path / "here", NAT), hold(tmp_path / "there", NAT)

    def body(fleet: Fleet, cable: Cable) -> None:
        fleet.start_worker("a", "--listen", THERE, within=cable.there, hold=there, shows=NAT)
        client = fleet.run(1, TWO)
        fleet.wait_for(lambda: fleet.running("a") and fleet.processes("a"))
        cable.cut()
        fleet.wait_for(lambda: "lost the worker at" in fleet.said("client"))
        fleet.start_worker("b", hold=here)
        fleet.wait_for(lambda: fleet.cells() == ["pristine@debian12"])
        (Path(there) / NAT).unlink()  # its worker finds something, and cannot say so yet
        fleet.wait_for(lambda: not fleet.running("a"))
        cable.join()
        again = "a: pristine@debian12: came a second time, and found table-full; untracked, which came first, counts"
        fleet.wait_for(lambda: again in fleet.said("client"))
        (Path(here) / NAT).unlink()
        assert client.wait(SECONDS) == 0, fleet.said("client")
        found = {cell["cell"]: cell["finding"] for cell in fleet.document("results.json")["cells"]}
        assert found == {"pristine@debian12": "untracked", NAT: "table-full"}

    cabled(tmp_path, Play(patience=HANGING), body)
