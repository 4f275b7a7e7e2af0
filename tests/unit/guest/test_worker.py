"""Worker processes and their links: messages whole, deaths noticed, nothing inherited, nothing left."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.guest.worker import Link, Message, Worker, end_all, first_crash, new_loop


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = new_loop("asyncio")
    yield loop
    loop.close()


@pytest.fixture
def start() -> Iterator[Callable[[Callable[[Link], None]], Worker]]:
    workers: list[Worker] = []

    def start_one(body: Callable[[Link], None]) -> Worker:
        workers.append(Worker(f"worker {len(workers)}", body))
        return workers[-1]

    yield start_one
    end_all(workers)
    assert workers == []


StartWorker = Callable[[Callable[[Link], None]], Worker]


def messages(loop: asyncio.AbstractEventLoop, worker: Worker, until: Callable[[list[Message]], bool]) -> list[Message]:
    """What a worker says, the end of its stream as an empty message."""
    seen: list[Message] = []

    def record(message: Message) -> None:
        seen.append(message)
        worker.latest.update(message)
        if until(seen):
            loop.stop()

    worker.link.attach(loop, record)
    timer = loop.call_later(10, loop.stop)
    loop.run_forever()
    timer.cancel()
    worker.link.detach(loop)
    return seen


def ended(seen: list[Message]) -> bool:
    return not seen[-1]


def test_what_it_says_arrives_whole_and_in_order(loop: asyncio.AbstractEventLoop, start: StartWorker) -> None:
    def body(link: Link) -> None:
        for number in range(100):
            link.send({"number": number, "text": "é\n" * 2000})

    seen = messages(loop, start(body), ended)
    assert seen == [*({"number": number, "text": "é\n" * 2000} for number in range(100)), {}]


def test_what_it_died_of(loop: asyncio.AbstractEventLoop, start: StartWorker) -> None:
    def body(_: Link) -> None:
        raise ValueError("two\nlines")

    worker = start(body)
    assert first_crash([worker]) is None
    messages(loop, worker, ended)
    assert first_crash([worker]) == "worker 0: ValueError: two\nlines"


def test_one_that_says_why_comes_before_one_that_only_went_away(
    loop: asyncio.AbstractEventLoop, start: StartWorker
) -> None:
    def crash(_: Link) -> None:
        raise ValueError("why")

    silent, loud = start(lambda _: os.kill(os.getpid(), signal.SIGKILL)), start(crash)
    for worker in (silent, loud):
        messages(loop, worker, ended)
    assert first_crash([silent]) == "worker 0: ended without a word"
    assert first_crash([silent, loud]) == "worker 1: ValueError: why"


def test_a_message_to_one_that_is_gone_is_dropped(loop: asyncio.AbstractEventLoop, start: StartWorker) -> None:
    worker = start(lambda _: None)
    assert messages(loop, worker, ended) == [{}]
    worker.link.closed = False
    for _ in range(500):  # its two pipes close one after the other
        worker.link.send({"go": True})
        if worker.link.closed:
            break
        time.sleep(0.01)
    assert worker.link.closed


def test_it_inherits_nothing_but_its_link(loop: asyncio.AbstractEventLoop, start: StartWorker) -> None:
    def body(link: Link) -> None:
        with os.scandir("/proc/self/fd") as entries:
            names = sorted(int(entry.name) for entry in entries)
        link.send({"fds": [fd for fd in names if fd > 2], "link": [link.read_fd]})

    read_fd, write_fd = os.pipe()
    high = os.dup2(read_fd, 15000)
    try:
        first = start(lambda link: signal.pause())
        (answer, _) = messages(loop, start(body), ended)
    finally:
        for fd in (read_fd, write_fd, high):
            os.close(fd)
    assert first.link.read_fd not in answer["fds"] or first.link.read_fd in answer["link"]
    assert len(answer["fds"]) == 3  # two of the link, one of the listing
    assert 15000 not in answer["fds"]


def test_an_interrupt_is_for_the_coordinator(loop: asyncio.AbstractEventLoop, start: StartWorker) -> None:
    def body(link: Link) -> None:
        link.send({"ready": True})
        os.read(link.read_fd, 100)
        link.send({"alive": True})

    worker = start(body)
    messages(loop, worker, lambda seen: "ready" in seen[-1])
    os.kill(worker.pid, signal.SIGINT)
    worker.link.send({"go": True})
    assert {"alive": True} in messages(loop, worker, ended)


def test_the_end_of_the_coordinator_reaches_the_worker(start: StartWorker) -> None:
    def body(link: Link) -> None:
        loop = new_loop("asyncio")
        link.attach(loop, lambda message: None if message else loop.stop())
        loop.run_forever()

    worker = start(body)
    os.close(worker.link._write_fd)
    try:
        ready, _, _ = select.select([worker.link.read_fd], [], [], 10)
        assert ready
        assert os.read(worker.link.read_fd, 10) == b""
    finally:
        worker.link._write_fd = os.open("/dev/null", os.O_WRONLY)


def test_end_kills_and_reaps_one_that_does_not_listen() -> None:
    worker = Worker("stuck", lambda _: signal.pause())
    started = time.monotonic()
    end_all([worker])
    assert time.monotonic() - started < 5
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


def test_a_link_reads_what_comes_in_pieces(loop: asyncio.AbstractEventLoop) -> None:
    read_fd, write_fd = os.pipe()
    link = Link(read_fd, write_fd)
    seen: list[Any] = []
    link.attach(loop, seen.append)
    try:
        data = json.dumps({"a": 1}).encode() + b"\n" + json.dumps({"b": 2}).encode() + b"\n"
        for byte in data:
            os.write(write_fd, bytes([byte]))
            link._read(loop, seen.append)
        link._read(loop, seen.append)  # nothing there: no harm
    finally:
        link.detach(loop)
        link.close()
    assert seen == [{"a": 1}, {"b": 2}]
