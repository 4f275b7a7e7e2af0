"""Counters of the network namespace that a process is in."""

from __future__ import annotations

import os
import socket

import pytest

from lab.guest import protocol_counters
from lab.guest.protocol_counters import IcmpMessages
from tests.unit.namespaces import in_namespace

NOBODY = ("127.0.0.1", 9)  # no one listens there in a new namespace


def test_icmp_that_comes_is_seen_once() -> None:
    def body() -> list[bool]:
        messages = IcmpMessages()
        found = [messages.has_come()]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", NOBODY)  # the answer is that the port is unreachable
        found += [messages.has_come(), messages.has_come()]
        messages.close()
        return found

    assert in_namespace(body) == [False, True, False]


@pytest.mark.parametrize("text", ["", "Ip: A\nIp: 1\n", "\nIcmp: Other InMsgs\nIcmp: 0 0\n", "\nIcmp: InMsgs\n"])
def test_counters_that_cannot_be_read_may_have_risen(
    text: str, tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.path.join(tmp_path, "snmp")
    with open(path, "w") as file:
        file.write(text)
    monkeypatch.setitem(protocol_counters.FILES, "snmp", path)
    messages = IcmpMessages()
    assert messages.has_come() and messages.has_come()
    messages.close()
