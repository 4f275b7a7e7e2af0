"""Targets of Vagrant: any box, by name, path, or URL with its checksum."""

from __future__ import annotations

from lab.core.errors import ScenarioError
from lab.host.machines.targets import TargetSpec
from lab.host.options import Deadlines

KIND = "vagrant"
BOX_MARK = "vagrant:"
DEADLINES = Deadlines(boot=900.0, destroy=150.0)  # of a whole distribution, perhaps emulated


def parse(text: str, kernel: str | None = None) -> TargetSpec:
    """`vagrant:BOX`. Raises ScenarioError without a box; whether there is one of that name is not looked at."""
    if text == BOX_MARK:
        raise ScenarioError(f"target {text!r}: names no box", hint="vagrant:debian12, or the path of a box")
    return TargetSpec(KIND, text, text.removeprefix(BOX_MARK))
