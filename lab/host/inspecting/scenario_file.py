"""Writing the scenario of a record: its TOML file, and the folder of the files that it names."""

from __future__ import annotations

import os
from pathlib import Path

from lab.core.errors import ScenarioError
from lab.core.inspecting.inspection import Inspection
from lab.core.inspecting.scenario import Carried, scenario_of
from lab.host import images
from lab.host.releases import TARGETS

_SUFFIX = ".toml"


def write_scenario(inspection: Inspection, path: Path, fill: bool = False) -> Carried:
    """Write the scenario and its files; none that is there is overwritten. Raises ScenarioError.

    With `fill` its load fills the table, also where the host has room.
    """
    if path.suffix != _SUFFIX:
        raise ScenarioError(f"{path}: a scenario's file ends with {_SUFFIX}", hint="--output mine.toml")
    folder = path.with_suffix(".files")
    carried = scenario_of(inspection, path.stem, folder.name, _kernels(), fill)
    try:
        if carried.files:
            folder.mkdir()
        for name, text in carried.files.items():
            _write(folder / name, text)
        _write(path, carried.toml)
    except OSError as error:
        why = error.strerror or error
        raise ScenarioError(f"{error.filename or path}: cannot be written: {why}", hint="name a new file") from error
    return carried


def _kernels() -> dict[str, str]:
    """The kernels of the images that are here, by their targets."""
    found = {name: images.load(target) for name, target in TARGETS.items()}
    return {name: image.kernel_release for name, image in found.items() if image is not None}


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
