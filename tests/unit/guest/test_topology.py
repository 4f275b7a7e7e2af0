"""Client, router and server in namespaces: what is made, that packets are forwarded, and that nothing is left."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lab.guest import ends, paths, topology
from lab.guest.namespaces import TopologyError, enter
from lab.guest.paths import CLIENT, FORWARD, IPV4, LOOPBACK, PATHS, SERVER, connect_address
from tests.unit.namespaces import counters, entries, first_that_works, in_namespace, neighbours, track

PORT = 7777
T = TypeVar("T")


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No test of this file may hang."""

    def late(_: int, __: object) -> None:
        raise AssertionError("the test hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    before = (interfaces(), namespaces())
    yield
    assert (interfaces(), namespaces()) == before


def interfaces() -> list[str]:
    return sorted(name for _, name in socket.if_nameindex())


def namespaces() -> list[str]:
    folder = Path("/run/netns")
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def built() -> dict[str, Any]:
    """The topology, in a namespace that the caller is in already; skips where there are no such interfaces."""
    first_that_works(["ip", "link", "add", "probe", "type", "veth"])
    first_that_works(["ip", "link", "delete", "probe"])
    return topology.build(FORWARD)


def standing(role: str, make: Callable[[], T]) -> T:
    """What `make` returns where a role stands. Namespaces belong to a thread: this one stays where it is."""
    made: list[T] = []
    problems: list[BaseException] = []

    def work() -> None:
        try:
            enter(FORWARD, role)
            made.append(make())
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return made[0]


def exchange() -> list[Any]:
    """A connection from client to server and a word each way: who the server sees, who the client sees, the words."""
    listener = standing(SERVER, socket.socket)
    client = standing(CLIENT, socket.socket)
    with listener, client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((connect_address(FORWARD, IPV4), PORT))
        listener.listen()
        client.settimeout(20)
        client.connect((connect_address(FORWARD, IPV4), PORT))
        server, peer = listener.accept()
        with server:
            server.settimeout(20)
            client.sendall(b"there")
            server.sendall(b"back")
            return [peer[0], client.getpeername()[0], server.recv(16).decode(), client.recv(16).decode()]


def table_count() -> int:
    return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


# -- loopback ---------------------------------------------------------------------------------------------------------


def test_loopback_needs_nothing() -> None:
    home = os.stat("/proc/self/ns/net").st_ino
    assert topology.build(LOOPBACK) == {"path": LOOPBACK}
    enter(LOOPBACK, CLIENT)
    assert os.stat("/proc/self/ns/net").st_ino == home
    assert ends.untrack_ends(LOOPBACK) == {}
    assert connect_address(LOOPBACK, IPV4) == "127.0.0.1"
    topology.remove(LOOPBACK)


@pytest.mark.parametrize("use", [topology.build, topology.remove, paths.path_of, lambda name: enter(name, CLIENT)])
def test_an_unknown_path(use: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="ring is no path: loopback, local, "):
        use("ring")


def test_a_place_that_was_not_made_is_named() -> None:
    def body() -> str:
        with pytest.raises(TopologyError) as raised:
            enter(FORWARD, CLIENT)
        return str(raised.value)

    assert in_namespace(body) == "/var/run/netns/lab-client cannot be entered: ENOENT"


# -- namespaces -------------------------------------------------------------------------------------------------------


def test_the_router_forwards() -> None:
    def body() -> list[Any]:
        built()
        return [exchange(), counters("Ip")["ForwDatagrams"]]

    seen, forwarded = in_namespace(body)
    assert seen == ["198.51.100.2", "203.0.113.2", "there", "back"]
    assert forwarded > 5


def test_without_forwarding_nothing_arrives() -> None:
    """That the test above can fail: the server is reached through the router only."""

    def body() -> bool:
        built()
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
        with standing(CLIENT, socket.socket) as client:
            client.settimeout(0.3)
            return client.connect_ex((connect_address(FORWARD, IPV4), PORT)) == 0

    assert in_namespace(body) is False


def test_the_router_masquerades_what_leaves_eth0_and_has_the_only_entry() -> None:
    def body() -> list[Any]:
        built()
        track()
        first_that_works(
            [
                *["iptables-legacy", "--table", "nat", "--append", "POSTROUTING"],
                *["--out-interface", "eth0", "--jump", "MASQUERADE"],
            ],
            ["nft", 'table ip n { chain c { type nat hook postrouting priority 100; oifname "eth0" masquerade; }; }'],
        )
        seen = exchange()
        return [seen, [line for line in entries() if f"dport={PORT}" in line], standing(CLIENT, table_count)]

    seen, lines, of_client = in_namespace(body)
    assert seen == ["203.0.113.1", "203.0.113.2", "there", "back"]
    assert len(lines) == 1
    assert "src=198.51.100.2 dst=203.0.113.2" in lines[0]
    assert "src=203.0.113.2 dst=203.0.113.1" in lines[0]
    assert of_client == 0


def test_a_burst_at_the_start_loses_nothing() -> None:
    """The first packets through are many at once: none waits for a neighbour or an interface that is not up yet."""
    connections = 600

    def body() -> list[int]:
        built()
        listener = standing(SERVER, socket.socket)
        listener.bind((connect_address(FORWARD, IPV4), PORT))
        listener.listen(connections)

        def connect_all() -> list[socket.socket]:
            clients = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(connections)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex((connect_address(FORWARD, IPV4), PORT))
            return clients

        held = standing(CLIENT, connect_all)
        accepted = [listener.accept() for _ in range(connections)]
        return [len(held), len(accepted), standing(CLIENT, lambda: counters("Tcp"))["RetransSegs"]]

    assert in_namespace(body) == [connections, connections, 0]


def test_nobody_has_to_ask_for_a_neighbour() -> None:
    """ATF_COM and ATF_PERM, in hexadecimal: 6."""

    def body() -> list[dict[str, int]]:
        built()
        exchange()
        return [neighbours(), standing(CLIENT, neighbours), standing(SERVER, neighbours)]

    here, at_client, at_server = in_namespace(body)
    assert here == {"198.51.100.2": 6, "203.0.113.2": 6}
    assert at_client == {"198.51.100.1": 6}
    assert at_server == {"203.0.113.1": 6}


@pytest.mark.parametrize(("downs", "seconds", "is_up"), [(0, 0.0, True), (3, 20.0, True), (100, 0.0, False)])
def test_an_interface_is_waited_for(monkeypatch: pytest.MonkeyPatch, downs: int, seconds: float, is_up: bool) -> None:
    looks: list[list[str]] = []

    def look(argv: list[str], _: float) -> dict[str, Any]:
        looks.append(argv)
        state = "DOWN" if len(looks) <= downs else "UP"
        return {
            "argv": argv,
            "exit_status": 0,
            "stdout": f"2: eth0@if2: mtu 1500 state {state} mode DEFAULT",
            "stderr": "",
        }

    monkeypatch.setattr(topology, "run_command", look)
    monkeypatch.setattr(topology, "_UP_SECONDS", seconds)
    if is_up:
        topology._await_up(PATHS[FORWARD].links[CLIENT])
        assert len(looks) == downs + 1
    else:
        with pytest.raises(TopologyError, match=r"eth0 is not up: `ip -n lab-client link show dev eth0` .* state DOWN"):
            topology._await_up(PATHS[FORWARD].links[CLIENT])


def test_what_was_done_is_told() -> None:
    def body() -> list[Any]:
        evidence = built()
        backlog = Path("/proc/sys/net/core/somaxconn")
        here = backlog.read_text()
        there = [standing(role, backlog.read_text) for role in (CLIENT, SERVER)]
        return [evidence, here.strip(), [text.strip() for text in there]]

    evidence, here, there = in_namespace(body)
    assert evidence["path"] == FORWARD
    assert ["ip", "netns", "add", "lab-server"] in evidence["commands"]
    assert evidence["addresses"][IPV4] == {
        "client": "198.51.100.2",
        "machine_to_client": "198.51.100.1",
        "machine_to_server": "203.0.113.1",
        "server": "203.0.113.2",
    }
    assert evidence["sysctls"]["machine"]["net.ipv4.ip_forward"]["after"] == "1"
    assert evidence["sysctls"][CLIENT]["net.core.somaxconn"]["after"] == "65535"
    assert evidence["sysctls"][SERVER]["net.ipv4.tcp_syncookies"]["after"] == "0"
    assert here != "65535"  # of the namespaces beside, not of this one
    assert there == ["65535", "65535"]


def test_it_is_gone_when_it_is_removed_and_can_be_made_again() -> None:
    def body() -> list[Any]:
        before = interfaces()
        built()
        between = interfaces()
        topology.remove(FORWARD)
        after = [interfaces(), namespaces()]
        topology.remove(FORWARD)  # again does no harm
        topology.build(FORWARD)
        return [before, between, after, exchange()]

    before, between, after, seen = in_namespace(body)
    assert between == sorted([*before, "eth0", "lab-c0"])
    assert after == [before, []]
    assert seen[0] == "198.51.100.2"


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (["ip", "link", "add", "eth0", "type", "veth"], "this machine has a network interface eth0 already"),
        (["ip", "link", "add", "lab-c0", "type", "veth"], "this machine has a network interface lab-c0 already"),
        (["ip", "netns", "add", "lab-server"], "this machine has a network namespace lab-server already"),
    ],
)
def test_what_is_there_already_is_left_alone(first: list[str], message: str) -> None:
    def body() -> list[Any]:
        first_that_works(first)
        before = [interfaces(), namespaces()]
        with pytest.raises(TopologyError) as raised:
            topology.build(FORWARD)
        return [str(raised.value), before, [interfaces(), namespaces()]]

    said, before, after = in_namespace(body)
    assert said == message
    assert after == before


def test_a_command_that_fails_is_quoted_and_what_was_made_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    path = PATHS[FORWARD]
    wrong = path.links[SERVER].addresses[IPV4]._replace(here="203.0.113.999")
    server = path.links[SERVER]._replace(addresses={IPV4: wrong})

    def body() -> list[Any]:
        built()
        topology.remove(FORWARD)
        before = interfaces()
        monkeypatch.setitem(PATHS, FORWARD, path._replace(links={**path.links, SERVER: server}))
        with pytest.raises(TopologyError) as raised:
            topology.build(FORWARD)
        return [str(raised.value), interfaces() == before, namespaces()]

    said, as_before, left = in_namespace(body)
    assert said.startswith("`ip address add 203.0.113.999/24 dev eth0` ended with 1: ")
    assert "203.0.113.999" in said.partition(": ")[2]
    assert as_before
    assert left == []


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> str:
        monkeypatch.setattr("lab.guest.apply._ENVIRONMENT", {"PATH": "/nowhere"})
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(TopologyError) as raised:
            topology.build(FORWARD)
        return str(raised.value)

    assert in_namespace(body).startswith("`ip netns add lab-client` ended with 127: ip: No such file")


def test_conntrack_is_kept_out_of_the_ends() -> None:
    """Rules in them stand in for a kernel that tracks everywhere."""

    def counts() -> list[int]:
        return [standing(role, table_count) for role in (CLIENT, SERVER)]

    def body() -> list[Any]:
        built()
        idle = ends.untrack_ends(FORWARD)
        track()
        for role in (CLIENT, SERVER):
            standing(role, track)
        exchange()
        tracked = counts()
        told = ends.untrack_ends(FORWARD)
        before = [table_count(), *counts()]
        exchange()
        return [idle, tracked, told, before, [table_count(), *counts()], ends.untrack_ends(FORWARD)]

    idle, tracked, told, before, after, again = in_namespace(body)
    nothing = {"tracked": False, "commands": []}
    assert idle == {CLIENT: nothing, SERVER: nothing}
    assert tracked == [1, 1]
    assert all(done["tracked"] and done["commands"] for done in told.values())
    assert after == [before[0] + 1, *before[1:]]  # only the router's table has a new entry
    assert again == idle


def test_ends_that_cannot_be_kept_untracked_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "_NOTRACK", ([["false"]],))

    def body() -> str:
        built()
        standing(CLIENT, track)
        with pytest.raises(TopologyError) as raised:
            ends.untrack_ends(FORWARD)
        return str(raised.value)

    assert in_namespace(body) == "lab-client still tracks: `false` ended with 1: nothing"
