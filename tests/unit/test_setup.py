"""scripts/setup on a host where it cannot become root: what only builders of images need does not stop it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

TOOLS = ("bash", "cat", "cksum", "dirname", "grep", "head", "sed", "sort", "uname")
RUN = {
    "qemu-system-x86_64": "echo QEMU emulator version 10.0.2",
    "setpriv": "",
    "id": '[ "$1" = -u ] && echo 1000 || echo me',
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with an environment, and a folder `bin` with all that running guests needs; no sudo, no builders."""
    for folder in ("bin", "scripts", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    for name, script in RUN.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    for place in ("bin/python3", ".venv/bin/python"):
        (tmp_path / place).symlink_to(sys.executable)
    with (tmp_path / "pyproject.toml").open() as project:
        made_from = subprocess.run(["cksum"], stdin=project, capture_output=True, text=True, check=True).stdout
    (tmp_path / ".venv" / ".made-from").write_text(f"Python {sys.version.split()[0]}\n{made_from}")
    return tmp_path


def set_up(checkout: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(checkout / "bin")}
    argv = [str(checkout / "bin" / "bash"), str(checkout / "scripts" / "setup")]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)


def test_without_root_the_builders_are_missing_and_guests_run(checkout: Path) -> None:
    done = set_up(checkout)
    assert done.returncode == 0, done.stderr
    assert "without uidmap no image can be built here; images of the cache can be run" in done.stderr


def test_without_root_what_guests_need_is_named(checkout: Path) -> None:
    (checkout / "bin" / "setpriv").unlink()
    done = set_up(checkout)
    assert done.returncode == 2
    assert "util-linux" in done.stderr or "needs root to install packages" in done.stderr
