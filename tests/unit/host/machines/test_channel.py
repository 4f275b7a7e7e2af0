"""The host's end of the channel, against a peer that does whatever a broken or hostile guest could."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from lab.core.errors import GuestLost
from lab.core.plan import PlannedStep
from lab.core.scenario import FileStep
from lab.guest.channel import MAX_REQUEST_BYTES
from lab.host.machines import channel as channel_module
from lab.host.machines.channel import MAX_DEPTH, MAX_LINE_BYTES, AgentChannel, parse_message
from lab.host.machines.machine import AgentError, Event
from lab.host.machines.playback import ReplayMachine, recorded_plan
from lab.host.options import Deadlines
from lab.host.results.recording import Recording
from lab.host.run.recording import record
from tests.recordings import GOLDEN

pytestmark = pytest.mark.asyncio

CELL = GOLDEN / "cells" / "pristine@debian12"
SMALL_LINE = 4096
SECONDS = 5.0

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def talking_to(peer: Peer, limit: int = SMALL_LINE) -> AsyncIterator[AgentChannel]:
    """A channel whose other end is `peer`, with the limit of a line that StreamReader is given."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=limit)
    peer_reader, peer_writer = await asyncio.open_unix_connection(sock=theirs, limit=MAX_LINE_BYTES)
    task = asyncio.create_task(run_peer(peer, peer_reader, peer_writer))
    channel = AgentChannel(reader, writer)
    try:
        yield channel
    finally:
        channel.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        peer_writer.close()
        await asyncio.sleep(0)  # transports close in the next turn


async def run_peer(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await peer(reader, writer)
    await asyncio.Event().wait()  # what hangs up says so


def saying(*lines: bytes, hang_up: bool = False) -> Peer:
    """A peer that answers a request with these lines; ID in them is the request's."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_id = json.loads(await reader.readline())["id"].encode()
        for line in lines:
            writer.write(line.replace(b"ID", b'"' + request_id + b'"'))
        await writer.drain()
        if hang_up:
            writer.close()

    return peer


async def call(peer: Peer, events: list[Event] | None = None, seconds: float = SECONDS) -> Mapping[str, Any]:
    async with talking_to(peer) as channel:
        on_event = None if events is None else events.append
        return await channel.call("probe", deadline_seconds=seconds, on_event=on_event, number=7)


DONE = b'{"id": ID, "ok": true, "result": {"a": 1}}\n'


async def test_events_and_then_the_result() -> None:
    events: list[Event] = []
    result = await call(saying(b'{"id": ID, "event": "sample", "n": 1}\n', DONE), events)
    assert result == {"a": 1}
    assert [(event["event"], event["n"]) for event in events] == [("sample", 1)]


async def test_events_that_nobody_asked_for_are_passed_over() -> None:
    assert await call(saying(b'{"id": ID, "event": "x"}\n', DONE)) == {"a": 1}


async def test_a_request_is_one_line_with_its_arguments() -> None:
    seen: list[dict[str, Any]] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            seen.append(json.loads(await reader.readline()))
            writer.write(DONE.replace(b"ID", json.dumps(seen[-1]["id"]).encode()))

    async with talking_to(peer) as channel:
        for text in ("a\nb", "\u2028\ud83d\ude00"):
            await channel.call("apply", deadline_seconds=SECONDS, text=text)
    assert [(one["op"], one["text"]) for one in seen] == [("apply", "a\nb"), ("apply", "\u2028\U0001f600")]
    assert seen[0]["id"] != seen[1]["id"]


GARBAGE = {
    "bytes": b"\x00\xff\xfe\x80garbage\n",
    "no JSON": b"Kernel panic - not syncing\n",
    "an empty line": b"\n",
    "half a message": b'{"id": ID, "ok": true, "result"\n',
    "two messages in a line": b'{"id": ID, "ok": true, "result": {}} {}\n',
    "no object": b"[1, 2]\n",
    "a number": b"7\n",
    "NaN": b'{"id": ID, "event": "sample", "seconds": NaN}\n',
    "Infinity": b'{"id": ID, "ok": true, "result": {"a": -Infinity}}\n',
    "an infinite number": b'{"id": ID, "ok": true, "result": {"a": 1e999}}\n',
    "an enormous number": b'{"id": ID, "ok": true, "result": {"a": ' + b"9" * 3000 + b"9" * 1500 + b"}}\n",
    "half a character": b'{"id": ID, "ok": true, "result": {"a": "\\ud800"}}\n',
    "half a character in a name": b'{"id": ID, "ok": true, "result": {"\\udc80": 1}}\n',
    "not ASCII": b'{"id": ID, "ok": true, "result": {"a": "\xc3\xa9"}}\n',
    "deep nesting": b'{"id": ID, "ok": true, "result": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}\n",
    "nesting without an end": b"[" * 4000 + b"\n",
    "a foreign id": b'{"id": "0123456789abcdef", "ok": true, "result": {}}\n',
    "no id": b'{"ok": true, "result": {}}\n',
    "an id of another kind": b'{"id": [ID], "ok": true, "result": {}}\n',
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_is_a_lost_guest(name: str) -> None:
    with pytest.raises(GuestLost) as caught:
        await call(saying(GARBAGE[name], DONE))
    assert not isinstance(caught.value, AgentError)
    assert len(str(caught.value)) < 400, "garbage is quoted, not repeated"


async def test_the_depth_of_a_real_result_is_allowed() -> None:
    line = b'{"id": "x", "a": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    assert parse_message(line, "x")["id"] == "x"


async def test_an_answer_of_the_last_request_is_no_answer_of_this() -> None:
    """An id cannot be guessed, and that of an earlier request has no meaning any more."""
    ids: list[str] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            ids.append(json.loads(await reader.readline())["id"])
            writer.write(DONE.replace(b"ID", json.dumps(ids[0]).encode()))

    async with talking_to(peer) as channel:
        await channel.call("first", deadline_seconds=SECONDS)
        with pytest.raises(GuestLost, match="belongs to no request of this cell"):
            await channel.call("second", deadline_seconds=SECONDS)


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": ID, "ok": false, "error": "OSError: no such file"}\n',
        b'{"id": ID, "ok": true, "result": null}\n',
        b'{"id": ID, "ok": true, "result": [1]}\n',
        b'{"id": ID, "ok": "true", "result": {}}\n',
        b'{"id": ID}\n',
    ],
)
async def test_a_failed_operation_is_an_error_of_the_agent(line: bytes) -> None:
    with pytest.raises(AgentError, match="`probe` failed in the guest"):
        await call(saying(line))


async def test_a_long_error_is_cut() -> None:
    with pytest.raises(AgentError) as caught:
        await call(saying(b'{"id": ID, "ok": false, "error": "' + b"x" * 3000 + b'"}\n'))
    assert len(str(caught.value)) < 600


async def test_a_line_without_an_end_is_given_up_at_the_limit() -> None:
    """100 MB as the guest sends them; the host never holds more than it allowed itself."""
    sent = 0

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readline()
        for _ in range(1600):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    with pytest.raises(GuestLost, match="a line of more than"):
        await call(peer)
    assert sent < 10 * 1024 * 1024


async def test_endless_events_are_given_up_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "MAX_REPLY_BYTES", 100_000)

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_id = json.loads(await reader.readline())["id"]
        event = json.dumps({"id": request_id, "event": "sample", "text": "x" * 1000}).encode() + b"\n"
        while True:
            writer.write(event)
            await writer.drain()

    events: list[Event] = []
    with pytest.raises(GuestLost, match="sent more than 100000 bytes"):
        await call(peer, events)
    assert len(events) < 100


async def test_a_guest_that_hangs_up() -> None:
    with pytest.raises(GuestLost, match="went away during `probe`"):
        await call(saying(hang_up=True))


async def test_a_guest_that_hangs_up_in_the_middle_of_a_line() -> None:
    with pytest.raises(GuestLost, match="went away during `probe`"):
        await call(saying(b'{"id": ID, "ok": true, "result": {}}', hang_up=True))


async def test_silence_ends_at_the_deadline() -> None:
    with pytest.raises(GuestLost, match=r"no end of `probe` within 0\.05 s"):
        await call(saying(), seconds=0.05)


async def test_events_do_not_put_the_deadline_off() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_id = json.loads(await reader.readline())["id"]
        while True:
            writer.write(json.dumps({"id": request_id, "event": "step"}).encode() + b"\n")
            await asyncio.sleep(0.005)

    with pytest.raises(GuestLost, match="no end of"):
        await call(peer, seconds=0.1)


async def test_a_guest_that_reads_nothing_is_given_up_at_the_deadline() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with talking_to(peer) as channel:
        with pytest.raises(GuestLost, match="no end of `apply`"):
            await channel.call("apply", deadline_seconds=0.1, text="x" * 32 * 1024 * 1024)


# -- what the recorder makes of well-formed lies ----------------------------------------------------------------------


class LyingMachine(ReplayMachine):
    """A recorded machine that sends other evidence."""

    def __init__(self, operation: str, event: Event, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(CELL)
        self._lie = (operation, event, result)

    async def call(self, operation: str, *, deadline_seconds: float, on_event: Any = None, **arguments: Any) -> Any:
        lied_about, event, result = self._lie
        if operation == lied_about:
            if on_event is not None:
                on_event(event)
            if result is not None:
                return result
        return await super().call(operation, deadline_seconds=deadline_seconds, on_event=on_event, **arguments)


async def recorded(machine: LyingMachine) -> Recording:
    recording = Recording()
    await record(machine, recorded_plan(CELL), Deadlines(), recording, lambda seen: None)
    return recording


@pytest.mark.parametrize(
    "name", ["../../../../tmp/x", "/etc/passwd", "modules/../x", "", ".", None, 7, ["modules"], {}]
)
async def test_evidence_of_an_unknown_name_is_a_lost_guest(name: Any) -> None:
    with pytest.raises(GuestLost, match="evidence of an unknown name"):
        await recorded(LyingMachine("observe", {"event": "evidence", "name": name, "text": "x"}))


async def test_an_agent_of_another_protocol_is_a_lost_guest() -> None:
    with pytest.raises(GuestLost, match="speaks protocol 99"):
        await recorded(LyingMachine("hello", {}, {"protocol": 99}))


async def test_a_kernel_log_that_is_no_text_is_a_lost_guest() -> None:
    with pytest.raises(GuestLost, match="text that is no text"):
        await recorded(LyingMachine("kernel_log", {}, {"text": ["a", "b"]}))


async def test_samples_without_an_end_are_a_lost_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.host.run.recording.MAX_SAMPLES", 5)
    with pytest.raises(GuestLost, match="more than 5 samples"):
        await recorded(LyingMachine("none", {}))


@pytest.mark.parametrize("value", [None, 7, "x", [], {}])
async def test_samples_of_any_shape_reach_the_evidence_not_a_traceback(value: Any) -> None:
    sample = dict.fromkeys(("held", "count", "max", "stat", "seconds"), value)
    recording = await recorded(LyingMachine("load", {"event": "sample", **sample}))
    assert json.loads(recording.samples[0])["stat"] == value


@pytest.mark.parametrize("reached", [None, "yes", 1, [True]])
async def test_a_state_is_reached_only_when_the_guest_says_so(reached: Any) -> None:
    recording = await recorded(LyingMachine("apply", {"event": "step"}, {"reached": reached}))
    assert (recording.reached, recording.load) == (False, None)


async def test_a_long_text_of_a_step_goes_in_parts() -> None:
    sent: list[tuple[str, Mapping[str, Any]]] = []

    class Listening(ReplayMachine):
        async def call(self, operation: str, *, deadline_seconds: float, on_event: Any = None, **arguments: Any) -> Any:
            sent.append((operation, arguments))
            return await super().call(operation, deadline_seconds=deadline_seconds, on_event=on_event, **arguments)

    text = "é\U0001f600" * 200_000
    plan = recorded_plan(CELL)
    plan = replace(plan, steps=(PlannedStep("state[0]", FileStep("/x", text)), *plan.steps))
    await record(Listening(CELL), plan, Deadlines(), Recording(), lambda seen: None)
    parts = [arguments for operation, arguments in sent if operation == "keep"]
    assert "".join(part["text"] for part in parts) == text
    assert all(part["key"] == "state[0]" and len(json.dumps(part)) < MAX_REQUEST_BYTES for part in parts)
    (steps,) = (arguments["steps"] for operation, arguments in sent if operation == "apply")
    assert steps[0] == {"key": "state[0]", "kind": "file", "path": "/x", "text": ""}
