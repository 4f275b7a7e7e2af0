"""Mitigations as the runner makes them: a second machine in the same slot, stored below the cell, judged again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.core.plan import CellPlan
from lab.core.result import exit_status
from lab.core.sums import SUMS
from lab.host.machines.playback import RecordedMachine, ReplayMachine, ReplayProvisioner
from lab.host.options import Deadlines
from lab.host.results.judging import judge_run
from lab.host.results.store import create_run
from lab.host.results.stored_cell import StoredCell
from lab.host.run.recording import Progress
from lab.host.run.runner import Runner
from tests.records import document, stored, stored_manifest
from tests.unit.host.publish.test_schemas import errors
from tests.unit.host.run.test_runner import BLOCKED, PRESENT, PRISTINE, RUN, Endless, job

pytestmark = pytest.mark.asyncio

FLUSHED = "nat-flushed,iptables=nft@debian13"
ALWAYS_ON = "nat-flushed-always-on,iptables=legacy@debian12"
REMOVAL = "iptables-nft -t nat -D POSTROUTING -o eth0 -j MASQUERADE".split()


class InTurn(ReplayProvisioner):
    """The first machine plays back the first folder, and so on; those of the numbers `lost` vanish while loaded."""

    def __init__(self, *folders: Path, lost: Sequence[int] = (), endless: Sequence[int] = ()) -> None:
        super().__init__()
        self.lose_at = "load"
        self._folders = folders
        self._lost, self._endless = lost, endless
        self.endless_given = asyncio.Event()

    @contextlib.asynccontextmanager
    async def machine(self, spec: RecordedMachine) -> AsyncIterator[ReplayMachine]:
        number = self.given
        folder = self._folders[min(number, len(self._folders) - 1)]
        self.losses = number + 1 if number in self._lost else 0
        async with super().machine(replace(spec, cell=folder)) as machine:
            if number in self._endless:
                self.endless_given.set()
                yield Endless(folder)
            else:
                yield machine


def recorded(cell: str) -> Path:
    return RUN / "cells" / cell


def changed(tmp_path: Path, cell: str, name: str, change: Callable[[Any], object]) -> Path:
    """A copy of a recorded cell in which a file of its evidence says something else."""
    folder = tmp_path / "changed"
    shutil.copytree(recorded(cell), folder)
    content = json.loads((folder / "evidence" / name).read_text())
    change(content)
    (folder / "evidence" / name).write_text(json.dumps(content))
    return folder


def unsettable(settings: Any) -> None:
    settings["net.netfilter.nf_conntrack_max"]["error"] = "EACCES"


class Ran:
    """A run of one cell: its result, its folder, and what was told."""

    def __init__(self, run: Path, cell: str) -> None:
        self.run, self.cell = run, run / "cells" / cell
        self.inner = self.cell / "mitigation"
        self.told: list[str] = []

    @property
    def result(self) -> dict[str, Any]:
        (result,) = json.loads((self.run / "results.json").read_text())["cells"]
        assert result == json.loads((self.cell / "result.json").read_text())
        assert errors(result, "results", "cell") == []
        assert isinstance(result, dict)
        return result

    @property
    def second(self) -> dict[str, Any]:
        result = json.loads((self.inner / "result.json").read_text())
        assert isinstance(result, dict)
        return result

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.run.rglob("*") if path.is_file()}


async def run(
    results: Path, cell: str, provisioner: ReplayProvisioner, *, mitigate: bool = True, manifest: bool = True
) -> Ran:
    with create_run(results) as folder:
        ran = Ran(folder.path, cell)

        def note(plan: CellPlan, seen: Progress) -> None:
            ran.told.append(f"{'mitigation ' if seen.mitigation else ''}{seen.stage}")

        if manifest:
            folder.write_manifest(stored_manifest({"overrides": {"mitigate": mitigate}}))
        runner = Runner(provisioner, folder, Deadlines(), note, lambda plan, result: None)
        await runner.run_all([replace(job(cell), mitigate=mitigate)], 1)
    return ran


# -- when there is a second machine -----------------------------------------------------------------------------------


async def test_what_holds_conntrack_is_removed_in_a_second_machine(tmp_path: Path) -> None:
    provisioner = InTurn(recorded(PRESENT), recorded(FLUSHED))
    ran = await run(tmp_path, PRESENT, provisioner)
    found = ran.result["mitigation"]
    assert (found["outcome"], found["finding"], found["commands"]) == ("fixes", "untracked", [REMOVAL])
    assert "300 of 300 connections were held" in found["reason"]
    assert "hooks" in found["reason"]
    assert (ran.result["finding"], ran.result["as_expected"]) == ("table-full", True)
    assert (provisioner.given, provisioner.alive) == (2, 0)


async def test_the_second_machine_is_stored_whole_below_the_cell(tmp_path: Path) -> None:
    ran = await run(tmp_path, PRESENT, InTurn(recorded(PRESENT), recorded(FLUSHED)))
    assert StoredCell(ran.inner).evidence().samples == StoredCell(recorded(FLUSHED)).evidence().samples
    assert StoredCell(ran.cell).evidence().samples == StoredCell(recorded(PRESENT)).evidence().samples
    assert {path.name for path in ran.inner.iterdir()} == {path.name for path in ran.cell.iterdir()} - {
        "mitigation",
        SUMS,
    }
    plan = json.loads((ran.inner / "plan.json").read_text())
    assert [step["key"] for step in plan["steps"]] == ["state[0]", "mitigation[0]"]
    assert plan["steps"][1] == {"key": "mitigation[0]", "kind": "run", "argv": REMOVAL, "refused": False}
    assert (ran.inner / "scenario.toml").read_text() == (ran.cell / "scenario.toml").read_text()
    assert errors(ran.second, "results", "cell") == []
    assert (ran.second["expected"], ran.second["as_expected"], ran.second["mitigation"]) == (None, None, None)
    assert len(ran.result["tries"]) == len(ran.second["tries"]) == 1


async def test_the_second_machine_is_told_apart_and_its_time_is_its_own(tmp_path: Path) -> None:
    ran = await run(tmp_path, PRESENT, InTurn(recorded(PRESENT), recorded(FLUSHED)))
    stages = ["restore", "state", "load", "collect", "destroy"]
    assert list(dict.fromkeys(ran.told)) == [*stages, *(f"mitigation {stage}" for stage in stages)]
    assert set(ran.result["stages_seconds"]) == set(stages)
    assert ran.result["tries"][0]["stages_seconds"] == ran.result["stages_seconds"]
    assert ran.second["stages_seconds"] != {}


async def test_a_removal_that_does_nothing_changes_no_exit_status(tmp_path: Path) -> None:
    ran = await run(tmp_path, PRESENT, InTurn(recorded(PRESENT)))
    assert ran.result["mitigation"]["outcome"] == "no effect"
    assert ran.result["mitigation"]["finding"] == "table-full"
    assert exit_status([stored(ran.result)]) == 0


async def test_a_removal_that_fails_is_quoted(tmp_path: Path) -> None:
    ran = await run(tmp_path, PRESENT, InTurn(recorded(PRESENT), recorded(BLOCKED)))
    found = ran.result["mitigation"]
    assert (found["outcome"], found["finding"]) == ("unknown", "state-refused")
    assert "ended with status 3" in found["reason"]
    assert exit_status([stored(ran.result)]) == 0


async def test_the_modules_of_an_always_on_kernel_are_removed(tmp_path: Path) -> None:
    ran = await run(tmp_path, ALWAYS_ON, InTurn(recorded(ALWAYS_ON), recorded("pristine@debian12")))
    found = ran.result["mitigation"]
    assert found["outcome"] == "fixes"
    assert [command[:2] for command in found["commands"]] == [["modprobe", "-r"]]


@pytest.mark.parametrize(("cell", "mitigate"), [(PRESENT, False), (PRISTINE, True), (FLUSHED, True), (BLOCKED, True)])
async def test_without_a_wish_or_a_need_there_is_one_machine(tmp_path: Path, cell: str, mitigate: bool) -> None:
    provisioner = InTurn(recorded(cell))
    ran = await run(tmp_path, cell, provisioner, mitigate=mitigate)
    assert ran.result["mitigation"] is None
    assert provisioner.given == 1
    assert not ran.inner.exists()
    assert document(judge_run(ran.run)[0])["mitigation"] is None


async def test_where_nothing_is_to_be_removed_there_is_one_machine_and_a_reason(tmp_path: Path) -> None:
    unheld = tmp_path / "unheld"
    shutil.copytree(recorded(ALWAYS_ON), unheld)
    for snapshot in ("before", "after"):
        (unheld / "evidence" / snapshot / "modprobe.d.txt").unlink()
    provisioner = InTurn(unheld)
    ran = await run(tmp_path / "results", ALWAYS_ON, provisioner)
    found = ran.result["mitigation"]
    assert (found["outcome"], found["finding"], found["commands"]) == ("unknown", None, [])
    assert "nothing was found that holds conntrack" in found["reason"]
    assert provisioner.given == 1
    assert document(judge_run(ran.run)[0])["mitigation"] == found
    (ran.run / "manifest.json").unlink()
    assert document(judge_run(ran.run)[0])["mitigation"] is None, "that it was asked for is in the manifest alone"


async def test_what_is_removed_is_what_held_conntrack_before_the_load(tmp_path: Path) -> None:
    """A rule that came during the load is not in the state in which the removal runs."""
    folder = tmp_path / "more"
    shutil.copytree(recorded(PRESENT), folder)
    after = folder / "evidence" / "after" / "iptables-nft-save.txt"
    rule = "-A POSTROUTING -o eth0 -j MASQUERADE\n"
    assert rule in after.read_text()
    after.write_text(after.read_text().replace(rule, f"-A POSTROUTING -j MASQUERADE\n{rule}"))
    ran = await run(tmp_path / "results", PRESENT, InTurn(folder, recorded(FLUSHED)))
    assert ran.result["mitigation"]["commands"] == [REMOVAL]


PEERS = {"in": True, "out": True}


def with_peers(tmp_path: Path, cell: str, **worked: bool) -> Path:
    """A copy of a recorded cell that tells of other hosts as well."""
    folder = tmp_path / f"peers of {cell}"
    shutil.copytree(recorded(cell), folder)
    attempts = [{"way": way, "port": 22, "worked": one} for way, one in worked.items()]
    (folder / "evidence" / "peer.json").write_text(json.dumps({"attempts": attempts, "error": None}))
    return folder


@pytest.mark.parametrize(("after", "outcome"), [({}, "fixes"), ({"out": False}, "worse")])
async def test_other_hosts_are_tried_in_both_machines(tmp_path: Path, after: dict[str, bool], outcome: str) -> None:
    folders = (with_peers(tmp_path, PRESENT, **PEERS), with_peers(tmp_path, FLUSHED, **{**PEERS, **after}))
    ran = await run(tmp_path / "results", PRESENT, InTurn(*folders))
    found = ran.result["mitigation"]
    assert (found["outcome"], found["peer"]["cut"]) == (outcome, ["out 22"] if after else [])
    assert StoredCell(ran.cell).evidence().peer == StoredCell(folders[0]).evidence().peer
    assert StoredCell(ran.inner).evidence().peer == StoredCell(folders[1]).evidence().peer
    assert document(judge_run(ran.run)[0])["mitigation"] == found


async def test_without_a_mitigation_no_other_host_is_tried(tmp_path: Path) -> None:
    ran = await run(tmp_path / "results", PRESENT, InTurn(with_peers(tmp_path, PRESENT, **PEERS)), mitigate=False)
    assert StoredCell(ran.cell).evidence().peer is None


async def test_a_machine_that_cannot_try_other_hosts_is_not_lost(tmp_path: Path) -> None:
    ran = await run(tmp_path, PRESENT, InTurn(recorded(PRESENT), recorded(FLUSHED)))
    assert [one["lost"] for one in ran.result["tries"]] == [None]
    assert (StoredCell(ran.cell).evidence().peer or {})["attempts"] is None
    assert (ran.result["mitigation"]["outcome"], ran.result["mitigation"]["peer"]) == ("fixes", None)


# -- second machines that are lost, or say nothing --------------------------------------------------------------------


async def test_a_lost_second_machine_is_tried_again(tmp_path: Path) -> None:
    provisioner = InTurn(recorded(PRESENT), recorded(FLUSHED), lost=[1])
    ran = await run(tmp_path, PRESENT, provisioner)
    assert (ran.result["mitigation"]["outcome"], provisioner.given) == ("fixes", 3)
    assert [bool(one["lost"]) for one in ran.second["tries"]] == [True, False]
    assert [bool(one["lost"]) for one in ran.result["tries"]] == [False]
    assert StoredCell(ran.inner / "tries" / "1").evidence().lost is not None
    assert not (ran.cell / "tries").exists()


async def test_a_second_machine_that_is_lost_twice_leaves_it_unknown(tmp_path: Path) -> None:
    provisioner = InTurn(recorded(PRESENT), lost=[1, 2])
    ran = await run(tmp_path, PRESENT, provisioner)
    found = ran.result["mitigation"]
    assert (found["outcome"], found["finding"], provisioner.given) == ("unknown", "inconclusive", 3)
    assert "the machine was lost" in found["reason"]
    assert (ran.result["finding"], exit_status([stored(ran.result)])) == ("table-full", 0)


async def test_an_inconclusive_second_machine_is_tried_again_once(tmp_path: Path) -> None:
    unclear = changed(tmp_path, FLUSHED, "settings.json", unsettable)
    provisioner = InTurn(recorded(PRESENT), unclear, recorded(FLUSHED))
    ran = await run(tmp_path / "results", PRESENT, provisioner)
    assert (ran.result["mitigation"]["outcome"], provisioner.given) == ("fixes", 3)
    aside = ran.inner / "tries" / "1"
    assert "EACCES" in (aside / "evidence" / "settings.json").read_text()
    assert {path.name for path in aside.iterdir()} == {
        "plan.json",
        "scenario.toml",
        "console.log",
        "kmsg.log",
        "evidence",
    }
    assert [one["lost"] for one in ran.second["tries"]] == [None, None]


async def test_an_inconclusive_second_machine_is_not_tried_for_ever(tmp_path: Path) -> None:
    unclear = changed(tmp_path, FLUSHED, "settings.json", unsettable)
    provisioner = InTurn(recorded(PRESENT), unclear)
    ran = await run(tmp_path / "results", PRESENT, provisioner)
    found = ran.result["mitigation"]
    assert (found["outcome"], found["finding"], provisioner.given) == ("unknown", "inconclusive", 3)
    assert "EACCES" in found["reason"]


async def test_a_first_machine_that_was_lost_is_none_of_the_second(tmp_path: Path) -> None:
    provisioner = InTurn(recorded(PRESENT), recorded(PRESENT), recorded(FLUSHED), lost=[0])
    ran = await run(tmp_path, PRESENT, provisioner)
    assert (ran.result["mitigation"]["outcome"], provisioner.given) == ("fixes", 3)
    assert (len(ran.result["tries"]), len(ran.second["tries"])) == (2, 1)
    assert (ran.cell / "tries" / "1").is_dir()


async def test_a_run_that_is_interrupted_in_the_second_machine_leaves_no_half_cell(tmp_path: Path) -> None:
    provisioner = InTurn(recorded(PRESENT), endless=[1])
    task = asyncio.create_task(run(tmp_path, PRESENT, provisioner))
    async with asyncio.timeout(10):
        await provisioner.endless_given.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list((tmp_path / "latest" / "cells").iterdir()) == []
    assert provisioner.alive == 0


# -- judging again ----------------------------------------------------------------------------------------------------


async def test_judging_again_changes_nothing(tmp_path: Path) -> None:
    ran = await run(tmp_path, PRESENT, InTurn(recorded(PRESENT), recorded(FLUSHED), lost=[1]))
    before = ran.files()
    judge_run(ran.run)
    assert ran.files() == before


async def test_the_outcome_is_made_again_from_the_evidence_of_both(tmp_path: Path) -> None:
    ran = await run(tmp_path, PRESENT, InTurn(recorded(PRESENT), recorded(FLUSHED)), manifest=False)
    (ran.inner / "result.json").unlink()
    (result,) = map(document, judge_run(ran.run))
    assert result["mitigation"]["outcome"] == "fixes"
    shutil.rmtree(ran.inner / "evidence")
    shutil.copytree(recorded(PRESENT) / "evidence", ran.inner / "evidence")
    (result,) = map(document, judge_run(ran.run))
    assert (result["mitigation"]["outcome"], result["mitigation"]["commands"]) == ("no effect", [REMOVAL])
    assert ran.second["finding"] == "table-full"


@pytest.mark.parametrize("name", ["steps.json", "samples.jsonl"])
async def test_a_second_machine_whose_evidence_cannot_be_read_leaves_it_unknown(tmp_path: Path, name: str) -> None:
    ran = await run(tmp_path, PRESENT, InTurn(recorded(PRESENT), recorded(FLUSHED)))
    (ran.inner / "evidence" / name).write_text('{"seconds": "soon"}')
    (result,) = map(document, judge_run(ran.run))
    assert (result["mitigation"]["outcome"], result["finding"]) == ("unknown", "table-full")
    assert "cannot be read" in result["mitigation"]["reason"]


@pytest.mark.parametrize("overrides", [None, 7, {}, {"mitigate": "yes"}])
async def test_a_manifest_that_does_not_tell_asks_for_nothing(tmp_path: Path, overrides: Any) -> None:
    shutil.copytree(recorded(PRESENT), tmp_path / "cells" / PRESENT)
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 1, "overrides": overrides}))
    assert document(judge_run(tmp_path)[0])["mitigation"] is None
