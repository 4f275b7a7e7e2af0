"""Tests with the real Vagrant and libvirt; scripts/test-vagrant runs them, beside a libvirt of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab.host.cache import cache_root

BOXES = os.environ.get("LAB_TEST_BOXES", "debian12").split()
RUN_SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder boots machines, and needs a libvirt that nobody else uses."""
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents:
            item.add_marker(pytest.mark.vm)
            if os.environ.get("LAB_VAGRANT_TESTS") != "1":
                item.add_marker(pytest.mark.skip(reason="scripts/test-vagrant runs these"))


class Lab:
    """The lab as a command, with a Vagrant home of its own."""

    def __init__(self, root: Path, home: Path, output: Path) -> None:
        self.root = root
        self.output = output
        self.environment: Mapping[str, str] = {**os.environ, "VAGRANT_HOME": str(home)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A lab that runs."""
        return subprocess.Popen(
            [sys.executable, "-m", "lab", *arguments],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, expect: int = 0, script: str | None = None) -> subprocess.CompletedProcess[str]:
        """A lab that has ended, as expected."""
        done = subprocess.run(
            [sys.executable, "-m", "lab", *arguments],
            cwd=self.root,
            env=self.environment,
            input=script or "",
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
        return done

    @property
    def cells(self) -> Path:
        """The cells of the newest run."""
        return self.output / "latest" / "cells"


@pytest.fixture
def lab(project_root: Path, tmp_path: Path) -> Iterator[Lab]:
    """The lab; whatever a test leaves behind is an error of the test."""
    # whoever runs the tests in the background may ignore Ctrl-C, and a program inherits that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Lab(project_root, tmp_path / "vagrant.d", tmp_path / "results")
    assert left_over() == []


def left_over() -> list[str]:
    """What is there of domains, disks, processes, folders."""
    found = virsh("list", "--all", "--name").split()
    for pool in virsh("pool-list", "--name").split():
        virsh("pool-refresh", pool)
        found += virsh("vol-list", pool).split()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        # Vagrant is a script: its interpreter's name comes first
        if {Path(word).name for word in words[:2]} & {"qemu-system-x86_64", "vagrant", "ssh"}:
            found.append(f"process {path.parent.name}: {' '.join(words)[:200]}")
    return found + sorted(machine_folders() - _BEFORE)


def machine_folders() -> frozenset[str]:
    """The folders of machines in the cache."""
    return frozenset(str(path) for path in (cache_root() / "vagrant" / "machines").glob("*"))


_BEFORE = machine_folders()  # of somebody else, whose libvirt is another one


def virsh(*arguments: str) -> str:
    """What virsh says."""
    done = subprocess.run(
        ["virsh", "--quiet", "--connect", "qemu:///system", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
