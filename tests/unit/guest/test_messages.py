"""Messages that are sent at once: each to its own address with its own words, and what ends a batch."""

from __future__ import annotations

import errno
import socket
from array import array
from contextlib import closing

from lab.guest.messages import Messages
from tests.unit.namespaces import in_namespace


def packed(*addresses: str) -> bytes:
    return b"".join(map(socket.inet_aton, addresses))


def receiver() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 7777))
    sock.settimeout(10)
    return sock


def test_each_message_has_its_own_words() -> None:
    def body() -> list[str]:
        with closing(receiver()) as there, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
            messages = Messages(here, 7777, b"abcdef", 4)
            messages.address(packed("127.1.1.1", "127.1.1.2", "127.1.1.3"))
            messages.put(1, array("H", b"ghijkl"))
            assert messages.send(0, 3) == (3, 0)
            assert messages.send(2, 1) == (1, 0)
            return [there.recv(16).decode() for _ in range(4)]

    assert in_namespace(body) == ["abghef", "abijef", "abklef", "abklef"]


def test_what_cannot_be_sent_ends_a_batch_and_the_rest_can_follow() -> None:
    def body() -> list[list[int]]:
        with closing(receiver()), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
            messages = Messages(here, 7777, b"", 8)
            messages.address(packed("127.1.1.1", "127.1.1.2", "198.51.100.1", "127.1.1.4"))
            return [list(messages.send(*part)) for part in ((0, 4), (2, 2), (3, 1), (3, 0))]

    assert in_namespace(body) == [[2, errno.ENETUNREACH], [0, errno.ENETUNREACH], [1, 0], [0, 0]]
