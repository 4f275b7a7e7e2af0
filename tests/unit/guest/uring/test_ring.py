"""A ring of this host's kernel: entries that are used again, completions beyond its room, and its end."""

from __future__ import annotations

import os
import socket
from array import array
from collections.abc import Iterator

import pytest

from lab.guest import engines
from lab.guest.uring import ring as io_uring
from lab.guest.uring.ring import Ring, entry

SOCKET = entry(io_uring.SOCKET, fd=socket.AF_INET, address2=socket.SOCK_STREAM, tag=7 << 32 | 3)


@pytest.fixture(autouse=True)
def has_a_ring() -> None:
    refusal = engines.ring_refusal()
    if refusal is not None:
        pytest.skip(refusal)


@pytest.fixture
def small() -> Iterator[Ring]:
    """Four entries, and room for eight completions."""
    ring = Ring(4, 8)
    yield ring
    ring.close()


def test_entries_are_submitted_again_and_again(small: Ring) -> None:
    small.write(0, SOCKET * 4)
    for count in (3, 4, 2, 1, 4):  # the queue's end comes in the middle of a submission
        small.submit(4 - count, count, count)
        found = small.completed()
        assert found.numbers == array("i", [3] * count)
        assert found.kinds == array("i", [7] * count)
        assert min(found.results) > 2
        for fd in found.results:
            os.close(fd)
    assert small.completed() == (array("i"), array("i"), array("i"))


def test_completions_without_room_are_kept(small: Ring) -> None:
    small.write(0, SOCKET * 4)
    for _ in range(5):
        small.submit(0, 4, 0)
    made = array("i")
    for _ in range(4):
        made += small.completed().results
    assert len(set(made)) == 20
    for fd in made:
        os.close(fd)


def test_a_failure_is_a_result(small: Ring) -> None:
    small.write(0, entry(io_uring.SOCKET, fd=9999, address2=socket.SOCK_STREAM))
    small.submit(0, 1, 1)
    assert small.completed().results[0] < 0


def test_waiting_for_what_never_comes_ends_at_once(small: Ring) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        small.write(0, entry(io_uring.ACCEPT, fd=listener.fileno()))
        small.submit(0, 1, 1)
        assert not small.completed(1).results


def test_a_closed_ring_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    Ring(4, 8).close()
    assert os.listdir("/proc/self/fd") == before


def test_more_entries_than_any_kernel_gives() -> None:
    with pytest.raises(OSError, match="io_uring_setup"):
        Ring(1 << 20, 1 << 21)
