"""The load: drive connections of one kind, keep them, watch the table, and stop as soon as the evidence is complete."""

import asyncio
import time
from typing import Any, Callable, Dict, List, Optional

from lab.guest import endings, engines, kinds, protocol_counters
from lab.guest.apply import apply_steps
from lab.guest.bodies import body
from lab.guest.end_tables import EndTables
from lab.guest.entries import Table
from lab.guest.kinds import KINDS, LoadError, LoadRequest
from lab.guest.namespaces import TopologyError, inside
from lab.guest.paths import CLIENT, SERVER, families_of
from lab.guest.sampler import Sampler, gap_seconds
from lab.guest.summary import summary
from lab.guest.tally import Tally, total, turns
from lab.guest.worker import TICK_SECONDS, Message, Worker, end_all, first_crash, new_loop

__all__ = ["Load", "LoadError", "LoadRequest"]

START_SECONDS = 30.0
_LISTEN_SECONDS = 0.02  # for what a worker said before it died
_EXCHANGE_QUIET_SECONDS = 3.0  # a byte that is lost is sent again after 0.2, 0.6 and 1.4 seconds (TCP_RTO_MIN)
_EXCHANGE_TURNS = 30  # of the slowest process: one that a busy host does not let run answers nothing
_EXCHANGE_SECONDS = 40.0
# after which the next wave begins: what a flood sent has arrived by then, or was lost on its way
_GO_ON = (endings.ALL_HELD, endings.ALL_ANSWERED)


class Load:
    """Drives worker processes and the sampler; the workers go on holding after `run` has returned."""

    def __init__(self, request: LoadRequest, on_sample: Callable[[Dict[str, Any]], None]) -> None:
        """Raises LoadError for a request that cannot be driven."""
        self._engine = engines.choose(request.engine, request.family)
        self._request = request = request._replace(engine=self._engine.name)
        self._on_sample = on_sample
        self._waves = kinds.waves_of(request)
        self._keeps_open = KINDS[request.kind].has_sockets or request.answered
        self._begun = 0  # waves
        self._tally = Tally()
        self._workers = self._tally.waves
        try:
            self._ends = EndTables(request.path)
            self._loop = new_loop(request.loop)
        except TopologyError as error:
            raise LoadError(str(error))
        except ImportError as error:
            raise LoadError("no event loop of the kind {}: {}".format(request.loop, error))
        self._sampler = Sampler()
        self._during: Optional[Dict[str, Any]] = None  # what became of the steps that run while the load is there
        self._stepping = False
        self._step_task: Optional["asyncio.Task[None]"] = None
        self._table = Table(kinds.source_patterns(request))
        self._counters_before: Dict[str, Any] = {}
        self._count: Optional[str] = None  # of the last sample
        self._watch = endings.Watch()
        self._started = self._wave_began = 0.0
        self._ended: Optional[str] = None
        self._turn = self._loop.create_future()

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
        self._ends.close()

    def _all_workers(self) -> List[Worker]:
        return [worker for wave in self._workers for worker in wave]

    def _fork(self) -> None:
        """Every worker of every wave: all listeners must be bound before any outgoing socket takes a port."""
        for wave in self._waves:
            self._workers.append([])
            for work in wave.work:
                run = body(work, self._request.loop, self._request.path)
                self._workers[-1].append(Worker(work.name, run))

    async def _drive(self) -> None:
        workers = self._all_workers()
        for worker in workers:
            worker.link.attach(self._loop, self._recorder(worker))
        await self._until(lambda: all("ready" in worker.latest for worker in workers), START_SECONDS)
        self._counters_before = self._counters()
        self._started = time.monotonic()
        self._sample()
        self._look_at_table()
        self._begin_wave()
        while self._ended is None:
            await self._tick()
            self._fail_on_crash()
            if self._step_task is not None and self._step_task.done():
                self._step_task.result()  # raises what it raised
            self._sample()
            self._table.look_when_due(self._seconds(), self._count)
            self._look()
        self._look_at_table()
        if self._request.data:
            await self._exchange()
            self._look_at_table()
        for worker in workers:
            worker.link.send({"finish": True})
        await self._until(lambda: all("outcome" in worker.latest for worker in workers), START_SECONDS)
        self._sample()  # what was sent until the end is counted to the end

    async def _tick(self) -> None:
        """Wait until the next sample is due, or the load has ended."""
        self._turn = self._loop.create_future()
        gap = gap_seconds(time.monotonic() - self._wave_began)
        timer = self._loop.call_later(gap, _wake, self._turn)
        await self._turn
        timer.cancel()

    def _begin_wave(self) -> None:
        self._wave_began = time.monotonic()
        self._watch.restart(self._wave_began)
        self._begun += 1
        for worker in self._workers[self._begun - 1]:
            worker.link.send({"go": True})

    async def _exchange(self) -> None:
        """A byte there and back over each connection, until all are back or none comes any more."""
        for worker in self._all_workers():
            worker.link.send({"exchange": True})
        began = moved = time.monotonic()
        seen, had = -1, turns(self._all_workers())
        while time.monotonic() - began < _EXCHANGE_SECONDS:
            if (
                time.monotonic() - moved > _EXCHANGE_QUIET_SECONDS
                and turns(self._all_workers()) - had > _EXCHANGE_TURNS
            ):
                return
            await asyncio.sleep(TICK_SECONDS)
            self._fail_on_crash()
            self._sample()
            counts = total(self._all_workers(), ("asked", "answered"), (CLIENT,))
            begun = all("asked" in side for side in self._clients())
            if begun and counts["answered"] >= counts["asked"]:
                return
            if counts["answered"] != seen:
                seen, moved, had = counts["answered"], time.monotonic(), turns(self._all_workers())

    def _clients(self) -> List[Message]:
        return [worker.latest[CLIENT] for worker in self._all_workers() if CLIENT in worker.latest]

    async def _apply_during(self) -> None:
        """Run the steps that come under the load, in a thread of their own: samples go on meanwhile."""
        self._stepping = True
        outcomes: List[Dict[str, Any]] = []

        def work() -> bool:
            steps = [dict(step) for step in self._request.during]
            return apply_steps(steps, outcomes.append, lambda role: inside(self._request.path, role))

        began = time.monotonic() - self._started
        reached = await self._loop.run_in_executor(None, work)
        self._during = {"reached": reached, "steps": outcomes, "seconds": round(began, 4)}
        self._stepping = False
        self._watch.restart(time.monotonic())
        self._look_at_table()

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
        ends = self._ends.sample()
        if ends:
            sample["ends"] = ends
        now = time.monotonic()
        progress, open_now = self._tally.movement()
        sample.update(progress[0], seconds=round(now - self._started, 4))
        if self._keeps_open:
            sample["open"] = open_now
        for newcomers in progress[1:]:
            sample.update(newcomers_attempted=newcomers["attempted"], newcomers_held=newcomers["held"])
        self._watch.note(now, sample, (progress, open_now), turns(self._workers[max(0, self._begun - 1)]))
        self._on_sample(sample)

    def _recorder(self, worker: Worker) -> Callable[[Message], None]:
        def record(message: Message) -> None:
            self._tally.note(worker, message)
            self._look()

        return record

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _look_at_table(self) -> None:
        """Whose entries are there, now: with the count as it is now, for the last sample is a tick old."""
        self._table.look(self._seconds(), self._sampler.sample()["count"], self._tally.held)

    def _counters(self) -> Dict[str, Any]:
        """The counters of IP and TCP where each side stands: those of a listener are in its own namespace."""
        counters = {}
        for role in (CLIENT, SERVER):
            with inside(self._request.path, role):
                counters[role] = protocol_counters.read_all()
        return counters

    def _look(self) -> None:
        """Decide whether the evidence is complete, or the next wave's turn has come."""
        if self._ended is not None or not self._begun or self._stepping:
            return
        wave = self._waves[self._begun - 1]
        now = time.monotonic()
        progress = self._tally.of(self._begun - 1)
        seen = endings.Seen(
            wanted=wave.connections,
            progress=progress,
            open=self._tally.open,
            full=self._watch.is_full(),
            quiet=self._watch.is_quiet(now, endings.patience(progress), self._tally.movement()),
            late=now - self._started >= self._request.deadline_seconds,
            pending=progress["pending"],
            resent=progress["resent"],
        )
        ended = endings.first_that_holds(wave.rules, seen)
        if ended is not None and self._request.during and self._during is None and not wave.ports:
            self._stepping = True
            self._step_task = self._loop.create_task(self._apply_during())
        elif ended in _GO_ON and self._begun < len(self._waves):
            self._look_at_table()
            self._begin_wave()
        elif ended is not None:
            self._ended = ended
            _wake(self._turn)

    def _result(self) -> Dict[str, Any]:
        request = self._request
        done = {
            "kind": request.kind,
            "path": request.path,
            "family": request.family,
            "answered": request.answered,
            "ended": self._ended,
            "started_monotonic_seconds": round(self._started, 6),
            "seconds": round(time.monotonic() - self._started, 4),
            "connections": request.connections,
            "open_peak": total(self._workers[0], ("open_peak",))["open_peak"] if self._keeps_open else None,
            "looks": self._table.looks,
            "counters": {"before": self._counters_before, "after": self._counters()},
            "loop": request.loop,
            "engine": self._engine._asdict(),
            "fd_limit": kinds.fd_limit(),
            **summary(request, self._waves, self._workers, families_of(request.family)),
        }
        if self._during is not None:
            done["during"] = self._during
        if len(families_of(request.family)) > 1:
            done["families"] = {
                family: dict(summary(request, self._waves, self._workers, (family,)), connections=count)
                for family, count in kinds.parts(request, request.connections)
            }
        return done


def _wake(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
