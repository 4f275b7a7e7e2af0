"""The load `hold`: open all connections, keep them, watch the table, and stop as soon as the evidence is complete."""

import argparse
import asyncio
import json
import os
import resource
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from lab.guest import sampler as sampling
from lab.guest.client import Client
from lab.guest.files import read_text
from lab.guest.server import Server
from lab.guest.spread import FIRST_PORT, Shard, shards
from lab.guest.worker import TICK_SECONDS, Link, Message, Worker, end_all, first_crash, new_loop

FULL_SECONDS = 1.0  # drops seen and the table full for this long: nothing more is to be learnt
FULL_GAP_SECONDS = 0.25  # entries time out and are replaced: a table below its max for a moment only is still full
QUIET_SECONDS = 5.0  # no connection moved and no drop rose for this long: what is pending has stalled
START_SECONDS = 30.0


class HoldRequest(NamedTuple):
    """What to hold, and until when at most."""

    connections: int
    deadline_seconds: float
    processes: int = 0  # pairs of a server and a client; 0: one pair per processor
    loop: str = "asyncio"
    first_port: int = FIRST_PORT


class HoldError(Exception):
    """The load could not be driven at all: no finding can come of it."""


class Hold:
    """Drives worker processes and the sampler; the workers go on holding after `run` has returned."""

    def __init__(self, request: HoldRequest, on_sample: Callable[[Dict[str, Any]], None]) -> None:
        self._request = request
        self._on_sample = on_sample
        self._workers: List[Worker] = []
        self._servers: List[Worker] = []
        self._clients: List[Worker] = []
        self._sampler = sampling.Sampler()
        try:
            self._loop = new_loop(request.loop)
        except ImportError as error:
            raise HoldError("no event loop of the kind {}: {}".format(request.loop, error))
        self._started = 0.0
        self._drops_before: Optional[int] = None
        self._full_since: Optional[float] = None
        self._full_at = 0.0
        self._moved_at = 0.0
        self._moved: Any = None
        self._still_ticks = 0
        self._ended: Optional[str] = None
        self._complete = self._loop.create_future()

    def run(self) -> Dict[str, Any]:
        """Open the connections and return how it ended; raises HoldError when no load could be driven."""
        try:
            plan = self._plan()
            self._fork(plan)
            self._loop.run_until_complete(self._drive())
        except BaseException:
            self.release()
            raise
        return self._result(plan)

    def release(self) -> None:
        """End the workers, which closes every connection that they hold. May be called again."""
        if not self._loop.is_closed():
            for worker in self._workers:
                worker.link.detach(self._loop)
            self._loop.close()
        end_all(self._workers)
        self._sampler.close()

    def _plan(self) -> List[Shard]:
        request = self._request
        processes = request.processes or os.sysconf("SC_NPROCESSORS_ONLN")
        try:
            return shards(request.connections, processes, fd_limit(), ephemeral_ports(), request.first_port)
        except ValueError as error:
            raise HoldError(str(error))

    def _fork(self, plan: List[Shard]) -> None:
        """Servers first: their listeners must be bound before any outgoing socket takes a port."""
        kind = self._request.loop
        for number, shard in enumerate(plan):
            self._servers.append(Worker("server {}".format(number), _server_body(shard, kind)))
            self._workers.append(self._servers[-1])
        for number, shard in enumerate(plan):
            self._clients.append(Worker("client {}".format(number), _client_body(shard, kind)))
            self._workers.append(self._clients[-1])

    async def _drive(self) -> None:
        for worker in self._workers:
            worker.link.attach(self._loop, _recorder(worker, self._look))
        await self._until(lambda: all("ready" in worker.latest for worker in self._workers), START_SECONDS)
        self._begin()
        while self._ended is None:
            await asyncio.wait([self._complete], timeout=TICK_SECONDS)
            self._fail_on_crash()
            self._sample()
            self._look()
        for worker in self._workers:
            worker.link.send({"finish": True})
        await self._until(lambda: all("outcome" in worker.latest for worker in self._workers), START_SECONDS)

    def _begin(self) -> None:
        self._started = self._moved_at = time.monotonic()
        self._sample()
        for worker in self._workers:
            worker.link.send({"go": True})

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self._fail_on_crash()
            if time.monotonic() > deadline:
                raise HoldError("the load's processes gave no answer for {:g} s".format(seconds))
            await asyncio.sleep(0.005)

    def _sample(self) -> None:
        """Take one sample, note what it means for the end, and pass it on."""
        sample: Dict[str, Any] = dict(self._sampler.sample())
        now = time.monotonic()
        sample.update(self._progress(), seconds=round(now - self._started, 4))
        drops = sampling.drops(sample)
        if self._drops_before is None:
            self._drops_before = drops  # of a conntrack that came during the load: what its first sample shows
        dropped = drops is not None and drops != self._drops_before  # not `>`: a counter of 32 bits wraps
        if dropped and sampling.is_full(sample):
            if self._full_since is None or now - self._full_at > FULL_GAP_SECONDS:
                self._full_since = now
            self._full_at = now
        self._note_movement(now, drops)
        self._on_sample(sample)

    def _note_movement(self, now: float, drops: Optional[int]) -> None:
        moved = (self._progress(), drops)
        self._still_ticks += 1
        if moved != self._moved:
            self._moved, self._moved_at, self._still_ticks = moved, now, 0

    def _progress(self) -> Dict[str, int]:
        totals = {
            name: sum(worker.latest.get(name, 0) for worker in self._clients)
            for name in ("attempted", "held", "failed", "lost")
        }
        return dict(totals, accepted=sum(worker.latest.get("accepted", 0) for worker in self._servers))

    def _look(self) -> None:
        """Decide whether the evidence is complete."""
        if self._ended is None and self._started:
            self._ended = self._why_end(time.monotonic())
            if self._ended is not None:
                self._complete.set_result(None)

    def _fail_on_crash(self) -> None:
        crash = first_crash(self._workers)
        if crash:
            raise HoldError(crash)

    def _why_end(self, now: float) -> Optional[str]:
        wanted = self._request.connections
        progress = self._progress()
        if progress["held"] == wanted and progress["accepted"] >= wanted:
            return "all-held"
        if self._full_since is not None and self._full_at - self._full_since >= FULL_SECONDS:
            return "table-full"
        answered = progress["held"] + progress["failed"] + progress["lost"] == wanted
        if answered and progress["held"] < wanted and progress["accepted"] >= progress["held"]:
            return "all-answered"
        # a machine whose host did not let it run has seen the time pass, but has not looked
        if now - self._moved_at >= QUIET_SECONDS and self._still_ticks >= QUIET_SECONDS / TICK_SECONDS / 4:
            return "no-movement"
        if now - self._started >= self._request.deadline_seconds:
            return "deadline"
        return None

    def _result(self, plan: List[Shard]) -> Dict[str, Any]:
        return {
            "ended": self._ended,
            "seconds": round(time.monotonic() - self._started, 4),
            "connections": self._request.connections,
            "progress": self._progress(),
            "clients": [client.latest["outcome"] for client in self._clients],
            "servers": [server.latest["outcome"] for server in self._servers],
            "listeners": [list(listener) for shard in plan for listener in shard.listen],
            "loop": self._request.loop,
            "fd_limit": fd_limit(),
        }


def fd_limit() -> int:
    """The soft limit of open files of this process (getrlimit(2)), raised to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def ephemeral_ports() -> int:
    """How many local ports the kernel may choose from (ip-sysctl.rst, ip_local_port_range)."""
    text, error, _ = read_text("/proc/sys/net/ipv4/ip_local_port_range")
    if text is None:
        raise HoldError("ip_local_port_range cannot be read: {}".format(error))
    low, high = (int(field) for field in text.split())
    return high - low + 1


def _recorder(worker: Worker, look: Callable[[], None]) -> Callable[[Message], None]:
    def record(message: Message) -> None:
        worker.latest.update(message)
        look()

    return record


def _server_body(shard: Shard, kind: str) -> Callable[[Link], None]:
    def body(link: Link) -> None:
        loop = new_loop(kind)

        def report() -> None:
            link.send(server.progress())

        server = Server(loop, shard.listen, shard.connections, report)
        _serve(loop, link, server.start, lambda: None, server.progress, server.progress)

    return body


def _client_body(shard: Shard, kind: str) -> Callable[[Link], None]:
    def body(link: Link) -> None:
        loop = new_loop(kind)

        def report() -> None:
            link.send(client.progress())

        client = Client(loop, shard.listen, report)
        _serve(loop, link, client.start, client.tick, client.progress, client.outcome)

    return body


def _serve(
    loop: asyncio.AbstractEventLoop,
    link: Link,
    start: Callable[[], None],
    tick: Callable[[], None],
    progress: Callable[[], Message],
    outcome: Callable[[], Message],
) -> None:
    """A worker's life: say ready, start at `go`, report at every tick until `finish`, hold until the link is closed.

    Raises what a callback raised: a loop alone would log it and go on, and a bug would pass for a stalled load.
    """
    last: List[Message] = [{}]
    finished: List[bool] = []
    problems: List[BaseException] = []

    def on_problem(_: asyncio.AbstractEventLoop, context: Dict[str, Any]) -> None:
        problems.append(context.get("exception") or RuntimeError(context["message"]))
        loop.stop()

    def on_message(message: Message) -> None:
        if not message:
            loop.stop()
        elif "go" in message:
            start()
            loop.call_later(TICK_SECONDS, on_tick)
        elif "finish" in message:
            finished.append(True)
            final = outcome()
            link.send(dict(progress(), outcome=final))

    def on_tick() -> None:
        if finished:
            return
        tick()
        if progress() != last[0]:
            last[0] = progress()
            link.send(last[0])
        loop.call_later(TICK_SECONDS, on_tick)

    loop.set_exception_handler(on_problem)
    link.attach(loop, on_message)
    link.send({"ready": os.getpid()})
    loop.run_forever()
    if problems:
        raise problems[0]


def main(argv: List[str]) -> int:
    """`hold`: drive the load on this machine's loopback and print its result as JSON (for tests and benchmarks)."""
    parser = argparse.ArgumentParser(prog="hold", description="Hold TCP connections over loopback.")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--loop", default="asyncio", choices=["asyncio", "uvloop"])
    parser.add_argument("--deadline", type=float, default=60.0)
    parser.add_argument("--first-port", type=int, default=FIRST_PORT)
    options = parser.parse_args(argv)
    samples: List[Dict[str, Any]] = []
    request = HoldRequest(options.connections, options.deadline, options.processes, options.loop, options.first_port)
    try:
        hold = Hold(request, samples.append)
        result = hold.run()
    except HoldError as error:
        sys.stderr.write("hold: {}\n".format(error))
        return 1
    hold.release()
    sys.stdout.write(json.dumps(dict(result, samples=len(samples))) + "\n")
    return 0
