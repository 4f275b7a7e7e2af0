"""Peers: other hosts in namespaces, what gets through to and from them, and that nothing of them is left."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from lab.guest import peer
from lab.guest.machine import set_existing
from tests.unit.namespaces import first_that_works, in_namespace

DROP_REPLIES = (
    "table ip test { chain input { type filter hook input priority 0; policy drop; "
    "tcp dport { 22, 80, 443, 7799 } accept; }; }"
)


def tried() -> dict[str, Any]:
    """What try_peers tells, in a namespace that the caller is in already; skips where there are no such interfaces."""
    first_that_works(["ip", "link", "add", "probe", "type", "veth"])
    first_that_works(["ip", "link", "delete", "probe"])
    return peer.try_peers()


def worked(told: dict[str, Any]) -> dict[str, list[bool]]:
    assert told["error"] is None
    found: dict[str, list[bool]] = {}
    for one in told["attempts"]:
        found.setdefault(one["way"], []).append(one["worked"])
    return found


def left() -> list[str]:
    folder = Path("/run/netns")
    return [name for _, name in socket.if_nameindex() if name != "lo"] + [
        path.name for path in (folder.iterdir() if folder.exists() else ())
    ]


def test_all_gets_through_where_nothing_is_in_the_way() -> None:
    def body() -> list[Any]:
        return [tried(), left()]

    told, remains = in_namespace(body)
    assert worked(told) == {"out": [True] * 4, "in": [True] * 4}
    assert (told["forwards"], remains) == (False, [])
    assert not [name for name in told["modules_loaded"] if "conntrack" in name]


def test_a_router_forwards_between_two_peers() -> None:
    def body() -> list[Any]:
        set_existing({"net.ipv4.ip_forward": 1})
        return [tried(), left()]

    told, remains = in_namespace(body)
    assert worked(told) == {"out": [True] * 4, "in": [True] * 4, "forwarded": [True] * 4}
    assert (told["forwards"], remains) == (True, [])


def test_replies_that_a_firewall_drops_are_missed() -> None:
    def body() -> list[Any]:
        first_that_works(["nft", DROP_REPLIES])
        return [tried(), left()]

    told, remains = in_namespace(body)
    assert worked(told) == {"out": [False] * 4, "in": [True] * 4}
    assert remains == []


def test_a_port_that_somebody_listens_on_is_no_obstacle() -> None:
    def body() -> dict[str, Any]:
        with socket.socket() as listener:
            listener.bind(("", 22))
            listener.listen()
            return tried()

    assert worked(in_namespace(body)) == {"out": [True] * 4, "in": [True] * 4}


def test_what_is_somebody_elses_stays() -> None:
    def body() -> list[Any]:
        first_that_works(["ip", "link", "add", "lab-pa", "type", "veth", "peer", "name", "other"])
        return [tried(), left()]

    told, remains = in_namespace(body)
    assert "lab-pa already" in told["error"]
    assert (told["attempts"], sorted(remains)) == ([], ["lab-pa", "other"])


def test_a_machine_that_cannot_make_peers_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> list[Any]:
        monkeypatch.setattr(peer, "PEERS", (peer.Peer("lab-peer-a", "a-name-that-is-too-long", "a", "b"),))
        return [tried(), left()]

    told, remains = in_namespace(body)
    assert "a-name-that-is-too-long" in told["error"]
    assert (told["attempts"], remains) == ([], [])
