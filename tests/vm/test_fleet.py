"""A fleet with real guests: two workers, three cells, and an image that travels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.host import images
from lab.host.fleet.keys import make_keys
from lab.host.process import dying_with_parent
from lab.host.releases import TARGETS
from tests import ROOT
from tests.unit.free_ports import free_row

SECONDS = 280
NEEDED_MB = 2500  # a saved state and an image for each worker


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[list[str]]:
    """The options that lead to a fleet of two workers with empty caches."""
    if shutil.disk_usage(tmp_path).free < 2 * NEEDED_MB * 10**6:
        pytest.skip(f"{tmp_path} has not enough space for two workers")
    make_keys(tmp_path / "keys", 1)
    address, keys = f"tls://127.0.0.1:{free_row()}", ["--keys", str(tmp_path / "keys")]
    started = [_start("scheduler", "--listen", address, *keys)]
    for name in "ab":
        cache = str(tmp_path / name)
        started.append(_start("worker", address, *keys, "--slots", "1", "--name", name, "--cache", cache))
    try:
        yield ["--fleet", address, *keys]
    finally:
        for program in started:
            program.kill()
            program.wait(60)


def _start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(dying_with_parent([sys.executable, "-m", "lab", "fleet", *words]), cwd=ROOT)


def _guests_of(folder: Path) -> list[str]:
    """The QEMUs that have files of a folder open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
            if "qemu" in (process / "comm").read_text() and any(link.startswith(str(folder)) for link in links):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_three_cells_on_two_workers(fleet: list[str], tmp_path: Path) -> None:
    if images.load(TARGETS["debian12"]) is None:
        pytest.skip("the image debian12 is not built")
    words = ["run", "pristine", "--repeat", "3", "--connections", "500", *fleet]
    done = subprocess.run(
        [sys.executable, "-m", "lab", *words, "--output", str(tmp_path / "results")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "results" / "latest"
    cells = json.loads((run / "results.json").read_text())["cells"]
    assert [cell["finding"] for cell in cells] == ["untracked"] * 3
    workers = json.loads((run / "manifest.json").read_text())["workers"]
    assert {name for worker in workers for name in worker["cells"]} == {cell["cell"] for cell in cells}
    for name in "ab":
        assert done.stderr.count(f"{name}: gets debian12") == 1
    assert _guests_of(tmp_path) == []
