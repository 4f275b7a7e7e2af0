"""Runs on a fleet, without guests: workers and schedulers are killed, clients interrupted, and nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.core.errors import ScenarioError
from lab.host import images
from lab.host.cli.main import main
from lab.host.fleet import artifacts
from lab.host.fleet.running import run_on_fleet, sources_by_kind
from lab.host.machines.kinds import parse_target
from lab.host.machines.qemu.preparing import PreparedImage
from lab.host.options import RunOptions
from lab.host.releases import TARGETS
from lab.host.run.commands import Services
from lab.host.run.planned import plan_run
from tests.unit.host.fleet.fleets import SECONDS, Fleet
from tests.unit.host.fleet.playback import WORDS, Play, put_image
from tests.unit.host.fleet.serving import Server, fill
from tests.unit.host.kernels.test_kernels import place_kernel, place_modules

INTERRUPTED = 130
NAT = "nat-present,iptables=nft@debian12"
KERNELS = ("6.1.0-a", "6.2.0-b")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, Play(load_seconds=1.0))
    made.start_scheduler()
    try:
        yield made
    finally:
        made.close()


def test_a_run_outlives_its_workers_and_is_taken_up_again_after_its_scheduler(fleet: Fleet) -> None:
    held = fleet.folder / "hold"
    held.mkdir()
    (held / NAT).touch()  # so that the run cannot end meanwhile
    fleet.play = Play(hold=str(held))
    for name in "ab":
        fleet.start_worker(name)
    client = fleet.run(repeat=3)
    fleet.wait_for(lambda: fleet.cells() and fleet.running("a"))
    fleet.programs["a"].kill()
    fleet.wait_for(lambda: not fleet.processes("a"))
    fleet.wait_for(lambda: "lost the worker at" in fleet.said("client"))
    fleet.start_worker("a")
    fleet.wait_for(lambda: fleet.running("a"))
    fleet.programs["scheduler"].kill()
    assert client.wait(SECONDS) == 2
    assert "lab: the scheduler is gone" in fleet.said("client")
    assert f"lab run --resume {fleet.results.resolve()} --fleet {fleet.address}" in fleet.said("client")
    kept = {cell: (fleet.results / "cells" / cell).stat().st_ino for cell in fleet.cells()}
    (held / NAT).unlink()
    fleet.start_scheduler()
    assert fleet.start_client("--resume", str(fleet.results), name="again").wait(SECONDS) == 0, fleet.said("again")
    fleet.check_whole(repeat=3)
    assert {cell: (fleet.results / "cells" / cell).stat().st_ino for cell in kept} == kept  # none of them ran again
    said = fleet.said("client") + fleet.said("again")
    assert {name: said.count(f"{name}: gets debian12") for name in "ab"} == {"a": 1, "b": 1}


def test_a_worker_that_cannot_write_gets_no_more_cells(fleet: Fleet) -> None:
    fleet.play = Play()
    (fleet.folder / "a" / "conntrack-lab").mkdir(parents=True)
    (fleet.folder / "a" / "conntrack-lab" / "arriving").write_text("where a folder should be")
    fleet.start_worker("a")
    client = fleet.run(repeat=1)
    fleet.wait_for(lambda: "a gets no more cells of this run" in fleet.said("client"))
    assert client.wait(SECONDS) == 2  # there is no other
    assert fleet.cells() == []
    fleet.start_worker("b")
    assert fleet.start_client("--resume", str(fleet.results), name="again").wait(SECONDS) == 0, fleet.said("again")
    fleet.check_whole(repeat=1)
    assert [worker["name"] for worker in fleet.document("manifest.json")["workers"]] == ["b"]


def test_when_a_client_ends_the_workers_stop_and_wait_for_the_next(fleet: Fleet) -> None:
    fleet.play = Play(load_seconds=300.0)
    worker = fleet.start_worker("a")
    for number, status in ((signal.SIGINT, INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)):
        client = fleet.run(repeat=1)
        fleet.wait_for(lambda: fleet.running("a") and fleet.processes("a"))
        client.send_signal(number)
        assert client.wait(SECONDS) == status
        fleet.wait_for(lambda: not fleet.running("a") and not fleet.processes("a"))
        assert fleet.cells() == []
    assert worker.poll() is None


def test_an_image_comes_from_a_web_server_where_the_worker_has_one(fleet: Fleet, server: Server) -> None:
    fleet.play = Play()
    home = fleet.folder / "home"
    home.mkdir()
    (home / ".cache").symlink_to(fleet.folder / "client")
    fill(server.folder, home)
    fleet.start_worker("a", "--artifacts", server.url)
    assert fleet.run(repeat=1).wait(SECONDS) == 0, fleet.said("client")
    fleet.check_whole(repeat=1)
    assert fleet.said("client").count(f"a: has debian12 (9 MB) from {server.url}") == 1
    assert "gets debian12" not in fleet.said("client")


def test_two_clients_with_a_shard_each_make_one_run(fleet: Fleet) -> None:
    fleet.play = Play()
    for name in "ab":
        fleet.start_worker(name)
    output = fleet.folder / "shards"
    clients = [
        fleet.start_client(
            *WORDS, "--repeat", "2", "--shard", f"{number}/2", "--output", str(output / str(number)), name=str(number)
        )
        for number in (1, 2)
    ]
    assert [client.wait(SECONDS) for client in clients] == [0, 0]
    shards = [output / str(number) / "latest" for number in (1, 2)]
    assert main(["merge", *map(str, shards), "--output", str(fleet.folder / "results")]) == 0
    fleet.check_whole(repeat=2)


def test_a_scan_and_a_bisection_run_on_a_fleet_and_the_kernels_travel(fleet: Fleet) -> None:
    fleet.play = Play(shows="pristine@debian12")
    for release in KERNELS:
        place_kernel(fleet.folder / "kernels" / release, release)
        place_modules(fleet.folder / "kernels" / release, release)
    fleet.start_worker("a")
    words = ("pristine", "--connections", "300", "--kernels", str(fleet.folder / "kernels"), "--output")
    scan = fleet.start_client(*words, str(fleet.folder / "results"), command="scan", name="scan")
    assert scan.wait(SECONDS) == 0, fleet.said("scan")
    targets = fleet.document("manifest.json")["targets"]
    cells = {cell["target"]: cell["finding"] for cell in fleet.document("results.json")["cells"]}
    assert (
        cells
        == dict.fromkeys([f"debian12+{release}" for release in KERNELS], "untracked")
        == dict.fromkeys(targets, "untracked")
    )
    for release in KERNELS:
        assert fleet.said("scan").count(f"a: gets {release} (") == 1
    bisect = fleet.start_client(*words, str(fleet.folder / "more"), command="bisect", name="bisect")
    assert bisect.wait(SECONDS) == 2
    assert "the same" in fleet.said("bisect")
    assert ": gets " not in fleet.said("bisect")


@pytest.mark.asyncio
async def test_images_of_distributions_do_not_travel() -> None:
    options = RunOptions(scenarios=("pristine",), targets=("image:/x.qcow2",), fleet="tls://nowhere:1")
    with pytest.raises(ScenarioError, match=r"image:/x\.qcow2 is an image of a distribution, which does not travel"):
        await run_on_fleet(plan_run(options), options, Services(lambda text: None))


def test_an_image_is_described_once_for_all_cells_of_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    put_image(tmp_path)
    image = images.load(TARGETS["debian12"])
    assert image is not None
    planned = plan_run(RunOptions(scenarios=("pristine", "nat-present"), repeat=3))
    hashed: list[Path] = []

    def sha256_of(path: Path) -> str:
        hashed.append(path)
        return "0" * 64

    monkeypatch.setattr(artifacts, "sha256_of", sha256_of)
    (sources,) = sources_by_kind(
        planned.plans, {"debian12": PreparedImage(parse_target("debian12"), image, None)}
    ).values()
    assert [source.folder for source in sources] == [image.directory]
    assert hashed == [image.directory / "image.json"]
