"""The load over real loopback connections: how it ends, what it says of each connection, that nothing outlives it."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.guest import client as client_module
from lab.guest import hold as hold_module
from lab.guest import server as server_module
from lab.guest.client import Client
from lab.guest.hold import Hold, HoldError, HoldRequest
from lab.guest.server import Server
from tests.unit.free_ports import free_row, is_free

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


@pytest.fixture
def first_port() -> int:
    return free_row()


def run(request: HoldRequest) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    samples: list[dict[str, Any]] = []
    hold = Hold(request, samples.append)
    try:
        return hold.run(), samples
    finally:
        hold.release()
        assert_no_child()


def assert_no_child() -> None:
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


class Deaf(Server):
    """Listens, with room for next to nothing, and never accepts."""

    def __init__(self, loop: Any, listen: Any, expected: int, on_expected: Callable[[], None]) -> None:
        super().__init__(loop, [(address, port, 1) for address, port, _ in listen], expected, on_expected)

    def start(self) -> None:
        pass


class Absent(Server):
    """Listens nowhere, so that connects are refused."""

    def __init__(self, loop: Any, listen: Any, expected: int, on_expected: Callable[[], None]) -> None:
        super().__init__(loop, (), expected, on_expected)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("processes", [1, 2])
def test_all_connections_are_held_and_gone_after_release(first_port: int, loop: str, processes: int) -> None:
    samples: list[dict[str, Any]] = []
    hold = Hold(HoldRequest(301, 20.0, processes, loop, first_port), samples.append)
    try:
        result = hold.run()
        assert not is_free(first_port)
    finally:
        hold.release()
    assert_no_child()
    assert result["ended"] == "all-held"
    assert result["progress"] == {"attempted": 301, "held": 301, "failed": 0, "lost": 0, "accepted": 301}
    assert [client["runs"] for client in result["clients"]] == (
        [[["held", 301]]] if processes == 1 else [[["held", 151]], [["held", 150]]]
    )
    assert sum(server["accepted"] for server in result["servers"]) == 301
    assert sum(count for _, _, count in result["listeners"]) == 301
    assert (samples[0]["attempted"], samples[-1]["held"]) == (0, 301)
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", first_port)) != 0
    hold.release()  # again does no harm


def test_refused_connections_are_answers(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_module, "Server", Absent)
    result, _ = run(HoldRequest(50, 20.0, 1, first_port=first_port))
    assert result["ended"] == "all-answered"
    assert result["clients"][0]["errors"] == {"ECONNREFUSED": 50}
    assert result["clients"][0]["runs"] == [["failed", 50]]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_out_of_descriptors(first_port: int, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    class Poor(Client):
        def start(self) -> None:
            _lower_limit(64)
            super().start()

    monkeypatch.setattr(hold_module, "Client", Poor)
    result, _ = run(HoldRequest(200, 20.0, 1, loop, first_port))
    held = result["progress"]["held"]
    assert result["ended"] == "all-answered"
    assert 0 < held < 64
    assert result["clients"][0]["errors"] == {"EMFILE": 200 - held}
    assert result["progress"]["accepted"] == held


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_out_of_descriptors(first_port: int, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    class Poor(Server):
        def start(self) -> None:
            _lower_limit(64)
            super().start()

    monkeypatch.setattr(hold_module, "Server", Poor)
    monkeypatch.setattr(hold_module, "QUIET_SECONDS", 0.5)
    result, _ = run(HoldRequest(200, 20.0, 1, loop, first_port))
    assert result["ended"] == "no-movement"
    assert result["progress"]["held"] == 200
    assert 0 < result["progress"]["accepted"] < 64
    assert result["servers"][0]["errors"]["EMFILE"] >= 1


def _lower_limit(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def test_a_full_backlog_stalls_and_every_connect_is_still_tried(
    first_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_module, "Server", Deaf)
    monkeypatch.setattr(hold_module, "QUIET_SECONDS", 1.2)
    monkeypatch.setattr(client_module, "_WINDOW", 32)
    monkeypatch.setattr(client_module, "_BATCH", 16)
    result, _ = run(HoldRequest(400, 20.0, 1, first_port=first_port))
    client = result["clients"][0]
    assert result["ended"] == "no-movement"
    assert result["progress"]["attempted"] == 400
    assert result["progress"]["accepted"] == 0
    assert client["pending"] == client["stalled"]["examined"] > 300
    assert client["stalled"]["syn_retransmitted"] > 300
    assert dict(client["runs"]).keys() <= {"held", "stalled"}


def test_the_deadline_ends_a_load_that_still_waits(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_module, "Server", Deaf)
    result, _ = run(HoldRequest(100, 0.3, 1, first_port=first_port))
    assert result["ended"] == "deadline"
    assert result["seconds"] < 5


def test_connections_that_the_other_side_closed_are_lost(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rude(Server):
        def progress(self) -> dict[str, Any]:
            if self.accepted == 120 and len(self._held) == 120:
                for _ in range(10):
                    os.close(self._held.pop())
            return super().progress()

    monkeypatch.setattr(hold_module, "Server", Rude)
    result, _ = run(HoldRequest(120, 20.0, 1, first_port=first_port))
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
    monkeypatch.setattr("lab.guest.sampler.Sampler", ScriptedSampler)
    monkeypatch.setattr(hold_module, "Server", Deaf)
    monkeypatch.setattr(hold_module, "FULL_SECONDS", 0.2)
    monkeypatch.setattr(hold_module, "QUIET_SECONDS", 0.4)
    result, samples = run(HoldRequest(60, 20.0, 1, first_port=first_port))
    assert result["ended"] == ended
    assert samples[0]["count"] == script[0][0]


def test_a_bug_in_a_callback_ends_the_load(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Client):
        def tick(self) -> None:
            raise RuntimeError("boom")

    monkeypatch.setattr(hold_module, "Client", Broken)
    monkeypatch.setattr(hold_module, "Server", Deaf)
    with pytest.raises(HoldError, match="client 0: RuntimeError: boom"):
        run(HoldRequest(60, 20.0, 1, first_port=first_port))


def test_a_worker_that_vanishes_ends_the_load(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Vanishing(Client):
        def start(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(hold_module, "Client", Vanishing)
    with pytest.raises(HoldError, match="client 0: ended without a word"):
        run(HoldRequest(60, 20.0, 1, first_port=first_port))


def test_workers_that_say_nothing_are_not_waited_for(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(Server):
        def __init__(self, *_: Any) -> None:
            signal.pause()

    monkeypatch.setattr(hold_module, "Server", Stuck)
    monkeypatch.setattr(hold_module, "START_SECONDS", 0.3)
    with pytest.raises(HoldError, match=r"gave no answer for 0\.3 s"):
        run(HoldRequest(60, 20.0, 1, first_port=first_port))


def test_a_port_in_use_is_named(first_port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", first_port))
        other.listen()
        with pytest.raises(HoldError, match=f"cannot listen on 127.0.0.1:{first_port}: Address already in use"):
            run(HoldRequest(60, 20.0, 1, first_port=first_port))


def test_an_interrupt_of_the_coordinator_leaves_no_process(first_port: int) -> None:
    def interrupt(_: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    hold = Hold(HoldRequest(60, 20.0, 1, first_port=first_port), interrupt)
    with pytest.raises(KeyboardInterrupt):
        hold.run()
    assert_no_child()


@pytest.mark.parametrize(
    ("connections", "descriptors", "message"),
    [(0, 1000, "0 connections"), (10, 20, "hold no connection")],
)
def test_what_cannot_be_spread_is_no_load(
    monkeypatch: pytest.MonkeyPatch, connections: int, descriptors: int, message: str
) -> None:
    monkeypatch.setattr(hold_module, "fd_limit", lambda: descriptors)
    with pytest.raises(HoldError, match=message):
        run(HoldRequest(connections, 1.0))


def test_an_unreadable_port_range_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_module, "read_text", lambda _: (None, "EACCES", False))
    with pytest.raises(HoldError, match="EACCES"):
        run(HoldRequest(10, 1.0))


def test_a_loop_that_is_not_installed_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(HoldError, match="uvloop"):
        Hold(HoldRequest(10, 1.0, loop="uvloop"), print)


def test_by_hand(first_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert hold_module.main(["--connections", "20", "--processes", "1", "--first-port", str(first_port)]) == 0
    assert json.loads(capsys.readouterr().out)["ended"] == "all-held"
    assert hold_module.main(["--connections", "0"]) == 1
    assert "0 connections" in capsys.readouterr().err


def test_connections_are_accepted_while_others_still_come(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_ACCEPTS_PER_DRAIN", 3)
    result, _ = run(HoldRequest(300, 20.0, 1, first_port=first_port))
    assert result["ended"] == "all-held"
