"""What every provisioner promises, asked of three: QEMU, Vagrant, and the one that plays back recorded cells."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.core.errors import GuestLost
from lab.core.plan import Cell, CellPlan, Overrides, Variant, plan_cell
from lab.core.scenario import parse_scenario
from lab.host import images
from lab.host.machines.kinds import parse_target
from lab.host.machines.machine import MachineSpec, Provisioner
from lab.host.machines.playback import ReplayProvisioner, recorded_machine, recorded_plan
from lab.host.machines.qemu.binary import find_qemu
from lab.host.machines.qemu.command import TCG
from lab.host.machines.qemu.preparing import PreparedImage
from lab.host.machines.qemu.provisioner import QemuProvisioner
from lab.host.machines.vagrant.machine import VagrantMachine
from lab.host.machines.vagrant.preparing import find_box
from lab.host.machines.vagrant.provisioner import VagrantProvisioner
from lab.host.options import Deadlines
from lab.host.results.recording import Recording
from lab.host.results.store import create_run
from lab.host.run.recording import record
from lab.host.run.runner import Job, Runner
from tests.recordings import GOLDEN
from tests.records import document
from tests.vagrant.conftest import BOXES, left_over

DEADLINES = Deadlines(boot=900, restore=120, destroy=150)
NEW_SSH_SECONDS = 8
RECORDED = "nat-present,iptables=legacy@debian12"


@dataclass(frozen=True)
class Given:
    """A provisioner, and the cell that is asked of it."""

    name: str
    provisioner: Provisioner[Any]
    plan: CellPlan
    spec: MachineSpec
    scenario: str


@contextlib.asynccontextmanager
async def given(name: str, root: Path) -> AsyncIterator[Given]:
    text = (root / "scenarios" / "nat-present.toml").read_text()
    if name == "replay":
        cell = GOLDEN / "cells" / RECORDED
        text = (cell / "scenario.toml").read_text()
        yield Given(name, ReplayProvisioner(), recorded_plan(cell), recorded_machine(cell), text)
        return
    scenario = parse_scenario(text, "nat-present.toml")
    box = BOXES[0]
    spec = parse_target(box if name == "qemu" else f"vagrant:{box}")
    cell_plan = plan_cell(Cell(Variant(scenario, {"iptables": "legacy"}), spec.name), Overrides(2000, 100))
    if name == "qemu":
        image = await asyncio.to_thread(images.build, spec.target, images.BuildOptions(print))
        machine = PreparedImage(spec, image, None).machine(cell_plan.machine)
        yield Given(name, QemuProvisioner(find_qemu(), TCG, DEADLINES), cell_plan, machine, text)
        return
    prepared = await asyncio.to_thread(find_box, spec, images.BuildOptions(print))
    control = "ssh" if name == "vagrant-ssh" else "auto"
    async with VagrantProvisioner("libvirt", DEADLINES, control=control, driver="qemu") as provisioner:
        yield Given(name, provisioner, cell_plan, prepared.machine(cell_plan.machine), text)


@pytest.fixture
def vagrant_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes are added to a home of the test's own."""
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "vagrant.d"))


@pytest.mark.usefixtures("vagrant_home")
@pytest.mark.parametrize("name", ["replay", "qemu", "vagrant"])
def test_a_cell_is_recorded_judged_and_its_machine_gone(name: str, project_root: Path, tmp_path: Path) -> None:
    async def run() -> Mapping[str, Any]:
        async with given(name, project_root) as one:
            with create_run(tmp_path / "results") as folder:
                job = Job(one.plan, one.spec, one.scenario)
                runner = Runner(one.provisioner, folder, DEADLINES, lambda plan, seen: None, lambda plan, result: None)
                await runner.run_all([job], 1)
            return document(runner.results[0])

    result = asyncio.run(run())
    assert (result["finding"], result["as_expected"]) == ("table-full", True), result["reason"]
    assert result["kernel_release"]
    assert result["max"] == 100 <= result["entries_peak"]
    assert result["drops"] > 0
    assert result["message_logged"] is True
    assert result["connections"]["held"] >= 95, "control has at most a few entries of its own"
    assert [holder["rule"] for holder in result["holders"]] == ["-A POSTROUTING -o eth0 -j MASQUERADE"]
    assert {"state", "load", "collect", "destroy"} <= set(result["stages_seconds"])
    (cell,) = (tmp_path / "results" / "latest" / "cells").iterdir()
    assert {"plan.json", "scenario.toml", "console.log", "kmsg.log", "evidence", "result.json"} <= set(os.listdir(cell))
    assert left_over() == []


@pytest.mark.usefixtures("vagrant_home")
@pytest.mark.parametrize("name", ["replay", "qemu", "vagrant-ssh"])
def test_control_survives_a_full_table(name: str, project_root: Path) -> None:
    """Over SSH too: its connection is the older one. A new one to the same machine is refused or stalls."""

    async def run() -> None:
        async with given(name, project_root) as one, one.provisioner.machine(one.spec) as machine:
            recording = Recording()
            await record(machine, one.plan, DEADLINES, recording, lambda seen: None)
            assert recording.load is not None and recording.lost is None
            again = await machine.call("hello", deadline_seconds=60)
            assert recording.machine is not None
            assert again["kernel_release"] == recording.machine["kernel_release"]
            if isinstance(machine, VagrantMachine):
                assert machine.ssh is not None, "control was to go over SSH"
                assert await new_ssh(machine) != 0, "a full table lets no new connection in"
                await machine.call("hello", deadline_seconds=60)
                await machine.call("release", deadline_seconds=60)
            with pytest.raises(GuestLost):
                await machine.call("no-such-operation", deadline_seconds=60)
        assert left_over() == []

    asyncio.run(run())


async def new_ssh(machine: VagrantMachine) -> int:
    """The exit status of a command over a connection of its own."""
    config = machine.folder.path / "ssh_config"
    options = ["-o", "ControlPath=none", "-o", f"ConnectTimeout={NEW_SSH_SECONDS}", "-o", "BatchMode=yes"]
    process = await asyncio.create_subprocess_exec(
        "ssh", "-F", str(config), *options, "default", "true", stdin=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(60):
        return await process.wait()
