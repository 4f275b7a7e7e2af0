"""How connections are spread: shares add up, and no limit of the machine is ever passed."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lab.guest.spread import FIRST_PORT, LAST_PORT, MAX_PER_LISTENER, USABLE_PORT_SHARE, Shard, shards

WORKER_DESCRIPTORS = (
    40  # a loop, its wake-up pair, two epolls, the link, the standard streams, the listeners of a small shard
)


@given(
    connections=st.integers(1, 200_000),
    processes=st.integers(1, 64),
    fd_limit=st.integers(0, 1_100_000),
    ephemeral_ports=st.integers(0, 64_512),
    sides=st.sampled_from([1, 2]),
)
def test_every_limit_is_respected(
    connections: int, processes: int, fd_limit: int, ephemeral_ports: int, sides: int
) -> None:
    try:
        plan = shards(connections, processes, fd_limit, ephemeral_ports, sides=sides)
    except ValueError as error:
        message = str(error)
        assert "hold no connection" in message or "more listeners than there are ports" in message
        assume(False)
    listeners = list(chain.from_iterable(shard.listen for shard in plan))
    ports = [port for _, port, _ in listeners]
    assert sum(shard.connections for shard in plan) == connections
    assert len(plan) >= min(processes, connections)
    assert ports == list(range(FIRST_PORT, FIRST_PORT + len(ports)))
    assert ports[-1] <= LAST_PORT
    for shard in plan:
        assert sum(count for _, _, count in shard.listen) == shard.connections > 0
        assert sides * shard.connections + len(shard.listen) + WORKER_DESCRIPTORS <= fd_limit
        assert all(0 < count <= MAX_PER_LISTENER for _, _, count in shard.listen)
        assert all(count <= ephemeral_ports * USABLE_PORT_SHARE for _, _, count in shard.listen)
    assert max(s.connections for s in plan) - min(s.connections for s in plan) <= 1


def test_the_usual_load_of_two_processors() -> None:
    plan = shards(20_000, 2, 1_048_576, 28_232)
    assert [shard.connections for shard in plan] == [10_000, 10_000]
    assert plan[0].listen == tuple(("127.0.0.1", port, 2_500) for port in range(7777, 7781))
    assert plan[1].listen[0] == ("127.0.0.1", 7781, 2_500)


def test_listeners_have_the_address_that_was_asked_for() -> None:
    plan = shards(100, 2, 1024, 28_232, 9000, "203.0.113.2")
    assert {address for shard in plan for address, _, _ in shard.listen} == {"203.0.113.2"}
    assert plan[0].listen[0][1] == 9000


def test_a_few_connections() -> None:
    assert shards(1, 8, 1024, 28_232) == [Shard((("127.0.0.1", FIRST_PORT, 1),), 1)]
    assert [shard.connections for shard in shards(3, 8, 1024, 28_232)] == [1, 1, 1]


def test_descriptors_ask_for_more_processes() -> None:
    assert len(shards(30_000, 2, 20_000, 28_232)) == 2
    assert len(shards(100_000, 2, 20_000, 28_232)) == 6
    assert len(shards(20_000, 2, 20_000, 28_232, sides=2)) == 3
    assert len(shards(100_000, 2, 20_000, 28_232, sides=2)) == 11


@pytest.mark.parametrize(
    ("connections", "fd_limit", "ephemeral_ports", "message"),
    [
        (0, 1024, 28_232, "0 connections are none to hold"),
        (-1, 1024, 28_232, "-1 connections are none to hold"),
        (10, 128, 28_232, "128 descriptors and 28232 ephemeral ports hold no connection"),
        (10, 1024, 2, "1024 descriptors and 2 ephemeral ports hold no connection"),
        (200_000, 1024, 3, "200000 connections need more listeners than there are ports"),
    ],
)
def test_what_cannot_be_spread(connections: int, fd_limit: int, ephemeral_ports: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shards(connections, 2, fd_limit, ephemeral_ports)
