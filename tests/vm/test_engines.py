"""Both engines of the load in one machine whose table is full: they find the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.vm.conftest import TARGETS, tracked_shell

SCRIPT = r"""
echo 100 > /proc/sys/net/netfilter/nf_conntrack_max
for engine in epoll io_uring; do
    conntrack -F 2> /dev/null
    python3 -m lab.guest load --engine $engine --connections 400 --first-port 7777
done
"""


@pytest.mark.parametrize("target", TARGETS)
def test_a_full_table_is_the_same_to_both(project_root: Path, target: str) -> None:
    said = tracked_shell(project_root, SCRIPT, target)
    polled, by_ring = (json.loads(line) for line in said.splitlines() if line.startswith("{"))
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
