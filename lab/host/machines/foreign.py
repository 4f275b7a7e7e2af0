"""Targets that the lab does not build from packages: Vagrant boxes, and the machine that it runs on itself."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.core.scenario import MachineSpec as WantedMachine
from lab.host import images
from lab.host.cache import Progress, sha256_of
from lab.host.images import boxes
from lab.host.machines.machine import Deadlines, MachineSpec
from lab.host.machines.targets import TARGETS, TargetSpec
from lab.host.machines.vagrant.boxes import Box, own_box
from lab.host.machines.vagrant.commands import added_boxes, vagrant_version
from lab.host.machines.vagrant.provisioner import BoxMachine
from lab.host.threads import in_thread

_CHECKSUM_MARK = "#sha256="
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOWHERE = Path("/nonexistent")


@dataclass(frozen=True)
class PreparedBox:
    """A target that is a Vagrant box, found and with a known checksum; as PreparedTarget to those who use it."""

    spec: TargetSpec
    box: Box
    built: boxes.BuiltBox | None

    def machine(self, wanted: WantedMachine) -> BoxMachine:
        """The machine that a plan asks for, from this box."""
        return BoxMachine(**_shape(wanted), digest=self.box.sha256 or self.box.name, box=self.box)

    def manifest(self) -> dict[str, Any]:
        """What shaped this target's machines, for the manifest."""
        return {
            "box": self.box.name,
            "box_url": self.box.url,
            "box_sha256": self.box.sha256,
            "family": self.built.name if self.built else None,
        }

    def kernel_config(self) -> str | None:
        """A box has its own."""
        return None


@dataclass(frozen=True)
class PreparedHost:
    """The target that is this very machine."""

    spec: TargetSpec

    def machine(self, wanted: WantedMachine) -> MachineSpec:
        """This machine, whatever a plan asks for."""
        return MachineSpec(**_shape(wanted), digest="host")

    def manifest(self) -> dict[str, Any]:
        """What shaped this target's machine, for the manifest."""
        return {"kernel_release": os.uname().release}

    def kernel_config(self) -> str | None:
        """The agent reads it here."""
        return None


def planned_box(spec: TargetSpec, wanted: WantedMachine) -> BoxMachine:
    """The machine of a box that need not be there yet, to show its command line."""
    box = Box(spec.box or "")
    return BoxMachine(**_shape(wanted), digest="", box=box)


async def prepare_box(spec: TargetSpec, mirror: str | None, deadlines: Deadlines, say: Progress) -> PreparedBox:
    """As find_box, off the loop; a build that is under way is undone when this is cancelled."""
    return await in_thread(lambda cancelled: find_box(spec, mirror, deadlines.build, say, cancelled))


def find_box(
    spec: TargetSpec, mirror: str | None, build_seconds: float, say: Progress, cancelled: threading.Event
) -> PreparedBox:
    """The box that a target names: a path, a URL with a checksum, a box that Vagrant knows, or a Debian release of
    which the lab makes one. Raises ScenarioError and PrerequisiteError.
    """
    vagrant_version()
    text, mark, wanted = (spec.box or "").partition(_CHECKSUM_MARK)
    if mark and not _SHA256.fullmatch(wanted):
        raise ScenarioError(
            f"target {spec.name}: the checksum is not 64 hexadecimal digits",
            hint=f"sha256sum of the box's file prints it: vagrant:{text}{_CHECKSUM_MARK}HEX",
        )
    if re.match(r"[a-z][a-z0-9+.-]*://", text):
        if not mark:
            raise ScenarioError(f"target {spec.name}: has no checksum", hint=f"vagrant:{text}{_CHECKSUM_MARK}HEX")
        return PreparedBox(spec, own_box(text, wanted), None)
    path = Path(text).expanduser()
    if "/" in text or text.endswith(".box"):
        if path.is_file():
            actual = sha256_of(path)
            if mark and actual != wanted:
                raise PrerequisiteError(
                    f"box {path}: sha256 is {actual}, expected {wanted}",
                    hint="fetch the box again, or name the checksum of this one if it is the one that you want",
                )
            built = next((one for one in boxes.list_boxes() if one.sha256 == actual), None)
            return PreparedBox(spec, own_box(path.resolve().as_uri(), actual), built)
        if path.is_absolute() or text.startswith(".") or text.endswith(".box"):
            raise ScenarioError(f"target {spec.name}: no such file", hint="lab image build debian12 --format box")
    if text in TARGETS:
        wish = images.BuildWish(say, mirror, deadline_seconds=build_seconds, cancelled=cancelled)
        built = boxes.build(TARGETS[text], wish)
        actual = sha256_of(built.file)
        if actual != built.sha256:
            hint = f"lab image build --format box --rebuild {text}"
            raise PrerequisiteError(f"box {text} is damaged: sha256 is {actual}, expected {built.sha256}", hint=hint)
        return PreparedBox(spec, own_box(built.file.as_uri(), actual), built)
    if text not in added_boxes():
        hint = f"vagrant box add {text}, or give the box's path; by name the lab makes: {', '.join(TARGETS)}"
        raise ScenarioError(f"target {spec.name}: Vagrant has no box of that name", hint=hint)
    return PreparedBox(spec, Box(text), None)


def _shape(wanted: WantedMachine) -> Mapping[str, Any]:
    return {
        "root_disk": _NOWHERE,
        "kernel": _NOWHERE,
        "initrd": _NOWHERE,
        "memory_mb": wanted.memory_mb,
        "vcpus": wanted.vcpus,
        "boot_args": wanted.boot_args,
    }
