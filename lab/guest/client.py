"""The connecting side of the load: batches of connects, and what becomes of each.

asyncio's own way (a Future, a callback and a transport per connection) costs 3 to 10 times the CPU of a connect. Here
the loop sees a single descriptor, of `connects` or of `uring.connects`.
"""

import asyncio
import errno
import os
import select
from array import array
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from lab.guest.connects import Connects, PolledConnects
from lab.guest.exchange import Exchange
from lab.guest.pace import Pace
from lab.guest.polling import poll_all
from lab.guest.resends import Resends
from lab.guest.states import FAILED, HELD, LOST, OPENING, Target, addresses, by_port, round_robin, runs

_BATCH = 512  # connects between two looks at the loop; in an emulated guest every change of process is dear
_WINDOW = 2048  # connects that may be unanswered at once, to begin with
_MAX_CLOSED = 2048  # of stalled connections; an emulated machine takes 40 us for each
_FDS_PER_LOOK = 1024


class Client:
    """Opens the connections of `targets` and holds them; `on_settled` is called whenever none is pending any more."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        targets: Sequence[Target],
        on_settled: Callable[[], None],
        rate_per_second: float = 0.0,
        connects: Optional[Connects] = None,
    ) -> None:
        """A rate of 0 is as fast as it goes. `connects` is for the addresses of `targets`."""
        self._loop = loop
        self._pace = Pace(rate_per_second, _BATCH)
        self._on_settled = on_settled
        self.total = sum(count for _, _, count in targets)
        self.attempted = 0
        self.held = 0
        self.failed = 0
        self.lost = 0
        self.open_peak = 0
        self.errors: Dict[str, int] = {}
        self._window = _WINDOW
        self._settled_at_tick = 0
        self._states = bytearray(self.total)
        self._fds = array("i")  # of each connection in the order of opening; -1 for one that is closed
        self._watched: Dict[int, int] = {}  # descriptors of unanswered connects, and which connections these are
        self._targets = targets
        self._order = round_robin(targets)
        self._connects = connects or PolledConnects(addresses(targets))
        self._paused = False
        self._finished = False
        self._resends = Resends()
        self._exchange: Optional[Exchange] = None

    @property
    def pending(self) -> int:
        """Connects begun whose outcome is not known."""
        return self.attempted - self.held - self.failed - self.lost

    @property
    def open(self) -> int:
        """Established connections that are there now."""
        return self.held

    @property
    def settled(self) -> bool:
        """True when every connection was tried and has an outcome."""
        return self.attempted == self.total and self.pending == 0

    def start(self) -> None:
        """Begin; returns at once."""
        self._resends = Resends()  # of the moment at which the load begins
        self._loop.add_reader(self._connects.fileno(), self._on_ready)
        self._open_batch()

    def tick(self) -> None:
        """Widen the window when it is full and next to nothing was answered since the last tick: stalled connects must
        not hide the rest, also not where a full table lets one through now and then.
        """
        settled = self.held + self.failed + self.lost
        if self._paused and settled - self._settled_at_tick < _BATCH:
            self._window *= 2
            self._resume()
        self._settled_at_tick = settled

    def progress(self) -> Dict[str, Any]:
        """Counts so far."""
        return {
            "attempted": self.attempted,
            "held": self.held,
            "failed": self.failed,
            "lost": self.lost,
            "pending": self.pending,
            "resent": self._resent(),
            "open": self.open,
            "open_peak": self.open_peak,
            "errors": dict(self.errors),
            **self._exchanged(),
        }

    def _resent(self) -> int:
        return self._resends.any_of(self._watched)

    def _exchanged(self) -> Dict[str, int]:
        exchange = self._exchange
        return {} if exchange is None else {"asked": exchange.asked, "answered": exchange.answered}

    def outcome(self) -> Dict[str, Any]:
        """The end's counts, which connections are in which state, and what the stalled ones waited for.

        No further connection is opened after this. Those that are held stay as they are; those that stalled are closed,
        so that what they have sent is known, and no counter rises for them afterwards. Of many that takes too long:
        those stay, too.
        """
        self._finished = True
        self._take_answers()
        self._find_lost()
        outcome = dict(
            self.progress(),
            runs=runs(self._states),
            stalled=self._resends.examine(self._watched),
            held_resent=self._resends.of_held(self._held_fds()),
            ports=by_port(self._targets, self._states),
        )
        if len(self._watched) <= _MAX_CLOSED:
            self._close_stalled()
        return outcome

    def exchange(self) -> None:
        """Send a byte over every held connection, and count the answers from now on."""
        self._exchange = Exchange(self._loop, self._held_fds(), answers=False)

    def close(self) -> None:
        """Close every connection. A worker leaves that to its own end."""
        self._loop.remove_reader(self._connects.fileno())
        self._connects.close()
        for fd in self._fds:
            if fd >= 0:
                os.close(fd)
        del self._fds[:]

    def _open_batch(self) -> None:
        if self._finished:
            return
        room = min(self._window - self.pending, self.total - self.attempted)
        self._connect(self._pace.take(self._loop.time(), room))
        self._paused = self.attempted < self.total and self.pending >= self._window
        if self.settled:
            self._on_settled()
        elif self.attempted < self.total and not self._paused:
            self._open_more()

    def _open_more(self) -> None:
        if self._pace.turn_seconds:
            self._loop.call_later(self._pace.turn_seconds, self._open_batch)
        else:
            self._loop.call_soon(self._open_batch)

    def _connect(self, count: int) -> None:
        """Begin the next connects, and note the outcome of each that has one already."""
        first = self.attempted
        self.attempted += count
        fds, outcomes = self._connects.begin(self._order[first : first + count])
        self._fds.extend(array("i", fds))
        if outcomes is None:
            self._states[first : first + count] = bytes([HELD]) * count
            self._hold(range(first, first + count))
        else:
            self._sort_out(first, fds, outcomes)

    def _sort_out(self, first: int, fds: Sequence[int], outcomes: Dict[int, int]) -> None:
        """Take a batch that begins at number `first`, and the outcomes of its connects and of earlier ones."""
        for index, fd in enumerate(fds, first):
            if fd < 0:
                self._fds[index] = -1
                self._fail(index, -fd)
            else:
                self._states[index] = OPENING
                self._watched[fd] = index
        self._note((self._watched.pop(fd), code) for fd, code in outcomes.items())

    def _on_ready(self) -> None:
        self._take_answers()
        if self.settled:
            self._on_settled()
        else:
            self._resume()

    def _take_answers(self) -> None:
        self._note((self._watched.pop(fd), code) for fd, code in self._connects.later())

    def _note(self, outcomes: Iterable[Tuple[int, int]]) -> None:
        """Take the outcomes of connects: the number of each, and 0 or an errno."""
        established = []
        for index, code in outcomes:
            if code:
                os.close(self._fds[index])
                self._fds[index] = -1
                self._fail(index, code)
            else:
                self._states[index] = HELD
                established.append(index)
        self._hold(established)

    def _hold(self, indexes: Sequence[int]) -> None:
        self.held += len(indexes)
        self.open_peak = max(self.open_peak, self.open)
        self._keep(indexes)

    def _keep(self, indexes: Sequence[int]) -> None:
        """What becomes of connections that were just established; these are held."""

    def _resume(self) -> None:
        if self._paused and self.pending < self._window:
            self._paused = False
            self._open_more()

    def _fail(self, index: int, code: int) -> None:
        name = errno.errorcode.get(code, "errno {}".format(code))
        self._states[index] = FAILED
        self.failed += 1
        self.errors[name] = self.errors.get(name, 0) + 1

    def _find_lost(self) -> None:
        """Held connections that the other side has closed since: looked for once, at the end. One that is not
        established at all, whatever was said of it, is one without an answer.
        """
        for first in range(0, len(self._fds), _FDS_PER_LOOK):
            fds = self._fds[first : first + _FDS_PER_LOOK]
            seen = poll_all(fds, select.POLLOUT | select.POLLRDHUP)
            fine = seen.count(select.POLLOUT) + fds.count(-1) == len(fds)
            for index, (fd, events) in enumerate(zip(fds, seen), first) if not fine else ():
                if self._states[index] != HELD or fd < 0 or events == select.POLLOUT:
                    continue
                self.held -= 1
                if events:
                    self._states[index] = LOST
                    self.lost += 1
                else:
                    self._states[index] = OPENING
                    self._watched[fd] = index

    def _held_fds(self) -> List[int]:
        return [fd for fd, state in zip(self._fds, self._states) if state == HELD]

    def _close_stalled(self) -> None:
        for index in self._watched.values():
            self._fds[index] = -1
        self._connects.abandon(self._watched)
        self._watched.clear()
