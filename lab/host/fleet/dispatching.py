"""Which cells go to the fleet, and what becomes of those that come back, or do not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.client import FutureCancelledError

from lab.core.errors import LabError
from lab.core.manifest import FleetWorker
from lab.core.plan import CellPlan
from lab.core.plan.chunks import next_chunk
from lab.core.result import CellResult
from lab.core.text import plural, printable
from lab.host.failures import host_failed
from lab.host.fleet import WORKER_HINT, patience
from lab.host.fleet.chunk import Chunk, Outcome, run_chunk
from lab.host.fleet.connection import WorkerSeen, refusal, workers_of
from lab.host.fleet.intake import Intake
from lab.host.fleet.package import package_digest, resource_name
from lab.host.fleet.sending import Sender
from lab.host.results.records import Wrong, whole
from lab.host.run.recording import Progress

_LOOK_SECONDS = 1.0
_RESUME = "lab run --resume runs what is missing"
MOST_DEATHS = 5  # of workers that were running a cell, before it is given up

# a chunk without its key, for these cells
ChunkOf = Callable[[Sequence[CellPlan]], Chunk]


class SchedulerGone(LabError):
    """The scheduler does not answer any more."""


@dataclass
class _Flight:
    """A chunk that is under way."""

    plans: tuple[CellPlan, ...]  # of these the cells that have not come yet
    first: CellPlan
    future: Future[Any]
    watch: asyncio.Task[None]
    worker: str | None = None  # that has it, once that has said a word


@dataclass
class Watchers:
    """Who is told what happens: people, as with cells that run here."""

    say: Callable[[str], None]
    on_progress: Callable[[CellPlan, Progress], None]
    on_result: Callable[[CellPlan, CellResult], None]


@dataclass
class Dispatcher:
    """Has cells run by the workers of a scheduler; `results` grows as they come."""

    client: Client
    chunk_of: ChunkOf
    sender: Sender
    intake: Intake
    watchers: Watchers
    results: list[CellResult]
    _cells: dict[str, list[str]] = field(default_factory=dict)  # which came, by the workers' names
    _seen: dict[str, FleetWorker] = field(default_factory=dict)  # all workers that there were
    _waiting: list[CellPlan] = field(default_factory=list)
    _plans: dict[str, CellPlan] = field(default_factory=dict)
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _keys: set[str] = field(default_factory=set)  # of all chunks that were sent out
    _events: asyncio.Queue[tuple[str, Any]] = field(default_factory=asyncio.Queue)
    _deaths: Counter[str] = field(default_factory=Counter)  # by cell
    _failed: dict[str, LabError] = field(default_factory=dict)  # why a worker gets no more of this run, by its name
    _refused: set[str] = field(default_factory=set)
    _workers: list[WorkerSeen] = field(default_factory=list)
    _workers_at: float = field(default_factory=time.monotonic)

    async def run(self, plans: Sequence[CellPlan]) -> None:
        """Run all cells. What has come is in the run's folder however this ends.

        Raises SchedulerGone; LabError where no worker is left that can run the rest, or where a cell's workers die.
        """
        self._waiting = list(plans)
        self._plans = {plan.cell: plan for plan in plans}
        self.sender.on_failure = self._leave_out
        self.client.subscribe_topic(  # type: ignore[no-untyped-call]
            self.client.id, lambda event: self._events.put_nowait(("event", event[1]))
        )
        try:
            while self._waiting or self._flights:
                await self._look()
                self._send_out()
                await self._next_events()
        finally:
            await self._end()

    def workers(self, before: Sequence[FleetWorker]) -> tuple[FleetWorker, ...]:
        """Those of which cells came, each with them; `before` are those of a run that is taken up again."""
        found = {worker.name: worker for worker in before}
        for name, cells in self._cells.items():
            had = found[name].cells if name in found else ()
            found[name] = replace(self._seen.get(name, FleetWorker(name)), cells=(*had, *cells))
        return tuple(found.values())

    # -- out ----------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """See which workers there are, at most once a second."""
        if self._workers and time.monotonic() - self._workers_at < _LOOK_SECONDS:
            return
        self._check_scheduler()
        try:
            found = await workers_of(self.client)
        except OSError as error:
            raise SchedulerGone(f"the scheduler is gone: {error}"[:300], _RESUME) from error
        self._seen.update({worker.name: worker.stored for worker in found})
        for worker in found:
            if not worker.has_this_lab and worker.name not in self._refused:
                self._refused.add(worker.name)
                self.watchers.say(f"refused: {refusal(worker)}")
        self._workers = [worker for worker in found if worker.has_this_lab and worker.name not in self._failed]
        if self._workers:
            self._workers_at = time.monotonic()
        elif self._failed and all(worker.name in self._failed or not worker.has_this_lab for worker in found):
            raise next(reversed(self._failed.values()))
        elif time.monotonic() - self._workers_at > (seconds := patience.NO_WORKER_SECONDS):
            raise LabError(f"there has been no worker for {seconds:g} s", hint="start some: lab fleet worker")

    def _send_out(self) -> None:
        slots = sum(worker.slots for worker in self._workers)
        while self._waiting and len(self._flights) < slots:
            running = [flight.first for flight in self._flights.values()]
            plans = next_chunk(self._waiting, running, slots)
            taken = {plan.cell for plan in plans}
            self._waiting = [plan for plan in self._waiting if plan.cell not in taken]
            chunk = self.chunk_of(plans)
            future = self.client.submit(
                run_chunk,
                chunk,
                key=chunk.key,
                pure=False,
                resources={resource_name(package_digest()): 1},
                # by their addresses only where one is to be left out: a worker that comes back has another
                workers=[worker.address for worker in self._workers] if self._failed else None,
            )
            watch = asyncio.ensure_future(self._watch(chunk.key, future))
            self._keys.add(chunk.key)
            self._flights[chunk.key] = _Flight(plans, plans[0], future, watch)

    async def _watch(self, key: str, future: Future[Any]) -> None:
        """Note how a chunk ended, after what it told before."""
        try:
            ended: object = await future
        except FutureCancelledError as error:  # Dask lost its scheduler
            self._events.put_nowait(("gone", error))
            return
        except Exception as error:  # of any kind: Dask raises what was raised over there
            ended = error
        self._events.put_nowait(("ended", (key, ended)))

    # -- in -----------------------------------------------------------------------------------------------------------

    async def _next_events(self) -> None:
        """Deal with what has come; where nothing has, wait a moment for it."""
        try:
            event = await asyncio.wait_for(self._events.get(), _LOOK_SECONDS)
        except TimeoutError:
            return
        await self._deal_with(*event)
        while not self._events.empty():
            await self._deal_with(*self._events.get_nowait())

    async def _deal_with(self, kind: str, content: Any) -> None:
        if kind == "gone":
            raise SchedulerGone("the scheduler is gone", _RESUME)
        if kind == "ended":
            self._died(*content)
        elif isinstance(content, dict) and str(content.get("key")) in self._keys:
            await self._told(content)

    async def _told(self, said: Mapping[str, Any]) -> None:
        """What a worker said; any text may be in it."""
        worker, key = printable(str(said.get("name")))[:100], str(said["key"])
        if (flight := self._flights.get(key)) is not None:
            flight.worker = worker
        if "archive" in said:  # also of a chunk that was given up: its worker may have been cut off for a while only
            await self._came(worker, self._plans.get(str(said.get("cell"))), said["archive"])
        elif flight is None:
            return
        elif "lacks" in said:
            self.sender.asked(str(said["lacks"]), str(said.get("address")), worker)
        elif "note" in said:
            self.watchers.say(f"{worker}: {printable(str(said['note']))[:500]}")
        elif "outcome" in said:
            with contextlib.suppress(Wrong):
                self._ended(key, worker, whole(Outcome, said["outcome"]))
        elif plan := self._plans.get(str(said.get("at"))):
            with contextlib.suppress(Wrong):
                self.watchers.on_progress(plan, whole(Progress, said.get("progress")))

    async def _came(self, worker: str, plan: CellPlan | None, data: object) -> None:
        """A cell's archive: the first that is whole counts."""
        if plan is None or not isinstance(data, bytes):
            return
        first = next((result for result in self.results if result.cell == plan.cell), None)
        if first is not None:
            news = await asyncio.to_thread(self.intake.compare, plan, data, first)
            if news is not None:
                self.watchers.say(f"{worker}: {news}")
            return
        try:
            result = await asyncio.to_thread(self.intake.take, plan, data)
        except OSError as error:
            raise host_failed(error, f"{plural(len(self.results), 'cell')} had come") from error
        except LabError as error:  # it is run again when the chunk has ended
            self._leave_out(worker, f"sent what is not whole: {error}", error.hint)
            return
        self.results.append(result)
        self._cells.setdefault(worker, []).append(plan.cell)
        self._waiting = [left for left in self._waiting if left.cell != plan.cell]
        for flight in self._flights.values():
            flight.plans = tuple(left for left in flight.plans if left.cell != plan.cell)
        self.watchers.on_result(plan, result)

    def _ended(self, key: str, worker: str, outcome: Outcome) -> None:
        """A chunk has ended."""
        plans = self._take_back(key)
        if outcome.error is not None or plans:
            self._leave_out(worker, outcome.error or "left out cells that it was sent", outcome.hint)

    def _take_back(self, key: str) -> tuple[CellPlan, ...]:
        """What of a chunk has not come, which is to be run again."""
        flight = self._flights.pop(key)
        flight.watch.cancel()
        flight.future.release()  # type: ignore[no-untyped-call]
        self._waiting = [*flight.plans, *self._waiting]
        return flight.plans

    def _died(self, key: str, error: object) -> None:
        """Dask has given a chunk up, which it does where the worker is gone."""
        if key not in self._flights:
            return  # all of it had been told
        plans = self._take_back(key)
        if not isinstance(error, KilledWorker):
            raise LabError(f"the fleet could not run {plural(len(plans), 'cell')}: {error!r}"[:1000], WORKER_HINT)
        if not plans:
            return
        cell = plans[0].cell  # they run one after the other, so this is what it was at
        self._deaths[cell] += 1
        self.watchers.say(f"lost the worker at {error.last_worker.address}: {plural(len(plans), 'cell')} again")
        if self._deaths[cell] >= MOST_DEATHS:
            raise LabError(f"{cell}: {MOST_DEATHS} workers died while they ran it", hint="look at their logs")

    def _leave_out(self, worker: str, why: str, hint: str) -> None:
        """A worker failed: the others get the rest of this run."""
        if worker not in self._failed:
            self._failed[worker] = LabError(f"{worker}: {why}", hint=hint)
            self._workers = [seen for seen in self._workers if seen.name != worker]
            self.watchers.say(f"{worker} gets no more cells of this run: {why}{f' ({hint})' if hint else ''}")
            for key in [key for key, flight in self._flights.items() if flight.worker == worker]:
                self._take_back(key)

    # -- end ----------------------------------------------------------------------------------------------------------

    def _check_scheduler(self) -> None:
        comm = self.client.scheduler_comm
        if self.client.status != "running" or comm is None or comm.comm.closed():
            raise SchedulerGone("the scheduler is gone", _RESUME)

    async def _end(self) -> None:
        """Stop everything that is under way, here and on the workers."""
        await self.sender.close()
        with contextlib.suppress(OSError):
            self.client.unsubscribe_topic(self.client.id)  # type: ignore[no-untyped-call]
        futures = [flight.future for flight in self._flights.values()]
        for flight in self._flights.values():
            flight.watch.cancel()
        if futures and self.client.status == "running":
            with contextlib.suppress(OSError, TimeoutError):
                cancelling = self.client.cancel(futures, force=True)  # type: ignore[no-untyped-call]
                await asyncio.wait_for(cancelling, timeout=2)
