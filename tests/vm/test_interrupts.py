"""A lab that is interrupted or killed leaves no QEMU, no half-written result, and nothing that hinders the next run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KILLS = 10
RUN = ("run", "nat-present", "filter-listed", "--connections", "1000", "--repeat", "2", "--accelerator", "tcg")


@contextmanager
def lab(project_root: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A lab that runs four or more cells."""
    argv = [sys.executable, "-m", "lab", *RUN, "--output", str(output)]
    process = subprocess.Popen(argv, cwd=project_root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def children(pid: int) -> set[int]:
    """The processes that `pid` has started."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.add(int(folder.name))
    return found


def wait_for_qemu(pid: int) -> set[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := children(pid):
            return found
        time.sleep(0.05)
    raise AssertionError("the lab started no QEMU")


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists() and not is_zombie(pid)}


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def assert_readable(output: Path) -> None:
    """Every visible cell has a whole result; what is half-written is hidden."""
    for cell in output.glob("*/cells/[!.]*"):
        assert json.loads((cell / "result.json").read_text())["cell"] == cell.name
    for results in output.glob("*/results.json"):
        json.loads(results.read_text())


@pytest.mark.usefixtures("guests")
def test_ctrl_c_ends_within_two_seconds_and_keeps_what_finished(project_root: Path, tmp_path: Path) -> None:
    with lab(project_root, tmp_path) as process:
        wait_for_qemu(process.pid)
        deadline = time.monotonic() + 90
        while not list(tmp_path.glob("*/cells/[!.]*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        left = wait_for_qemu(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=2)
    assert process.returncode == 130
    assert b"interrupted" in errors
    assert not alive(left)
    (run,) = (path for path in tmp_path.iterdir() if not path.is_symlink())
    assert len(json.loads((run / "results.json").read_text())["cells"]) >= 1
    assert json.loads((run / "manifest.json").read_text())["complete"] is False
    assert not list(run.glob("cells/.*"))
    assert_readable(tmp_path)


@pytest.mark.usefixtures("guests")
def test_sigterm_ends_as_ctrl_c_does(project_root: Path, tmp_path: Path) -> None:
    with lab(project_root, tmp_path) as process:
        left = wait_for_qemu(process.pid)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=2)
    assert process.returncode == 130
    assert not alive(left)


@pytest.mark.usefixtures("guests")
def test_kill_at_any_moment_leaves_no_qemu_and_no_half_result(project_root: Path, tmp_path: Path) -> None:
    moments = random.Random(20261120)
    for _ in range(KILLS):
        with lab(project_root, tmp_path) as process:
            wait_for_qemu(process.pid)
            time.sleep(moments.uniform(0.0, 4.0))
            left = children(process.pid)
            process.kill()
            process.wait(timeout=5)
            deadline = time.monotonic() + 1.0
            while alive(left) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not alive(left), "QEMU has outlived the lab"
        assert_readable(tmp_path)
    after = [sys.executable, "-m", "lab", "run", "filter-listed", "--set", "iptables=legacy", "--connections", "200"]
    done = subprocess.run(
        [*after, "--output", str(tmp_path)], cwd=project_root, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not list(tmp_path.glob("*/cells/.*")), "the next run clears what a killed one left"


def test_children_are_found() -> None:
    """The helper above must not be what makes these tests pass."""
    with subprocess.Popen(["sleep", "30"]) as process:
        assert process.pid in children(os.getpid())
        process.kill()
