"""What worker processes do: each runs the parts it was given, a server, a client or both, in one loop."""

import asyncio
import os
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence

from lab.guest import namespaces
from lab.guest.accepts import Accepts
from lab.guest.asking import AnsweringServer, AskingClient, Questions
from lab.guest.churn import HALF, ChurnClient, ChurnServer
from lab.guest.client import Client
from lab.guest.engines import accepts, connects, sources_of
from lab.guest.flood import Flood, Receiver, Share
from lab.guest.packets import CountingReceiver
from lab.guest.paths import CLIENT, IPV4, SERVER
from lab.guest.server import Server
from lab.guest.spread import Shard
from lab.guest.states import addresses
from lab.guest.worker import TICK_SECONDS, Link, Message, new_loop

_TURNS_PER_BEAT = 10  # a worker of which nothing moves says so twice a second: it runs, it only has nothing to tell


class Part(NamedTuple):
    """One side of the load within a worker, by what is asked of it."""

    role: str  # CLIENT or SERVER, under which its counts are reported
    start: Callable[[], None]
    tick: Callable[[], None]
    progress: Callable[[], Message]
    outcome: Callable[[], Message]
    exchange: Callable[[], None] = lambda: None  # a byte there and back over each connection


Report = Callable[[], None]
Maker = Callable[[asyncio.AbstractEventLoop, Report], Part]


class Work(NamedTuple):
    """What a worker process is for."""

    name: str
    place: str  # CLIENT or SERVER
    makers: Sequence[Maker]  # called in the worker, before anything starts: to bind, not to open
    family: str = IPV4


class Churning(NamedTuple):
    """How connections come and go; see ChurnClient."""

    rate_per_second: float
    hold_seconds: float
    close: str


def holding_server(shard: Shard, gather_seconds: float) -> Maker:
    """Accepts a shard's connections and holds them."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        return _part(SERVER, Server(loop, shard.listen, shard.connections, report, gather_seconds, accepts(shard)))

    return make


def holding_client(shard: Shard, rate_per_second: float = 0.0) -> Maker:
    """Opens a shard's connections and holds them."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        return _part(CLIENT, Client(loop, shard.targets, report, rate_per_second, connects(shard)))

    return make


def churning_server(shard: Shard, gather_seconds: float, close: str) -> Maker:
    """Accepts a shard's connections and closes them after the client, unless they shall stay half closed."""
    if close == HALF:
        return holding_server(shard, gather_seconds)

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        server = ChurnServer(loop, shard.listen, shard.connections, report, gather_seconds, close, accepts(shard))
        return _part(SERVER, server)

    return make


def churning_client(shard: Shard, churning: Churning) -> Maker:
    """Opens a shard's connections and closes each after its time."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        return _part(CLIENT, ChurnClient(loop, shard.targets, report, *churning, connects=connects(shard)))

    return make


def answering_server(shard: Shard, gather_seconds: float) -> Maker:
    """Answers a shard's datagrams."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        own = Accepts(shard.own)
        return _part(SERVER, AnsweringServer(loop, shard.listen, shard.connections, report, gather_seconds, own))

    return make


def asking_client(shard: Shard, rate_per_second: float) -> Maker:
    """Asks by datagrams, one socket for each, and waits for the answers."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        questions = Questions(addresses(shard.targets), sources_of(shard))
        return _part(CLIENT, AskingClient(loop, shard.targets, report, rate_per_second, questions))

    return make


def flooding_client(kind: str, share: Share) -> Maker:
    """Sends a share of packets. Over loopback one that was sent counts as accepted, too: nobody counts it there."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        flood = Flood(loop, kind, share, report)

        def progress() -> Message:
            return dict(flood.progress(), accepted=flood.held if share.route is None else 0)

        return Part(CLIENT, flood.start, flood.tick, progress, flood.outcome)

    return make


def silent_receiver(kind: str, share: Share) -> Maker:
    """Swallows a share of packets, and counts nothing."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        receiver = Receiver(loop, kind, share.port)
        return Part(SERVER, receiver.start, _nothing, _no_counts, _no_counts)

    return make


def counting_receiver(kind: str, share: Share, address: str) -> Maker:
    """Swallows a share of packets, and counts them."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        receiver = CountingReceiver(kind, address, share.port)

        def progress() -> Message:
            return {"accepted": receiver.count(), "errors": {}}

        return Part(SERVER, _nothing, _nothing, progress, progress)

    return make


def body(work: Work, loop_kind: str, path: str) -> Callable[[Link], None]:
    """What a worker process runs; see worker.Worker."""

    def run(link: Link) -> None:
        namespaces.enter(path, work.place)
        loop = new_loop(loop_kind)
        parts: List[Part] = []

        def report() -> None:
            link.send(_progress(parts))

        parts.extend(make(loop, report) for make in work.makers)
        _Served(loop, link, parts).run()

    return run


def _part(role: str, side: Any) -> Part:
    return Part(role, side.start, side.tick, side.progress, side.outcome, side.exchange)


def _nothing() -> None:
    pass


def _no_counts() -> Message:
    return {"errors": {}}


def _progress(parts: Sequence[Part]) -> Message:
    return {part.role: part.progress() for part in parts}


def _each(calls: Iterator[Callable[[], None]]) -> None:
    for call in calls:
        call()


class _Served:
    """A worker's life: say ready, start at `go`, report at every tick until `finish`, hold until the link is closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, link: Link, parts: Sequence[Part]) -> None:
        self._loop, self._link, self._parts = loop, link, parts
        self._last = {}  # type: Message
        self._turns = 0
        self._finished = False
        self._problems = []  # type: List[BaseException]

    def run(self) -> None:
        """Return when the link is closed.

        Raises what a callback raised: a loop alone would log it and go on, and a bug would pass for a stalled load.
        """
        self._loop.set_exception_handler(self._on_problem)
        self._link.attach(self._loop, self._on_message)
        self._link.send({"ready": os.getpid()})
        self._loop.run_forever()
        if self._problems:
            raise self._problems[0]

    def _on_problem(self, _: asyncio.AbstractEventLoop, context: Dict[str, Any]) -> None:
        self._problems.append(context.get("exception") or RuntimeError(context["message"]))
        self._loop.stop()

    def _on_message(self, message: Message) -> None:
        if not message:
            self._loop.stop()
        elif "go" in message:
            _each(part.start for part in self._parts)
            self._loop.call_later(TICK_SECONDS, self._on_tick)
        elif "exchange" in message:
            _each(part.exchange for part in self._parts)
        elif "finish" in message:
            self._finished = True
            outcome = {part.role: part.outcome() for part in self._parts}
            self._link.send(dict(_progress(self._parts), outcome=outcome))

    def _on_tick(self) -> None:
        if self._finished:
            return
        _each(part.tick for part in self._parts)
        self._turns += 1
        progress = _progress(self._parts)
        if progress != self._last or self._turns % _TURNS_PER_BEAT == 0:
            self._last = progress
            self._link.send(dict(progress, turns=self._turns))
        self._loop.call_later(TICK_SECONDS, self._on_tick)
