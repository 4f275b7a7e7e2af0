"""The load: drive connections of one kind, keep them, watch the table, and stop as soon as the evidence is complete."""

import argparse
import asyncio
import json
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from lab.guest import endings, kinds, protocol_counters, topology
from lab.guest.bodies import CLIENT, SERVER, body
from lab.guest.churn import CLOSES, FIN
from lab.guest.entries import Table
from lab.guest.kinds import KINDS, LoadError, LoadRequest
from lab.guest.sampler import Sampler
from lab.guest.spread import FIRST_PORT
from lab.guest.topology import LOOPBACK, TOPOLOGIES
from lab.guest.worker import TICK_SECONDS, Message, Worker, end_all, first_crash, new_loop

__all__ = ["Load", "LoadError", "LoadRequest", "main"]

START_SECONDS = 30.0
_LISTEN_SECONDS = 0.02  # for what a worker said before it died
_COUNTS = ("attempted", "held", "failed", "lost", "accepted")


class Load:
    """Drives worker processes and the sampler; the workers go on holding after `run` has returned."""

    def __init__(self, request: LoadRequest, on_sample: Callable[[Dict[str, Any]], None]) -> None:
        """Raises LoadError for a request that cannot be driven."""
        self._request = request
        self._on_sample = on_sample
        self._waves = kinds.waves_of(request)
        self._keeps_open = KINDS[request.kind].has_sockets
        self._begun = 0  # waves
        self._workers: List[List[Worker]] = []  # of each wave
        try:
            self._loop = new_loop(request.loop)
        except ImportError as error:
            raise LoadError("no event loop of the kind {}: {}".format(request.loop, error))
        self._sampler = Sampler()
        self._table = Table(kinds.source_pattern(request))
        self._counters_before: Dict[str, Any] = {}
        self._count: Optional[str] = None  # of the last sample
        self._watch = endings.Watch()
        self._started = 0.0
        self._ended: Optional[str] = None
        self._complete = self._loop.create_future()

    def run(self) -> Dict[str, Any]:
        """Drive the load and return how it ended; raises LoadError when none could be driven."""
        try:
            self._fork()
            self._loop.run_until_complete(self._drive())
        except BaseException:
            self.release()
            raise
        return self._result()

    def crash(self) -> Optional[str]:
        """What a worker has died of, if one did since the load ended: then it does not hold what it was to hold."""
        if self._loop.is_closed():
            return None
        self._loop.run_until_complete(asyncio.sleep(_LISTEN_SECONDS))
        return first_crash(self._all_workers())

    def release(self) -> None:
        """End the workers, which closes every connection that they hold. May be called again."""
        workers = self._all_workers()
        if not self._loop.is_closed():
            for worker in workers:
                worker.link.detach(self._loop)
            self._loop.close()
        end_all(workers)
        del self._workers[:]
        self._sampler.close()

    def _all_workers(self) -> List[Worker]:
        return [worker for wave in self._workers for worker in wave]

    def _fork(self) -> None:
        """Every worker of every wave: all listeners must be bound before any outgoing socket takes a port."""
        for wave in self._waves:
            self._workers.append([])
            for work in wave.work:
                run = body(work, self._request.loop, self._request.topology)
                self._workers[-1].append(Worker(work.name, run))

    async def _drive(self) -> None:
        workers = self._all_workers()
        for worker in workers:
            worker.link.attach(self._loop, _recorder(worker, self._look))
        await self._until(lambda: all("ready" in worker.latest for worker in workers), START_SECONDS)
        self._counters_before = self._counters()
        self._started = time.monotonic()
        self._sample()
        self._look_at_table()
        self._begin_wave()
        while self._ended is None:
            await asyncio.wait([self._complete], timeout=TICK_SECONDS)
            self._fail_on_crash()
            self._sample()
            self._table.look_when_due(self._seconds(), self._count)
            self._look()
        self._look_at_table()
        for worker in workers:
            worker.link.send({"finish": True})
        await self._until(lambda: all("outcome" in worker.latest for worker in workers), START_SECONDS)
        self._sample()  # what was sent until the end is counted to the end

    def _begin_wave(self) -> None:
        self._watch.restart(time.monotonic())
        self._begun += 1
        for worker in self._workers[self._begun - 1]:
            worker.link.send({"go": True})

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self._fail_on_crash()
            if time.monotonic() > deadline:
                raise LoadError("the load's processes gave no answer for {:g} s".format(seconds))
            await asyncio.sleep(0.005)

    def _fail_on_crash(self) -> None:
        crash = first_crash(self._all_workers())
        if crash:
            raise LoadError(crash)

    def _sample(self) -> None:
        """Take one sample, note what it means for the end, and pass it on."""
        sample: Dict[str, Any] = dict(self._sampler.sample())
        self._count = sample["count"]
        now = time.monotonic()
        progress, open_now = self._movement()
        sample.update(progress[0], seconds=round(now - self._started, 4))
        if self._keeps_open:
            sample["open"] = open_now
        for newcomers in progress[1:]:
            sample.update(newcomers_attempted=newcomers["attempted"], newcomers_held=newcomers["held"])
        self._watch.note(now, sample, (progress, open_now), self._turns())
        self._on_sample(sample)

    def _movement(self) -> Tuple[List[Dict[str, int]], int]:
        """How far the connections of each wave are, and how many are open."""
        return [_total(workers, _COUNTS) for workers in self._workers], self._open()

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _look_at_table(self) -> None:
        """Whose entries are there, now: with the count as it is now, for the last sample is a tick old."""
        held = sum(_total(workers, ("held",))["held"] for workers in self._workers)
        self._table.look(self._seconds(), self._sampler.sample()["count"], held)

    def _counters(self) -> Dict[str, Any]:
        """The counters of IP and TCP where each side stands: those of a listener are in its own namespace."""
        counters = {}
        for role in (topology.CLIENT, topology.SERVER):
            with topology.inside(self._request.topology, role):
                counters[role] = protocol_counters.read_all()
        return counters

    def _turns(self) -> int:
        """Of the slowest worker whose turn it is."""
        return min((worker.latest.get("turns", 0) for worker in self._workers[max(0, self._begun - 1)]), default=0)

    def _open(self) -> int:
        return _total(self._workers[0], ("open",))["open"]

    def _look(self) -> None:
        """Decide whether the evidence is complete, or the next wave's turn has come."""
        if self._ended is not None or not self._begun:
            return
        wave = self._waves[self._begun - 1]
        now = time.monotonic()
        progress = _total(self._workers[self._begun - 1], _COUNTS)
        seen = endings.Seen(
            wanted=wave.connections,
            progress=progress,
            open=self._open(),
            full=self._watch.is_full(),
            quiet=self._watch.is_quiet(now, endings.patience(progress), self._movement()),
            late=now - self._started >= self._request.deadline_seconds,
            **_total(self._workers[self._begun - 1], ("pending", "resent")),
        )
        ended = endings.first_that_holds(wave.rules, seen)
        if ended in (endings.ALL_HELD, endings.ALL_ANSWERED) and self._begun < len(self._waves):
            self._look_at_table()
            self._begin_wave()
        elif ended is not None:
            self._ended = ended
            self._complete.set_result(None)

    def _result(self) -> Dict[str, Any]:
        workers = self._all_workers()
        return {
            "kind": self._request.kind,
            "ended": self._ended,
            "started_monotonic_seconds": round(self._started, 6),
            "seconds": round(time.monotonic() - self._started, 4),
            "connections": self._request.connections,
            "progress": _total(self._workers[0], _COUNTS),
            "open_peak": _total(self._workers[0], ("open_peak",))["open_peak"] if self._keeps_open else None,
            "newcomers": self._newcomers(),
            "clients": _outcomes(workers, CLIENT),
            "servers": _outcomes(workers, SERVER),
            "looks": self._table.looks,
            "sources": kinds.source_pattern(self._request),
            "ports": [port for wave in self._waves for port in wave.ports],
            "networks": kinds.networks(self._request),
            "source_networks": kinds.source_networks(self._request),
            "counters": {"before": self._counters_before, "after": self._counters()},
            "listeners": [list(listener) for wave in self._waves for listener in wave.listeners],
            "loop": self._request.loop,
            "fd_limit": kinds.fd_limit(),
        }

    def _newcomers(self) -> Optional[Dict[str, int]]:
        if len(self._waves) == 1:
            return None
        return dict(_total(self._workers[1], _COUNTS), connections=self._waves[1].connections)


def _total(workers: Sequence[Worker], names: Sequence[str]) -> Dict[str, int]:
    """The sums of counts over workers and their sides, as of what each said last."""
    sides = [worker.latest.get(role, {}) for worker in workers for role in (CLIENT, SERVER)]
    return {name: sum(side.get(name, 0) for side in sides) for name in names}


def _outcomes(workers: Sequence[Worker], role: str) -> List[Message]:
    return [worker.latest["outcome"][role] for worker in workers if role in worker.latest["outcome"]]


def _recorder(worker: Worker, look: Callable[[], None]) -> Callable[[Message], None]:
    def record(message: Message) -> None:
        worker.latest.update(message)
        look()

    return record


def main(argv: List[str]) -> int:
    """`load`: drive a load on this machine's loopback and print its result as JSON (for tests and benchmarks)."""
    request = _request(argv)
    samples: List[Dict[str, Any]] = []
    try:
        load = Load(request, samples.append)
        result = load.run()
    except LoadError as error:
        sys.stderr.write("load: {}\n".format(error))
        return 1
    crash = load.crash()
    load.release()
    if crash:
        sys.stderr.write("load: {}\n".format(crash))
        return 1
    sys.stdout.write(json.dumps(dict(result, samples=len(samples))) + "\n")
    return 0


def _request(argv: List[str]) -> LoadRequest:
    parser = argparse.ArgumentParser(prog="load", description="Drive connections against this machine's own table.")
    parser.add_argument("--kind", default="hold", choices=list(KINDS))
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=0, help="per second; 0: as fast as it goes")
    parser.add_argument("--hold-seconds", type=float, default=0.0, help="churn: how long each connection stays open")
    parser.add_argument("--close", default=FIN, choices=CLOSES, help="churn: how each connection ends")
    parser.add_argument("--newcomers", type=int, default=0, help="half-open, udp: TCP connections opened afterwards")
    parser.add_argument("--topology", default=LOOPBACK, choices=TOPOLOGIES)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--loop", default="asyncio", choices=["asyncio", "uvloop"])
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds")
    parser.add_argument("--first-port", type=int, default=FIRST_PORT)
    options = parser.parse_args(argv)
    return LoadRequest(
        options.connections,
        options.deadline,
        kind=options.kind,
        rate_per_second=options.rate,
        hold_seconds=options.hold_seconds,
        close=options.close,
        newcomers=options.newcomers,
        topology=options.topology,
        processes=options.processes,
        loop=options.loop,
        first_port=options.first_port,
    )
