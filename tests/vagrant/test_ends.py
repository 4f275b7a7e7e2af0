"""However a lab ends, no domain, no disk, no process and no folder of its machines stays."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from tests.vagrant.conftest import BOXES, Lab, left_over, virsh

RUN = ("run", "nat-present", "--set", "iptables=legacy", "--connections", "1000", "--target", f"vagrant:{BOXES[0]}")
UP_SECONDS = 900.0


def wait_for_domain(process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if virsh("list", "--name").split():
            return
        time.sleep(0.2)
    process.kill()
    raise AssertionError(f"no domain has started: {process.communicate()}")


def test_a_failing_up_says_why_and_leaves_nothing(lab: Lab) -> None:
    done = lab.run(*RUN, "--timeouts", "boot=5", "--output", str(lab.output), expect=3)
    assert "vagrant up did not end within 5 s" in done.stdout
    (cell,) = lab.cells.iterdir()
    assert "$ vagrant up" in (cell / "vagrant.log").read_text()


def test_ctrl_c_during_vagrant_up_leaves_nothing(lab: Lab) -> None:
    process = lab.start(*RUN, "--output", str(lab.output))
    wait_for_domain(process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert left_over() == []


def test_doctor_clean_removes_what_a_killed_lab_left(lab: Lab) -> None:
    process = lab.start(*RUN, "--output", str(lab.output))
    wait_for_domain(process)
    process.kill()
    process.communicate(timeout=10)
    assert left_over() != [], "libvirt keeps a domain whose lab was killed"
    assert "removed the machine lab-" in lab.run("doctor", "--clean").stderr
    assert left_over() == []


def test_a_kept_machine_can_be_entered_and_goes_when_it_is_cleaned(lab: Lab, tmp_path: Path) -> None:
    """The normal end of a run, but for the one machine whose cell was not as expected."""
    scenario = tmp_path / "wrong.toml"
    scenario.write_text(
        'version = 1\nname = "wrong"\nsummary = "Expects what is not so."\n'
        '[load]\nconnections = 200\n[[expect]]\nfinding = "table-full"\n'
    )
    target = ("--target", f"vagrant:{BOXES[0]}")
    done = lab.run("run", str(scenario), *target, "--keep-failed", "--output", str(lab.output), expect=1)
    (cell,) = lab.cells.iterdir()
    assert json.loads((cell / "result.json").read_text())["finding"] == "untracked"
    assert "lab shell --kept" in done.stderr
    entered = lab.run("shell", "--kept", str(cell), script="id -u; cat /proc/sys/kernel/hostname")
    assert entered.stdout.split() == ["0", "lab"]
    assert left_over() != []
    lab.run("doctor", "--clean")
