"""JSON lines over a descriptor: whole messages from pieces, bounds, and going on after garbage."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.guest import channel as channel_module
from lab.guest.channel import Channel, Reply, find_port


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Channel]]:
    host, guest = socket.socketpair()
    with host, guest:
        host.settimeout(10)
        yield host, Channel(guest.fileno(), guest.fileno())


Pair = tuple[socket.socket, Channel]


def test_two_messages_in_one_read(pair: Pair) -> None:
    host, channel = pair
    host.sendall(b'{"id": 1}\n{"id": 2}\n')
    assert [channel.receive(), channel.receive()] == [{"id": 1}, {"id": 2}]


@given(
    messages=st.lists(st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3), max_size=4),
    piece=st.integers(16, 64),
)
def test_messages_are_whole_however_they_are_cut(messages: list[dict[str, str]], piece: int) -> None:
    data = b"".join(json.dumps(message).encode("ascii") + b"\n" for message in messages)
    host, guest = socket.socketpair(type=socket.SOCK_SEQPACKET)  # one read gives one piece
    with host, guest:
        for start in range(0, len(data), piece):
            host.send(data[start : start + piece])
        channel = Channel(guest.fileno(), guest.fileno())
        assert [channel.receive() for _ in messages] == messages


def test_a_line_that_takes_many_reads(pair: Pair) -> None:
    host, channel = pair
    message = {"text": "x" * 1_000_000}
    sender = threading.Thread(target=host.sendall, args=(json.dumps(message).encode() + b"\n",))
    sender.start()
    assert channel.receive() == message
    sender.join(10)


def test_the_end_of_the_other_side_forgets_what_it_left_unfinished() -> None:
    read_fd, write_fd = os.pipe()
    try:
        os.write(write_fd, b'{"id": ')
        os.close(write_fd)
        channel = Channel(read_fd, read_fd)
        assert channel.receive() is None
        assert channel._pending == b""
    finally:
        os.close(read_fd)


@pytest.mark.parametrize(
    "line",
    [b"no json", b"[1]", b"", b"\xff\xfe", b'"text"', b"[" * 100_000],
    ids=["words", "list", "empty", "bytes", "text", "deep"],
)
def test_garbage_is_an_error_of_its_line_only(pair: Pair, line: bytes) -> None:
    host, channel = pair
    sender = threading.Thread(target=host.sendall, args=(line + b'\n{"id": 1}\n',))
    sender.start()
    with pytest.raises(ValueError):
        channel.receive()
    assert channel.receive() == {"id": 1}
    sender.join(10)


@pytest.mark.parametrize("size", [1001, 70_000, 300_000])
def test_a_request_past_the_bound_is_dropped_whole(pair: Pair, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(channel_module, "MAX_REQUEST_BYTES", 1000)
    host, channel = pair
    sender = threading.Thread(target=host.sendall, args=(b"x" * size + b'\n{"id": 1}\n',))
    sender.start()
    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        channel.receive()
    assert channel.receive() == {"id": 1}
    sender.join(10)


def test_a_large_message_is_sent_whole(pair: Pair) -> None:
    host, channel = pair
    received: list[bytes] = []

    def read() -> None:
        while not received or not received[-1].endswith(b"\n"):
            received.append(host.recv(65536))

    reader = threading.Thread(target=read)
    reader.start()
    channel.send({"text": "é" * 500_000})
    reader.join(10)
    assert json.loads(b"".join(received)) == {"text": "é" * 500_000}


def test_answers_carry_the_id_of_their_request(pair: Pair) -> None:
    host, channel = pair
    reply = Reply(channel, "abc")
    reply.event("sample", count="1\n", id="another", event="other")
    reply.done({"a": 1})
    reply.failed("ValueError: no", ["line"])
    lines = host.recv(65536).decode("ascii").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": "abc", "event": "sample", "count": "1\n"},
        {"id": "abc", "ok": True, "result": {"a": 1}},
        {"id": "abc", "ok": False, "error": "ValueError: no", "traceback": ["line"]},
    ]


def test_ports_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "VIRTIO_PORTS", str(tmp_path / "ports"))
    assert find_port("org.lab") is None
    for port, name in (("vport0p1", "org.other\n"), ("vport0p2", "org.lab\n")):
        (tmp_path / "ports" / port).mkdir(parents=True)
        (tmp_path / "ports" / port / "name").write_text(name)
    (tmp_path / "ports" / "vport0p0").mkdir()
    assert find_port("org.lab") == "/dev/vport0p2"
    assert find_port("org.none") is None
