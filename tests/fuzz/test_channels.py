"""The guest's end of the channel: whatever bytes come, in whatever pieces, each line is a request or a ValueError."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lab.guest.channel import Channel
from tests.fuzz.bounds import bounded
from tests.fuzz.edits import values

lines = st.one_of(
    st.binary(max_size=60).filter(lambda line: b"\n" not in line),
    st.dictionaries(st.text(max_size=8), values, max_size=4).map(lambda content: json.dumps(content).encode()),
    values.map(lambda value: json.dumps(value).encode()),
)


def received(data: bytes, pieces: list[int]) -> list[Any]:
    """What a channel makes of bytes that come in pieces of these sizes: requests, and None for what is none."""
    read_fd, write_fd = os.pipe()

    def write() -> None:
        rest = memoryview(data)
        for size in [*pieces, len(data)]:
            while rest[:size]:
                done = os.write(write_fd, rest[:size])
                rest, size = rest[done:], size - done
        os.close(write_fd)

    writer = threading.Thread(target=write)
    writer.start()
    found: list[Any] = []
    try:
        channel = Channel(read_fd, -1)
        while True:
            try:
                request = channel.receive()
            except ValueError:
                found.append(None)
                continue
            if request is None:
                return found
            found.append(request)
    finally:
        writer.join()
        os.close(read_fd)


@bounded(60)
@given(st.lists(lines, max_size=6), st.binary(max_size=20), st.lists(st.integers(1, 40), max_size=20))
def test_a_line_is_a_request_or_none_however_it_is_cut(sent: list[bytes], rest: bytes, pieces: list[int]) -> None:
    data = b"".join(line + b"\n" for line in sent) + rest.replace(b"\n", b"")
    found = received(data, pieces)
    assert len(found) == len(sent), "what is not ended is no request"
    assert json.dumps(found) == json.dumps(received(data, []))
    assert json.dumps(found) == json.dumps([as_request(line) for line in sent])


def as_request(line: bytes) -> Any:
    """A line that was sent, if it is a request."""
    try:
        content = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
