"""A shell in the guest, and a machine that was kept for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.conftest import TARGETS, lab

pytestmark = pytest.mark.parametrize("target", TARGETS)

DIFFERENT = """
version = 1
name = "differs"
summary = "A scenario whose expectation is wrong."
[[state]]
file = { path = "/root/left-behind", text = "by the cell\\n" }
[load]
connections = 200
[[expect]]
finding = "table-full"
because = "it is meant to fail"
"""


def test_a_shell_stands_at_the_scenarios_state(project_root: Path, target: str) -> None:
    commands = "hostname\n" * 200 + "iptables-nft -t nat -S POSTROUTING\nexit 7\n"
    done = lab(project_root, "shell", "nat-present", "--set", "iptables=nft", "--target", target, stdin=commands)
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == ["lab"] * 200 + ["-P POSTROUTING ACCEPT", "-A POSTROUTING -o eth0 -j MASQUERADE"]


def test_a_shell_needs_one_machine(project_root: Path, target: str) -> None:
    done = lab(project_root, "shell", "nat-present", "--target", target)
    assert done.returncode == 2
    assert "--set" in done.stderr


def test_a_machine_that_failed_is_kept_and_can_be_entered(project_root: Path, target: str, tmp_path: Path) -> None:
    scenario = tmp_path / "differs.toml"
    scenario.write_text(DIFFERENT)
    ran = lab(project_root, "run", str(scenario), "--target", target, "--keep-failed", "--output", str(tmp_path))
    assert ran.returncode == 1, ran.stderr
    (cell,) = (tmp_path / "latest" / "cells").iterdir()
    entered = lab(project_root, "shell", "--kept", str(cell), stdin="cat /root/left-behind; exit 3\n")
    assert entered.returncode == 3, entered.stderr
    assert "by the cell" in entered.stdout


def test_nothing_is_kept_of_a_cell_that_is_as_expected(project_root: Path, target: str, tmp_path: Path) -> None:
    scenario = tmp_path / "differs.toml"
    scenario.write_text(DIFFERENT.replace("table-full", "untracked"))
    ran = lab(project_root, "run", str(scenario), "--target", target, "--keep-failed", "--output", str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    (cell,) = (tmp_path / "latest" / "cells").iterdir()
    assert not (cell / "machine").exists()
