"""Both engines of the load in one machine whose table is full: they find the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.vm.conftest import TARGETS

pytestmark = pytest.mark.usefixtures("guests")

# the agent's zipapp is an argument of the first process
SCRIPT = r"""
export PYTHONPATH=$(tr '\0' '\n' < /proc/1/cmdline | grep '\.pyz$')
echo 100 > /proc/sys/net/netfilter/nf_conntrack_max
for engine in epoll io_uring; do
    conntrack -F 2> /dev/null
    python3 -m lab.guest load --engine $engine --connections 400 --first-port 7777
done
"""


def test_a_full_table_is_the_same_to_both(project_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lab", "shell", "nat-present", "--set", "iptables=legacy", "--target", TARGETS[0]],
        cwd=project_root,
        input=SCRIPT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "TERM": "dumb"},
    )
    assert done.returncode == 0, done.stderr
    polled, by_ring = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert polled["engine"]["name"] == "epoll"
    assert by_ring["engine"] == {"name": "io_uring", "reason": None} or by_ring["engine"]["reason"]
    for found in (polled, by_ring):
        assert (found["ended"], found["progress"]["held"], found["progress"]["accepted"]) == ("table-full", 100, 100)
        # the load ends once some have sent their SYN again, which not all have done by then
        assert stalled(found)["examined"] == 300
        assert 0 < stalled(found)["syn_retransmitted"] <= 300
        assert stalled(found)["syns"] > 300


def stalled(found: dict[str, Any]) -> dict[str, int]:
    """The sums over the clients."""
    names = ("examined", "syn_retransmitted", "syns")
    return {name: sum(client["stalled"][name] for client in found["clients"]) for name in names}
