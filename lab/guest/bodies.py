"""What worker processes do: each runs the parts it was given, a server, a client or both, in one loop."""

import asyncio
import os
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from lab.guest import topology
from lab.guest.churn import ChurnClient, ChurnServer
from lab.guest.client import Client
from lab.guest.flood import Flood, Receiver, Share
from lab.guest.server import Server
from lab.guest.sources import PREFIX, Source, sources
from lab.guest.spread import ADDRESS, Shard
from lab.guest.worker import TICK_SECONDS, Link, Message, new_loop

CLIENT, SERVER = "client", "server"
_TURNS_PER_BEAT = 10  # a worker of which nothing moves says so twice a second: it runs, it only has nothing to tell


class Part(NamedTuple):
    """One side of the load within a worker, by what is asked of it."""

    role: str  # CLIENT or SERVER, under which its counts are reported
    start: Callable[[], None]
    tick: Callable[[], None]
    progress: Callable[[], Message]
    outcome: Callable[[], Message]


Report = Callable[[], None]
Maker = Callable[[asyncio.AbstractEventLoop, Report], Part]


class Work(NamedTuple):
    """What a worker process is for."""

    name: str
    place: str  # topology.CLIENT or topology.SERVER
    makers: Sequence[Maker]  # called in the worker, before anything starts: to bind, not to open


class Churning(NamedTuple):
    """How connections come and go; see ChurnClient."""

    rate_per_second: float
    hold_seconds: float
    close: str


def holding_server(shard: Shard, gather_seconds: float, local: bool) -> Maker:
    """Accepts a shard's connections and holds them; `local` ones come from addresses of their own."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        return _part(SERVER, Server(loop, shard.listen, shard.connections, report, gather_seconds, _own(local)))

    return make


def holding_client(shard: Shard, local: bool, rate_per_second: float = 0.0) -> Maker:
    """Opens a shard's connections and holds them; `local` ones come from addresses of their own."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        return _part(CLIENT, Client(loop, shard.listen, report, rate_per_second, _sources(shard, local)))

    return make


def churning_server(shard: Shard, gather_seconds: float, local: bool, close: str) -> Maker:
    """Accepts a shard's connections and closes them after the client."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        server = ChurnServer(loop, shard.listen, shard.connections, report, gather_seconds, close, _own(local))
        return _part(SERVER, server)

    return make


def churning_client(shard: Shard, local: bool, churning: Churning) -> Maker:
    """Opens a shard's connections and closes each after its time; `local` ones come from addresses of their own."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        return _part(CLIENT, ChurnClient(loop, shard.listen, report, *churning, sources=_sources(shard, local)))

    return make


def flooding_client(kind: str, share: Share) -> Maker:
    """Sends a share of packets. One that was sent counts as accepted, too: nobody is there who could tell."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        flood = Flood(loop, kind, share, report)

        def progress() -> Message:
            return dict(flood.progress(), accepted=flood.held)

        return Part(CLIENT, flood.start, flood.tick, progress, flood.outcome)

    return make


def silent_receiver(kind: str, share: Share) -> Maker:
    """Swallows a share of packets, and counts nothing."""

    def make(loop: asyncio.AbstractEventLoop, report: Report) -> Part:
        receiver = Receiver(loop, kind, share.port)
        return Part(SERVER, receiver.start, _nothing, _no_counts, _no_counts)

    return make


def body(work: Work, loop_kind: str, topology_name: str) -> Callable[[Link], None]:
    """What a worker process runs; see worker.Worker."""

    def run(link: Link) -> None:
        topology.enter(topology_name, work.place)
        loop = new_loop(loop_kind)
        parts: List[Part] = []

        def report() -> None:
            link.send(_progress(parts))

        parts.extend(make(loop, report) for make in work.makers)
        _serve(loop, link, parts)

    return run


def _sources(shard: Shard, local: bool) -> Optional[Iterator[Source]]:
    return sources(shard.number) if local else None


def _own(local: bool) -> Tuple[str, ...]:
    """What the addresses begin with that the load's connections come from, as its listeners see them."""
    if local:
        return (PREFIX,)
    # the router's where it masquerades; the last where both sides stand in one namespace
    return topology.ENDS[topology.CLIENT].address, topology.ENDS[topology.SERVER].router_address, ADDRESS


def _part(role: str, side: Any) -> Part:
    return Part(role, side.start, side.tick, side.progress, side.outcome)


def _nothing() -> None:
    pass


def _no_counts() -> Message:
    return {"errors": {}}


def _progress(parts: Sequence[Part]) -> Message:
    return {part.role: part.progress() for part in parts}


def _serve(loop: asyncio.AbstractEventLoop, link: Link, parts: Sequence[Part]) -> None:
    """A worker's life: say ready, start at `go`, report at every tick until `finish`, hold until the link is closed.

    Raises what a callback raised: a loop alone would log it and go on, and a bug would pass for a stalled load.
    """
    last: List[Message] = [{}]
    turns = [0]
    finished: List[bool] = []
    problems: List[BaseException] = []

    def on_problem(_: asyncio.AbstractEventLoop, context: Dict[str, Any]) -> None:
        problems.append(context.get("exception") or RuntimeError(context["message"]))
        loop.stop()

    def on_message(message: Message) -> None:
        if not message:
            loop.stop()
        elif "go" in message:
            for part in parts:
                part.start()
            loop.call_later(TICK_SECONDS, on_tick)
        elif "finish" in message:
            finished.append(True)
            outcome = {part.role: part.outcome() for part in parts}
            link.send(dict(_progress(parts), outcome=outcome))

    def on_tick() -> None:
        if finished:
            return
        for part in parts:
            part.tick()
        turns[0] += 1
        progress = _progress(parts)
        if progress != last[0] or turns[0] % _TURNS_PER_BEAT == 0:
            last[0] = progress
            link.send(dict(progress, turns=turns[0]))
        loop.call_later(TICK_SECONDS, on_tick)

    loop.set_exception_handler(on_problem)
    link.attach(loop, on_message)
    link.send({"ready": os.getpid()})
    loop.run_forever()
    if problems:
        raise problems[0]
