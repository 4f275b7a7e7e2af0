"""Real guests for the tests: one provisioner for all of them, and a cell run from a scenario's text."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lab.core.plan import CellPlan, cells, plan_cell, select_variants
from lab.core.scenario import parse_scenario
from lab.host import images
from lab.host.machines.kinds import parse_target
from lab.host.machines.qemu.binary import find_qemu
from lab.host.machines.qemu.command import TCG
from lab.host.machines.qemu.preparing import PreparedImage
from lab.host.machines.qemu.provisioner import QemuProvisioner
from lab.host.options import Deadlines
from lab.host.results import store
from lab.host.run.recording import Progress
from lab.host.run.runner import Job, Runner
from tests.records import document

TARGETS = os.environ.get("LAB_TEST_TARGETS", "debian12").split()
OnProgress = Callable[[CellPlan, Progress], None]
# for scripts in a guest: the agent's zipapp is an argument of the first process
AGENT_ON_PATH = r"export PYTHONPATH=$(tr '\0' '\n' < /proc/1/cmdline | grep '\.pyz$')"


def lab(project_root: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The lab as a command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=project_root,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "TERM": "dumb"},
    )


def tracked_shell(project_root: Path, script: str, target: str) -> str:
    """What a script prints in a machine whose legacy rule tracks; it must end well. A missing image is built."""
    where = ("nat-present", "--set", "iptables=legacy", "--target", target)
    done = lab(project_root, "shell", *where, stdin=f"{AGENT_ON_PATH}\n{script}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder boots guests."""
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents:
            item.add_marker(pytest.mark.vm)


@dataclass(frozen=True)
class Guests:
    """Runs scenarios in guests of one target."""

    target: PreparedImage
    provisioner: QemuProvisioner
    results: Path
    deadlines: Deadlines

    def jobs(self, scenario_text: str, **chosen: str) -> list[Job]:
        """The cells of a scenario, with the axes' values chosen."""
        name = next(line for line in scenario_text.splitlines() if line.startswith("name")).split('"')[1]
        scenario = parse_scenario(scenario_text, f"{name}.toml")
        variants = select_variants([scenario], {axis: (value,) for axis, value in chosen.items()})
        plans = [plan_cell(cell) for cell in cells(variants, [self.target.spec.name])]
        return [Job(plan, self.target.machine(plan.machine), scenario_text) for plan in plans]

    def run(self, scenario_text: str, on_progress: OnProgress = lambda plan, seen: None, **chosen: str) -> Ran:
        """Run the first cell of a scenario, and give its result and folder."""
        return asyncio.run(self.run_async(self.jobs(scenario_text, **chosen)[0], on_progress))

    async def run_async(self, job: Job, on_progress: OnProgress = lambda plan, seen: None) -> Ran:
        """As `run`, in a loop that is running."""
        with store.create_run(self.results) as folder:
            runner = Runner(self.provisioner, folder, self.deadlines, on_progress, lambda plan, result: None)
            await runner.run_all([job], parallel=1)
        return Ran(document(runner.results[0]), folder.path / "cells" / job.plan.cell, folder.path)

    def with_deadlines(self, **seconds: float) -> Guests:
        """The same guests under other deadlines."""
        deadlines = replace(self.deadlines, **seconds)
        return replace(self, deadlines=deadlines, provisioner=QemuProvisioner(find_qemu(), TCG, deadlines))


@dataclass(frozen=True)
class Ran:
    """A cell that was run."""

    result: dict[str, Any]
    cell: Path
    run: Path


@pytest.fixture(scope="session", params=TARGETS)
def guests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Guests:
    """Guests of each target that the tests shall cover; their image must have been built."""
    spec = parse_target(request.param)
    image = images.load(spec.target)
    assert image is not None, f"lab image build {request.param}"
    deadlines = Deadlines(boot=240, restore=60)
    results = tmp_path_factory.mktemp("results")
    return Guests(PreparedImage(spec, image, None), QemuProvisioner(find_qemu(), TCG, deadlines), results, deadlines)


@pytest.fixture
def shipped(project_root: Path) -> Callable[[str], str]:
    """The text of a shipped scenario by name."""
    return lambda name: (project_root / "scenarios" / f"{name}.toml").read_text()
