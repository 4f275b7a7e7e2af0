"""This very machine, as a kind (lab/host/machines/kinds.py)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.core.errors import ScenarioError
from lab.core.plan.repeating import Change
from lab.core.scenario import MachineSpec as ScenarioMachine
from lab.host.machines.machine import Machine, MachineSpec, Preparation, Ready
from lab.host.machines.targets import TargetSpec
from lab.host.machines.this_host.provisioner import HostProvisioner, require_disposable
from lab.host.options import RunOptions

Json = Mapping[str, Any]


@dataclass(frozen=True)
class PreparedHost:
    """The target that is this very machine. See Prepared."""

    def machine(self, shape: ScenarioMachine) -> MachineSpec:
        """This machine, whatever a plan asks for."""
        return MachineSpec("host", shape.memory_mb, shape.vcpus, shape.boot_args, shape.packages)

    def manifest(self) -> dict[str, Any]:
        """What shaped this target's machine, for the manifest."""
        return {"kernel_release": os.uname().release}

    def kernel_config(self, shape: ScenarioMachine) -> str | None:
        """The agent reads it here."""
        return None


def describer(options: RunOptions, verbose: bool) -> Callable[[TargetSpec, ScenarioMachine], list[str]]:
    """See MachineKind.describer: it runs already."""
    return lambda spec, shape: []


@contextlib.asynccontextmanager
async def prepared(preparation: Preparation) -> AsyncIterator[Ready]:
    """See MachineKind.prepared."""
    require_disposable(preparation.options.disposable_host)
    provisioner = HostProvisioner(preparation.deadlines, preparation.say)
    yield Ready(provisioner, {spec.name: PreparedHost() for spec in preparation.specs})


def kept(
    spec: TargetSpec, shape: ScenarioMachine, file: Path, preparation: Preparation
) -> contextlib.AbstractAsyncContextManager[Machine]:
    """See MachineKind.kept."""
    raise ScenarioError(f"{file}: the machine is this one", hint="use the shell that you are in")


def changes(recorded: Json, targets: Mapping[str, Json], options: RunOptions) -> Iterator[Change]:
    """See MachineKind.changes."""
    require_disposable(options.disposable_host)
    release = os.uname().release
    for name, target in targets.items():
        if target.get("kernel_release") != release:
            yield Change(f"{name}: its kernel is {release}, the run had {target.get('kernel_release')}", True)


def target_changes(
    spec: TargetSpec, recorded: Json, options: RunOptions, say: Callable[[str], None]
) -> tuple[list[Change], None]:
    """See MachineKind.target_changes."""
    return [], None
