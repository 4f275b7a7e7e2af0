"""Targets of Vagrant made ready: the box that each names found, built or checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.core.scenario import MachineSpec as ScenarioMachine
from lab.host.cache import sha256_of
from lab.host.images import BuildOptions, boxes
from lab.host.machines.targets import TargetSpec
from lab.host.machines.vagrant.boxes import Box, own_box
from lab.host.machines.vagrant.commands import added_boxes, vagrant_version
from lab.host.machines.vagrant.machine import BoxMachine
from lab.host.releases import TARGETS

_CHECKSUM_MARK = "#sha256="
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PreparedBox:
    """A target that is a Vagrant box, found and with a known checksum. See Prepared."""

    box: Box
    built: boxes.BuiltBox | None

    def machine(self, shape: ScenarioMachine) -> BoxMachine:
        """The machine that a plan asks for, from this box."""
        return _machine(self.box, self.box.sha256 or self.box.name, shape)

    def manifest(self) -> dict[str, Any]:
        """What shaped this target's machines, for the manifest."""
        return {
            "box": self.box.name,
            "box_url": self.box.url,
            "box_sha256": self.box.sha256,
            "family": self.built.name if self.built else None,
        }

    def kernel_config(self, shape: ScenarioMachine) -> str | None:
        """A box has its own."""
        return None


def planned_box(spec: TargetSpec, shape: ScenarioMachine) -> BoxMachine:
    """The machine of a box that need not be there yet, to show its command line."""
    return _machine(Box(spec.of), "", shape)


def find_box(spec: TargetSpec, build: BuildOptions) -> PreparedBox:
    """The box that a target names: a path, a URL with a checksum, a box that Vagrant knows, or a Debian release of
    which the lab makes one. Raises ScenarioError and PrerequisiteError.
    """
    vagrant_version()
    text, mark, sha256 = spec.of.partition(_CHECKSUM_MARK)
    if mark and not _SHA256.fullmatch(sha256):
        raise ScenarioError(
            f"target {spec.name}: the checksum is not 64 hexadecimal digits",
            hint=f"sha256sum of the box's file prints it: vagrant:{text}{_CHECKSUM_MARK}HEX",
        )
    if re.match(r"[a-z][a-z0-9+.-]*://", text):
        if not mark:
            raise ScenarioError(f"target {spec.name}: has no checksum", hint=f"vagrant:{text}{_CHECKSUM_MARK}HEX")
        return PreparedBox(own_box(text, sha256), None)
    path = Path(text).expanduser()
    if "/" in text or text.endswith(".box"):
        if path.is_file():
            return _box_in_file(path, sha256)
        if path.is_absolute() or text.startswith(".") or text.endswith(".box"):
            raise ScenarioError(f"target {spec.name}: no such file", hint="lab image build debian12 --format box")
    if text in TARGETS:
        return _own(text, build)
    if text not in added_boxes():
        hint = f"vagrant box add {text}, or give the box's path; by name the lab makes: {', '.join(TARGETS)}"
        raise ScenarioError(f"target {spec.name}: Vagrant has no box of that name", hint=hint)
    return PreparedBox(Box(text), None)


def _box_in_file(path: Path, expected: str) -> PreparedBox:
    actual = sha256_of(path)
    if expected and actual != expected:
        raise PrerequisiteError(
            f"box {path}: sha256 is {actual}, expected {expected}",
            hint="fetch the box again, or name the checksum of this one if it is the one that you want",
        )
    built = next((box for box in boxes.list_boxes() if box.sha256 == actual), None)
    return PreparedBox(own_box(path.resolve().as_uri(), actual), built)


def _own(name: str, build: BuildOptions) -> PreparedBox:
    """The box that the lab makes of a Debian release, built if it is missing, and checked."""
    built = boxes.build(TARGETS[name], build)
    actual = sha256_of(built.file)
    if actual != built.sha256:
        hint = f"lab image build --format box --rebuild {name}"
        raise PrerequisiteError(f"box {name} is damaged: sha256 is {actual}, expected {built.sha256}", hint=hint)
    return PreparedBox(own_box(built.file.as_uri(), actual), built)


def _machine(box: Box, digest: str, shape: ScenarioMachine) -> BoxMachine:
    return BoxMachine(digest, shape.memory_mb, shape.vcpus, shape.boot_args, shape.packages, box=box)
