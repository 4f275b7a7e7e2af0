"""The load over real loopback connections: how it ends, what it says of each connection, that nothing outlives it."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.guest import bodies, endings, engines, kinds, load_by_hand, topology
from lab.guest import client as client_module
from lab.guest import load as load_module
from lab.guest.churn import ChurnServer
from lab.guest.client import Client
from lab.guest.load import Load, LoadError, LoadRequest
from lab.guest.resends import Resends
from lab.guest.server import Server
from tests.unit.free_ports import free_row, is_free
from tests.unit.namespaces import entries, in_namespace, track

LOOPS = [
    "asyncio",
    pytest.param(
        "uvloop", marks=pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is missing")
    ),
]


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No test of this file may hang."""

    def late(_: int, __: object) -> None:
        raise AssertionError("the test hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(40)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True, params=engines.ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both engines have the same outcomes. Skips where this host has no io_uring."""
    refusal = engines.ring_refusal()
    if request.param == engines.IO_URING and refusal:
        pytest.skip(refusal)
    monkeypatch.setattr(LoadRequest.__new__, "__defaults__", _defaults(engine=request.param))
    return str(request.param)


def _defaults(**changed: object) -> tuple[object, ...]:
    return tuple({**LoadRequest._field_defaults, **changed}.values())


@pytest.fixture
def first_port() -> int:
    return free_row()


@pytest.fixture(params=["together", "apart"])
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Server and client of a shard in one process, or in two."""
    monkeypatch.setattr(kinds, "_is_local", lambda _: request.param == "together")
    return bool(request.param == "together")


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Server and client in processes of their own: what is done to one of them must not touch the other."""
    monkeypatch.setattr(kinds, "_is_local", lambda _: False)


def run(request: LoadRequest) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    samples: list[dict[str, Any]] = []
    before = children()
    load = Load(request, samples.append)
    try:
        return load.run(), samples
    finally:
        load.release()
        assert children() == before


def counts(of: dict[str, Any]) -> tuple[int, ...]:
    return tuple(of[name] for name in ("attempted", "held", "failed", "lost", "accepted"))


def children() -> set[str]:
    """This process's children, also those not waited for yet; other tests may have left a pool's (proc(5))."""
    tasks = (f"/proc/self/task/{task}/children" for task in os.listdir("/proc/self/task"))
    return {pid for file in tasks for pid in Path(file).read_text().split()}


class Deaf(Server):
    """Listens, with room for next to nothing, and never accepts."""

    def __init__(self, loop: Any, listen: Any, *others: Any) -> None:
        super().__init__(loop, [(address, port, 1) for address, port, _ in listen], *others)

    def start(self) -> None:
        pass


class Absent(Server):
    """Listens nowhere, so that connects are refused."""

    def __init__(self, loop: Any, listen: Any, *others: Any) -> None:
        super().__init__(loop, (), *others)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("processes", [1, 2])
def test_all_connections_are_held_and_gone_after_release(
    first_port: int, together: bool, loop: str, processes: int
) -> None:
    samples: list[dict[str, Any]] = []
    before = children()
    load = Load(LoadRequest(301, 20.0, processes=processes, loop=loop, first_port=first_port), samples.append)
    try:
        result = load.run()
        assert not is_free(first_port)
        assert load.crash() is None
    finally:
        load.release()
    assert children() == before
    assert (result["kind"], result["ended"]) == ("hold", "all-held")
    assert (result["open_peak"], result["newcomers"]) == (301, None)
    assert result["progress"] == {"attempted": 301, "held": 301, "failed": 0, "lost": 0, "accepted": 301}
    assert [client["runs"] for client in result["clients"]] == (
        [[["held", 301]]] if processes == 1 else [[["held", 151]], [["held", 150]]]
    )
    assert sum(server["accepted"] for server in result["servers"]) == 301
    assert sum(count for _, _, count in result["listeners"]) == 301
    assert (samples[0]["attempted"], samples[-1]["held"]) == (0, 301)
    assert (samples[0]["open"], samples[-1]["open"]) == (0, 301)
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", first_port)) != 0
    load.release()  # again does no harm
    assert load.crash() is None


def test_refused_connections_are_answers(first_port: int, together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "Server", Absent)
    result, _ = run(LoadRequest(50, 20.0, processes=1, first_port=first_port))
    assert result["ended"] == "all-answered"
    assert result["clients"][0]["errors"] == {"ECONNREFUSED": 50}
    assert result["clients"][0]["runs"] == [["failed", 50]]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.usefixtures("apart")
def test_a_client_out_of_descriptors(first_port: int, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    class Poor(Client):
        def start(self) -> None:
            _lower_limit(64)
            super().start()

    monkeypatch.setattr(bodies, "Client", Poor)
    result, _ = run(LoadRequest(200, 20.0, processes=1, loop=loop, first_port=first_port))
    held = result["progress"]["held"]
    assert result["ended"] == "all-answered"
    assert 0 < held < 64
    assert result["clients"][0]["errors"] == {"EMFILE": 200 - held}
    assert result["progress"]["accepted"] == held


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.usefixtures("apart")
def test_a_server_out_of_descriptors(first_port: int, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    class Poor(Server):
        def start(self) -> None:
            _lower_limit(64)
            super().start()

    monkeypatch.setattr(bodies, "Server", Poor)
    monkeypatch.setattr(endings, "QUIET_SECONDS", 0.5)
    result, _ = run(LoadRequest(200, 20.0, processes=1, loop=loop, first_port=first_port))
    assert result["ended"] == "no-movement"
    assert result["progress"]["held"] == 200
    assert 0 < result["progress"]["accepted"] < 64
    assert result["servers"][0]["errors"]["EMFILE"] >= 1


def test_both_sides_in_one_process_out_of_descriptors(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Poor(Client):
        def start(self) -> None:
            _lower_limit(64)
            super().start()

    monkeypatch.setattr(bodies, "Client", Poor)
    monkeypatch.setattr(endings, "QUIET_SECONDS", 0.5)
    result, _ = run(LoadRequest(200, 20.0, processes=1, first_port=first_port))
    assert result["ended"] == "no-movement"
    assert 0 < result["progress"]["held"] < 64
    assert result["clients"][0]["errors"] == {"EMFILE": 200 - result["progress"]["held"]}
    assert result["progress"]["accepted"] < result["progress"]["held"]
    assert result["servers"][0]["errors"]["EMFILE"] >= 1


def _lower_limit(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def test_a_full_backlog_stalls_and_every_connect_is_still_tried(
    first_port: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "Server", Deaf)
    monkeypatch.setattr(endings, "QUIET_SECONDS", 1.2)
    monkeypatch.setattr(client_module, "_WINDOW", 32)
    monkeypatch.setattr(client_module, "_BATCH", 16)
    result, _ = run(LoadRequest(400, 20.0, processes=1, first_port=first_port))
    client = result["clients"][0]
    assert result["ended"] == "no-movement"
    assert result["progress"]["attempted"] == 400
    assert result["progress"]["accepted"] == 0
    assert client["pending"] == client["stalled"]["examined"] > 300
    assert client["stalled"]["syn_retransmitted"] > 300
    assert dict(client["runs"]).keys() <= {"held", "stalled"}


def test_the_deadline_ends_a_load_that_still_waits(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "Server", Deaf)
    result, _ = run(LoadRequest(100, 0.3, processes=1, first_port=first_port))
    assert result["ended"] == "deadline"
    assert result["seconds"] < 5


def test_connections_that_the_other_side_closed_are_lost(
    first_port: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rude(Server):
        def progress(self) -> dict[str, Any]:
            if self.accepted == 120 and len(self._held) == 120:
                for _ in range(10):
                    os.close(self._held.pop())
            return super().progress()

    monkeypatch.setattr(bodies, "Server", Rude)
    result, _ = run(LoadRequest(120, 20.0, processes=1, first_port=first_port))
    assert result["progress"]["held"] == 110
    assert result["progress"]["lost"] == 10
    assert sum(length for state, length in result["clients"][0]["runs"] if state == "lost") == 10


class ScriptedSampler:
    """Conntrack's counters as a list says, the last entry for ever."""

    script: tuple[tuple[str | None, str | None, int | None], ...] = ()

    def __init__(self) -> None:
        self._taken = 0

    def sample(self) -> dict[str, str | None]:
        count, table_max, drop = self.script[min(self._taken, len(self.script) - 1)]
        self._taken += 1
        return {
            "count": count,
            "max": table_max,
            "stat": None if drop is None else f"entries drop\n00000001 {drop:08x}\n",
        }

    def close(self) -> None:
        pass


FULL = ("100\n", "100\n")
ENDINGS: dict[str, tuple[str, tuple[tuple[str | None, str | None, int | None], ...]]] = {
    "full and dropping": ("table-full", (("3\n", "100\n", 0), (*FULL, 0), (*FULL, 7))),
    "the counter wraps": ("table-full", (("3\n", "100\n", 0xFFFFFFFF), (*FULL, 3))),
    "one below max now and then": (
        "table-full",
        (("3\n", "100\n", 0), *((*FULL, 7), ("99\n", "100\n", 8), (*FULL, 9)) * 30),
    ),
    "conntrack comes late": ("table-full", ((None, None, None),) * 3 + ((*FULL, 5), (*FULL, 6))),
    "full without a drop": ("no-movement", (("3\n", "100\n", 4), (*FULL, 4))),
    "drops below max": ("no-movement", (("3\n", "100\n", 0), ("50\n", "100\n", 4))),
    "full for a moment only": ("no-movement", (("3\n", "100\n", 0), (*FULL, 4), ("50\n", "100\n", 4))),
    "a max of 0 is no bound": ("no-movement", (("3\n", "0\n", 0), ("50\n", "0\n", 4))),
    "no counter on this kernel": ("no-movement", ((*FULL, None),)),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_how_the_table_ends_the_load(first_port: int, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ended, script = ENDINGS[name]
    monkeypatch.setattr(ScriptedSampler, "script", script)
    monkeypatch.setattr("lab.guest.load.Sampler", ScriptedSampler)
    monkeypatch.setattr(bodies, "Server", Deaf)
    monkeypatch.setattr(endings, "FULL_SECONDS", 0.2)
    monkeypatch.setattr(endings, "QUIET_SECONDS", 0.4)
    result, samples = run(LoadRequest(60, 20.0, processes=1, first_port=first_port))
    assert result["ended"] == ended
    assert samples[0]["count"] == script[0][0]


def test_a_bug_in_a_callback_ends_the_load(first_port: int, together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Client):
        def tick(self) -> None:
            raise RuntimeError("boom")

    monkeypatch.setattr(bodies, "Client", Broken)
    monkeypatch.setattr(bodies, "Server", Deaf)
    with pytest.raises(LoadError, match=f"{'pair' if together else 'client'} 0: RuntimeError: boom"):
        run(LoadRequest(60, 20.0, processes=1, first_port=first_port))


def test_a_worker_that_vanishes_ends_the_load(first_port: int, together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Vanishing(Client):
        def start(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(bodies, "Client", Vanishing)
    with pytest.raises(LoadError, match=f"{'pair' if together else 'client'} 0: ended without a word"):
        run(LoadRequest(60, 20.0, processes=1, first_port=first_port))


def test_workers_that_say_nothing_are_not_waited_for(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(Server):
        def __init__(self, *_: Any) -> None:
            signal.pause()

    monkeypatch.setattr(bodies, "Server", Stuck)
    monkeypatch.setattr(load_module, "START_SECONDS", 0.3)
    with pytest.raises(LoadError, match=r"gave no answer for 0\.3 s"):
        run(LoadRequest(60, 20.0, processes=1, first_port=first_port))


def test_a_port_in_use_is_named(first_port: int, together: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of other tests linger in TIME_WAIT
        other.bind(("127.0.0.1", first_port))
        other.listen()
        with pytest.raises(LoadError, match=f"cannot listen on 127.0.0.1:{first_port}: Address already in use"):
            run(LoadRequest(60, 20.0, processes=1, first_port=first_port))


def test_an_interrupt_of_the_coordinator_leaves_no_process(first_port: int) -> None:
    def interrupt(_: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    before = children()
    load = Load(LoadRequest(60, 20.0, processes=1, first_port=first_port), interrupt)
    with pytest.raises(KeyboardInterrupt):
        load.run()
    assert children() == before


@pytest.mark.parametrize(
    ("connections", "descriptors", "message"),
    [(0, 1000, "0 connections"), (10, 20, "hold no connection")],
)
def test_what_cannot_be_spread_is_no_load(
    monkeypatch: pytest.MonkeyPatch, connections: int, descriptors: int, message: str
) -> None:
    monkeypatch.setattr(kinds, "fd_limit", lambda: descriptors)
    with pytest.raises(LoadError, match=message):
        run(LoadRequest(connections, 1.0))


def test_an_unreadable_port_range_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.guest.sources.read_text", lambda _: (None, "EACCES", False))
    with pytest.raises(LoadError, match="EACCES"):
        run(LoadRequest(10, 1.0))


def test_a_loop_that_is_not_installed_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(LoadError, match="uvloop"):
        Load(LoadRequest(10, 1.0, loop="uvloop"), print)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_that_died_after_the_load_is_noticed(first_port: int, together: bool, loop: str) -> None:
    before = children()
    load = Load(LoadRequest(60, 20.0, processes=2, loop=loop, first_port=first_port), lambda _: None)
    try:
        assert load.run()["ended"] == "all-held"
        assert load.crash() is None
        pid = load._workers[0][1].pid
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        died = f"{'pair' if together else 'server'} 1: ended without a word"
        assert [load.crash(), load.crash()] == [died, died]
    finally:
        load.release()
        assert children() == before


def test_a_bug_after_the_load_is_noticed(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Client):
        def outcome(self) -> dict[str, Any]:
            self._loop.call_soon(self._break)
            return super().outcome()

        def _break(self) -> None:
            raise RuntimeError("boom")

    monkeypatch.setattr(bodies, "Client", Late)
    load = Load(LoadRequest(60, 20.0, processes=1, first_port=first_port), lambda _: None)
    try:
        assert load.run()["ended"] == "all-held"
        assert load.crash() == "pair 0: RuntimeError: boom"
    finally:
        load.release()


@pytest.mark.parametrize("processes", [1, 3])
def test_all_listeners_are_there_before_any_client_begins(
    first_port: int, together: bool, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    class Slow(Server):
        def __init__(self, loop: Any, listen: Any, *others: Any) -> None:
            if listen[-1][1] == first_port + 8 // processes * processes - 1:
                time.sleep(0.3)
            super().__init__(loop, listen, *others)

    class Telling(Client):
        def start(self) -> None:
            self.bound = not any(is_free(first_port + number) for number in range(8 // processes * processes))
            super().start()

        def outcome(self) -> dict[str, Any]:
            return dict(super().outcome(), bound=self.bound)

    monkeypatch.setattr(bodies, "Server", Slow)
    monkeypatch.setattr(bodies, "Client", Telling)
    result, _ = run(LoadRequest(90, 20.0, processes=processes, first_port=first_port))
    assert result["ended"] == "all-held"
    assert [client["bound"] for client in result["clients"]] == [True] * processes


def test_a_rate_is_shared_out(first_port: int, together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Telling(Client):
        def outcome(self) -> dict[str, Any]:
            return dict(super().outcome(), rate=self._pace._rate_per_second)

    monkeypatch.setattr(bodies, "Client", Telling)
    result, samples = run(LoadRequest(300, 20.0, rate_per_second=1500, processes=2, first_port=first_port))
    assert result["ended"] == "all-held"
    assert [client["rate"] for client in result["clients"]] == [750.0, 750.0]
    assert len({sample["held"] for sample in samples}) > 2  # it took more than a moment


def test_by_hand(first_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_by_hand.main(["--connections", "20", "--processes", "1", "--first-port", str(first_port)]) == 0
    assert json.loads(capsys.readouterr().out)["ended"] == "all-held"
    assert load_by_hand.main(["--connections", "0"]) == 1
    assert "0 connections" in capsys.readouterr().err


def test_connections_are_accepted_while_others_still_come(
    first_port: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.guest.accepts._MOST", 3)
    monkeypatch.setattr("lab.guest.uring.accepts._MOST", 3)
    result, _ = run(LoadRequest(300, 20.0, processes=1, first_port=first_port))
    assert result["ended"] == "all-held"


# -- churn ------------------------------------------------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: CAP_NET_ADMIN, CAP_NET_RAW")
CLOSES = ["fin", "reset", pytest.param("vanish", marks=needs_root)]
LISTEN, TIME_WAIT = "0A", "06"  # include/net/tcp_states.h


def sockets(ports: range) -> set[tuple[str, str, str]]:
    """Both ends and the state of the TCP sockets that have one of these ports at this end or the other."""
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return {(row[1], row[2], row[3]) for row in rows if any(int(end[-4:], 16) in ports for end in row[1:3])}


@pytest.mark.parametrize("close", CLOSES)
@pytest.mark.parametrize("loop", LOOPS)
def test_connections_come_and_go(first_port: int, together: bool, loop: str, close: str) -> None:
    request = LoadRequest(
        400, 20.0, kind="churn", close=close, hold_seconds=0.2, processes=2, loop=loop, first_port=first_port
    )
    result, samples = run(request)
    assert (result["kind"], result["ended"], result["newcomers"]) == ("churn", "all-held", None)
    assert counts(result["progress"]) == (400, 400, 0, 0, 400)
    assert [client["runs"] for client in result["clients"]] == [[["held", 200]]] * 2
    assert [client["open"] for client in result["clients"]] == [0, 0]
    assert 0 < max(sample["open"] for sample in samples) <= result["open_peak"] <= 400
    assert (samples[0]["open"], samples[-1]["open"]) == (0, 0)


@pytest.mark.parametrize("close", CLOSES)
def test_what_is_left_of_closed_connections(first_port: int, together: bool, close: str) -> None:
    ports = range(first_port, first_port + 8)
    before = sockets(ports)  # what other tests closed lingers
    load = Load(LoadRequest(200, 20.0, kind="churn", close=close, processes=1, first_port=first_port), lambda _: None)
    try:
        assert load.run()["ended"] == "all-held"
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            left = [state for _, _, state in sockets(ports) - before]
            if set(left) <= {LISTEN, TIME_WAIT}:
                break
            time.sleep(0.02)  # the server closes after the client
        assert left.count(LISTEN) == 8
        assert (left.count(TIME_WAIT) > 100) is (close == "fin")
        assert set(left) == ({LISTEN, TIME_WAIT} if close == "fin" else {LISTEN})
    finally:
        load.release()


def states_of_entries() -> dict[str, int]:
    return Counter(line.split()[5] for line in entries() if " tcp " in line)


def resets_sent() -> int:
    """By this network namespace; OutRsts of RFC 4022, in /proc/net/snmp."""
    with open("/proc/net/snmp") as file:
        names, values = (line.split() for line in file if line.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["OutRsts"])


@pytest.mark.parametrize("close", CLOSES)
def test_what_the_table_keeps_of_closed_connections(together: bool, close: str) -> None:
    def body() -> tuple[dict[str, int], int]:
        track()
        result, _ = run(LoadRequest(200, 20.0, kind="churn", close=close, processes=1))
        assert result["ended"] == "all-held"
        deadline = time.monotonic() + 10
        while (found := states_of_entries()).keys() & {"FIN_WAIT", "CLOSE_WAIT", "LAST_ACK"} and close == "fin":
            assert time.monotonic() < deadline
            time.sleep(0.02)  # the server closes after the client
        return found, resets_sent()

    states, resets = in_namespace(body)
    # The server closes on one processor while its answer to the client's FIN still waits on another. Behind the
    # server's own FIN that answer is out of date, and the exchange about it ends in a reset.
    few = range(100) if close == "fin" else (200,) if close == "reset" else (0,)
    assert resets in few
    kept = "ESTABLISHED" if close == "vanish" else "TIME_WAIT"
    assert states == {state: count for state, count in ((kept, 200 - resets), ("CLOSE", resets)) if count}


@pytest.mark.parametrize("kind", ["hold", "churn"])
def test_a_load_through_a_router(kind: str) -> None:
    def body() -> Any:
        topology.build("forward")
        result, _ = run(LoadRequest(300, 20.0, kind=kind, path="forward", processes=2))
        return result

    result = in_namespace(body)
    assert result["ended"] == "all-held"
    assert counts(result["progress"]) == (300, 300, 0, 0, 300)
    assert {address for address, _, _ in result["listeners"]} == {"203.0.113.2"}


def test_without_its_namespaces_a_load_through_a_router_is_none(first_port: int) -> None:
    with pytest.raises(LoadError, match=r"/var/run/netns/lab-client cannot be entered: "):
        run(LoadRequest(300, 20.0, path="forward", processes=1, first_port=first_port))


def test_connections_at_once_closed_are_many_in_all_and_few_at_a_time(first_port: int, together: bool) -> None:
    result, _ = run(LoadRequest(3000, 20.0, kind="churn", processes=1, first_port=first_port))
    assert result["ended"] == "all-held"
    assert counts(result["progress"]) == (3000, 3000, 0, 0, 3000)
    assert 0 < result["open_peak"] <= client_module._BATCH


def test_connections_that_are_only_kept_are_no_quiet(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "QUIET_SECONDS", 0.2)
    result, _ = run(LoadRequest(20, 20.0, kind="churn", hold_seconds=0.8, processes=1, first_port=first_port))
    assert result["ended"] == "all-held"


def test_churn_against_a_server_that_accepts_nothing(
    first_port: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DeafChurn(ChurnServer):
        def __init__(self, loop: Any, listen: Any, *others: Any) -> None:
            super().__init__(loop, [(address, port, 1) for address, port, _ in listen], *others)

        def start(self) -> None:
            pass

    monkeypatch.setattr(bodies, "ChurnServer", DeafChurn)
    monkeypatch.setattr(endings, "QUIET_SECONDS", 0.6)
    result, _ = run(LoadRequest(200, 20.0, kind="churn", processes=1, first_port=first_port))
    assert result["ended"] == "no-movement"
    assert result["progress"]["attempted"] == 200
    assert result["progress"]["accepted"] == result["progress"]["lost"] == 0
    assert result["clients"][0]["pending"] == result["clients"][0]["stalled"]["examined"] > 100
    assert result["clients"][0]["open"] == 0


def test_refused_connections_are_the_churns_answers(
    first_port: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AbsentChurn(ChurnServer):
        def __init__(self, loop: Any, listen: Any, *others: Any) -> None:
            super().__init__(loop, listen[1:], *others)

    monkeypatch.setattr(bodies, "ChurnServer", AbsentChurn)
    result, _ = run(LoadRequest(80, 20.0, kind="churn", hold_seconds=0.1, processes=1, first_port=first_port))
    assert result["ended"] == "all-answered"
    assert counts(result["progress"]) == (80, 70, 10, 0, 70)
    assert result["clients"][0]["errors"] == {"ECONNREFUSED": 10}


def test_churn_ends_where_the_table_stays_full(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedSampler, "script", ENDINGS["full and dropping"][1])
    monkeypatch.setattr("lab.guest.load.Sampler", ScriptedSampler)
    monkeypatch.setattr(endings, "FULL_SECONDS", 0.2)
    monkeypatch.setattr(Resends, "any_of", lambda *_: 1)
    request = LoadRequest(60, 20.0, kind="churn", hold_seconds=60.0, processes=1, first_port=first_port)
    result, samples = run(request)
    assert result["ended"] == "table-full"
    assert (result["open_peak"], samples[-1]["open"]) == (60, 60)
    assert result["clients"][0]["runs"] == [["held", 60]]


def test_one_that_may_not_vanish_drives_nothing(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.guest.churn._TCP_REPAIR", 9999)  # no such option
    with pytest.raises(LoadError, match=r"pair 0: .*connections cannot vanish, which needs CAP_NET_ADMIN"):
        run(LoadRequest(60, 20.0, kind="churn", close="vanish", processes=1, first_port=first_port))


# -- floods and their newcomers ---------------------------------------------------------------------------------------

FLOODS = [pytest.param("half-open", marks=needs_root), "udp"]


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_without_newcomers(first_port: int, kind: str) -> None:
    result, samples = run(LoadRequest(500, 20.0, kind=kind, processes=2, first_port=first_port))
    assert (result["kind"], result["ended"]) == (kind, "all-held")
    assert counts(result["progress"]) == (500, 500, 0, 0, 500)
    assert (result["open_peak"], result["newcomers"]) == (None, None)
    assert [client["held"] for client in result["clients"]] == [250, 250]
    assert not {"open", "newcomers_attempted"} & samples[-1].keys()


@pytest.mark.parametrize("kind", FLOODS)
def test_newcomers_come_after_a_flood(first_port: int, together: bool, kind: str) -> None:
    request = LoadRequest(500, 20.0, kind=kind, newcomers=60, processes=2, first_port=first_port)
    result, samples = run(request)
    assert result["ended"] == "all-held"
    assert counts(result["progress"]) == (500, 500, 0, 0, 500)
    assert result["newcomers"]["connections"] == 60
    assert counts(result["newcomers"]) == (60, 60, 0, 0, 60)
    assert [client["runs"] for client in result["clients"]] == [[], [], [["held", 30]], [["held", 30]]]
    assert sum(count for _, _, count in result["listeners"]) == 60
    assert (samples[0]["newcomers_attempted"], samples[-1]["newcomers_held"]) == (0, 60)
    assert all(sample["attempted"] == 500 for sample in samples if sample["newcomers_attempted"])


class ScriptedFlood:
    """A flood of which the kernel refuses the last `refused`, and that never ends if `stuck`."""

    refused = 0
    stuck = False

    def __init__(self, loop: Any, kind: str, share: Any, on_settled: Callable[[], None]) -> None:
        self._total, self._on_settled = share.connections, on_settled
        self.attempted = self.held = 0

    def start(self) -> None:
        self.attempted = self._total - self.stuck
        self.held = self.attempted - self.refused
        self._on_settled()

    def tick(self) -> None:
        pass

    def progress(self) -> dict[str, Any]:
        errors = {"EPERM": self.refused} if self.refused else {}
        failed = self.attempted - self.held
        return {"attempted": self.attempted, "held": self.held, "failed": failed, "lost": 0, "errors": errors}

    def outcome(self) -> dict[str, Any]:
        return dict(self.progress(), runs=[], stalled={"examined": 0, "syn_retransmitted": 0, "syns": 0})


@pytest.fixture
def scripted_flood(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedFlood]:
    monkeypatch.setattr(bodies, "Flood", ScriptedFlood)
    return ScriptedFlood


def test_refused_packets_are_answers(
    first_port: int, scripted_flood: type[ScriptedFlood], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted_flood, "refused", 40)
    result, _ = run(LoadRequest(100, 20.0, kind="udp", processes=1, first_port=first_port))
    assert result["ended"] == "all-answered"
    assert counts(result["progress"]) == (100, 60, 40, 0, 60)
    assert result["clients"][0]["errors"] == {"EPERM": 40}


def test_newcomers_come_after_refused_packets_too(
    first_port: int, scripted_flood: type[ScriptedFlood], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted_flood, "refused", 40)
    result, _ = run(LoadRequest(100, 20.0, kind="udp", newcomers=30, processes=1, first_port=first_port))
    assert result["ended"] == "all-held"
    assert counts(result["progress"]) == (100, 60, 40, 0, 60)
    assert counts(result["newcomers"]) == (30, 30, 0, 0, 30)


@pytest.mark.parametrize("newcomers", [0, 30])
def test_a_full_table_ends_no_flood_but_the_deadline_does(
    first_port: int, scripted_flood: type[ScriptedFlood], monkeypatch: pytest.MonkeyPatch, newcomers: int
) -> None:
    monkeypatch.setattr(scripted_flood, "stuck", True)
    monkeypatch.setattr(ScriptedSampler, "script", ENDINGS["full and dropping"][1])
    monkeypatch.setattr("lab.guest.load.Sampler", ScriptedSampler)
    monkeypatch.setattr(endings, "FULL_SECONDS", 0.1)
    monkeypatch.setattr(endings, "QUIET_SECONDS", 0.1)
    request = LoadRequest(100, 0.8, kind="udp", newcomers=newcomers, processes=1, first_port=first_port)
    result, _ = run(request)
    assert result["ended"] == "deadline"
    assert counts(result["progress"]) == (99, 99, 0, 0, 99)
    assert result["newcomers"] is None or counts(result["newcomers"]) == (0, 0, 0, 0, 0)
    assert (result["newcomers"] is None) is (newcomers == 0)


def test_newcomers_that_stall_end_by_quiet_and_not_by_a_full_table(
    first_port: int, scripted_flood: type[ScriptedFlood], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedSampler, "script", ENDINGS["full and dropping"][1])
    monkeypatch.setattr("lab.guest.load.Sampler", ScriptedSampler)
    monkeypatch.setattr(bodies, "Server", Deaf)
    monkeypatch.setattr(endings, "FULL_SECONDS", 0.1)
    monkeypatch.setattr(endings, "QUIET_SECONDS", 0.5)
    result, _ = run(LoadRequest(100, 20.0, kind="udp", newcomers=60, processes=1, first_port=first_port))
    assert result["ended"] == "no-movement"
    assert result["newcomers"]["attempted"] == 60
    assert result["newcomers"]["accepted"] == 0
    assert result["clients"][1]["stalled"]["examined"] == 60 - result["newcomers"]["held"] > 30


def test_a_receivers_port_in_use_is_named(first_port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", first_port))
        with pytest.raises(LoadError, match=f"flood 0: .*{first_port}.*Address already in use"):
            run(LoadRequest(60, 20.0, kind="udp", processes=1, first_port=first_port))
