"""The agent over a socket pair: what it answers, and that nothing a host sends ends it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.guest import PROTOCOL_VERSION, agent, channel, kernel_log, loader, machine, observe
from lab.guest.agent import Agent
from lab.guest.channel import Channel
from lab.guest.load import LoadError, LoadRequest

TIMEOUT_SECONDS = 20.0


class Closed(Exception):
    """The host has gone: a real agent waits for the next, a test's ends."""


class EndingChannel(Channel):
    def receive(self) -> dict[str, Any] | None:
        message = super().receive()
        if message is None:
            raise Closed
        return message


class Host:
    """The host's end: sends lines, reads messages."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = sock.makefile("rb")

    def send(self, line: bytes) -> None:
        self._sock.sendall(line + b"\n")

    def message(self) -> dict[str, Any]:
        message = json.loads(self._lines.readline())
        assert isinstance(message, dict)
        return message

    def call(self, op: str, **arguments: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The answer to a request, and the events before it."""
        self.send(json.dumps({"id": "r1", "op": op, **arguments}).encode("ascii"))
        events: list[dict[str, Any]] = []
        while True:
            message = self.message()
            assert message["id"] == "r1"
            if "event" not in message:
                return message, events
            events.append(message)

    def close(self) -> None:
        self._lines.close()
        self._sock.close()


@pytest.fixture
def host() -> Iterator[Host]:
    ours, theirs = socket.socketpair()
    ours.settimeout(TIMEOUT_SECONDS)

    def serve() -> None:
        with theirs, pytest.raises(Closed):
            Agent(["lo: EPERM"]).serve(EndingChannel(theirs.fileno(), theirs.fileno()))

    thread = threading.Thread(target=serve)
    thread.start()
    host = Host(ours)
    yield host
    host.close()
    thread.join(TIMEOUT_SECONDS)
    assert not thread.is_alive()


def test_hello(host: Host) -> None:
    answer, _ = host.call("hello")
    assert answer["ok"] is True
    assert answer["result"]["protocol"] == PROTOCOL_VERSION
    assert answer["result"]["problems"] == ["lo: EPERM"]


@pytest.mark.parametrize("op", ["reboot", None, 7, ["hello"], {"a": 1}, "_hello", "x" * 1000])
def test_an_unknown_operation_is_named(host: Host, op: Any) -> None:
    host.send(json.dumps({"id": 1, "op": op}).encode())
    answer = host.message()
    assert (answer["id"], answer["ok"]) == (1, False)
    assert "no such operation" in answer["error"]
    assert len(answer["error"]) < 200
    assert host.call("hello")[0]["ok"] is True


@pytest.mark.parametrize("line", [b"no json", b"[]", b"", b"\xff", b"{}"])
def test_a_malformed_request_is_answered_and_survived(host: Host, line: bytes) -> None:
    host.send(line)
    answer = host.message()
    assert (answer["id"], answer["ok"]) == (None, False)
    assert host.call("hello")[0]["ok"] is True


def test_an_oversized_request_is_survived(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_REQUEST_BYTES", 1000)
    host.send(b"x" * 200_000)
    assert "longer than 1000 bytes" in host.message()["error"]
    assert host.call("hello")[0]["ok"] is True


@pytest.mark.parametrize(
    ("op", "arguments"),
    [("apply", {}), ("apply", {"steps": [{"kind": "dance"}]}), ("set", {"values": 3}), ("load", {}), ("begin", {})],
)
def test_a_request_that_lacks_something_is_answered_with_where(host: Host, op: str, arguments: Any) -> None:
    answer, events = host.call(op, **arguments)
    assert (answer["ok"], events) == (False, [])
    assert answer["traceback"]
    assert host.call("hello")[0]["ok"] is True


def test_steps_come_as_events(host: Host) -> None:
    steps = [{"kind": "run", "argv": ["echo", "one"]}, {"kind": "run", "argv": ["false"]}, {"kind": "run"}]
    answer, events = host.call("apply", steps=steps)
    assert answer["result"] == {"reached": False}
    assert [(event["event"], event["number"], event["exit_status"]) for event in events] == [
        ("step", 0, 0),
        ("step", 1, 1),
    ]


def test_settings(host: Host, tmp_path: Path) -> None:
    (tmp_path / "max").write_text("5\n")
    answer, _ = host.call("set", values={str(tmp_path / "max"): 100})
    assert answer["result"][str(tmp_path / "max")]["after"] == "100"


def test_evidence_comes_as_events(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loader, "LOADER_PATH", str(tmp_path / "modprobe"))
    monkeypatch.setattr(observe, "run_command", lambda *_: None)
    monkeypatch.setattr(observe, "COMMANDS", ())
    answer, events = host.call("observe")
    assert answer["result"] == {}
    assert {event["event"] for event in events} == {"evidence"}
    assert [events[0]["name"], events[-1]["name"]] == ["modules", "modules_after"]


def test_the_kernels_log(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert host.call("kernel_log")[0]["result"] == {"text": None, "overwritten": None}
    (tmp_path / "kmsg").write_text("")
    monkeypatch.setattr(kernel_log, "KMSG", str(tmp_path / "kmsg"))
    for _ in range(2):  # the second place replaces the first
        assert host.call("begin", marker="cell a begins")[0]["result"] == {}
    assert host.call("kernel_log")[0]["result"] == {"text": "", "overwritten": 0, "truncated": False}


class FakeLoad:
    """A load that ends at once, and remembers what was asked of it."""

    made: list[FakeLoad]

    def __init__(self, request: LoadRequest, on_sample: Any) -> None:
        self.request, self.on_sample, self.released = request, on_sample, False
        FakeLoad.made.append(self)

    def run(self) -> dict[str, Any]:
        if self.request.connections < 1:
            raise LoadError("no connection")
        self.on_sample({"seconds": 0.0, "held": 1})
        return {"ended": "all-held"}

    def crash(self) -> str | None:
        return "pair 0: ended without a word"

    def release(self) -> None:
        self.released = True


@pytest.fixture
def fake_load(monkeypatch: pytest.MonkeyPatch) -> type[FakeLoad]:
    FakeLoad.made = []
    monkeypatch.setattr(agent, "Load", FakeLoad)
    return FakeLoad


def test_a_load_goes_on_holding_until_it_is_released(host: Host, fake_load: type[FakeLoad]) -> None:
    answer, events = host.call("load", connections=5, load_seconds=9.0, loop="uvloop", processes=3)
    assert answer["result"] == {"ended": "all-held"}
    assert [(event["event"], event["held"]) for event in events] == [("sample", 1)]
    assert fake_load.made[0].request == LoadRequest(5, 9.0, processes=3, loop="uvloop")
    assert released(fake_load) == [False]
    host.call("load", connections=6, load_seconds=9.0)  # a second load ends the first
    assert released(fake_load) == [True, False]
    for _ in range(2):
        assert host.call("release")[0]["result"] == {}
    assert released(fake_load) == [True, True]


def released(loads: type[FakeLoad]) -> list[bool]:
    return [made.released for made in loads.made]


LOAD_OPTIONS: dict[str, Any] = {
    "kind": "churn",
    "rate_per_second": 500,
    "hold_seconds": 0.5,
    "close": "reset",
    "newcomers": 7,
    "answered": True,
    "data": True,
    "during": [{"kind": "run", "argv": ["true"]}],
    "path": "forward",
    "family": "both",
    "processes": 3,
    "loop": "uvloop",
}


def test_a_load_takes_every_option_and_null_means_the_default(host: Host, fake_load: type[FakeLoad]) -> None:
    host.call("load", connections=5, load_seconds=9.0, **LOAD_OPTIONS)
    host.call("load", connections=5, load_seconds=9.0, **dict.fromkeys(LOAD_OPTIONS))
    host.call("load", connections=5, load_seconds=9.0)
    expected: Any = LoadRequest(5, 9.0, **LOAD_OPTIONS)
    assert [made.request for made in fake_load.made] == [expected, LoadRequest(5, 9.0), LoadRequest(5, 9.0)]


def test_what_a_worker_died_of_while_it_held_can_be_asked(host: Host, fake_load: type[FakeLoad]) -> None:
    assert host.call("check")[0]["result"] == {"crash": None}
    host.call("load", connections=5, load_seconds=9.0)
    assert host.call("check")[0]["result"] == {"crash": "pair 0: ended without a word"}
    host.call("release")
    assert host.call("check")[0]["result"] == {"crash": None}


def test_a_load_that_cannot_be_driven_is_a_result(host: Host, fake_load: type[FakeLoad]) -> None:
    answer, _ = host.call("load", connections=0, load_seconds=9.0)
    assert answer["result"] == {"ended": "not-driven", "error": "no connection"}
    assert host.call("release")[0]["result"] == {}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"kind": "dance"}, "no such kind: 'dance'"),
        ({"kind": "churn", "close": 7}, "no such close: 7"),
        ({"kind": "udp", "path": "ring"}, "no such path: 'ring'"),
    ],
)
def test_a_load_of_no_known_kind_is_a_result(host: Host, options: dict[str, Any], error: str) -> None:
    answer, events = host.call("load", connections=10, load_seconds=9.0, **options)
    assert answer["result"]["ended"] == "not-driven"
    assert error in answer["result"]["error"]
    assert events == []
    assert host.call("check")[0]["result"] == {"crash": None}


def test_a_machine_without_the_shells_port_says_so(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(channel, "VIRTIO_PORTS", str(tmp_path))
    answer, _ = host.call("shell", rows=24, columns=80, terminal="dumb")
    assert "has no port" in answer["error"]


def test_an_agent_without_a_channel_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "prepare", list)
    monkeypatch.setattr(agent, "_PORT_SECONDS", 0.05)
    monkeypatch.setattr(channel, "VIRTIO_PORTS", str(tmp_path))
    assert agent.main() == 1
    assert "no virtio-serial port" in capsys.readouterr().err


def test_a_long_text_comes_in_parts(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "long"
    parts = ["first é\n" * 1000, "second\n" * 1000]
    for part in parts:
        assert host.call("keep", key="state[0]", text=part)[0]["ok"] is True
    steps = [{"key": "state[0]", "kind": "file", "path": str(path), "text": ""}]
    assert host.call("apply", steps=steps)[0]["result"] == {"reached": True}
    assert path.read_text(encoding="utf-8") == "".join(parts)
    assert host.call("apply", steps=steps)[0]["result"] == {"reached": True}
    assert path.read_text() == "", "what was kept is used once"
