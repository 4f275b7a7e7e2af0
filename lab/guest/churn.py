"""The load `churn`: connections that are opened, kept for a while and closed again, while the table keeps its entries.

How a connection is closed decides for how long its entry stays (net/netfilter/nf_conntrack_proto_tcp.c): `fin` leaves
TIME_WAIT (120 s), `reset` leaves CLOSE (10 s), and `vanish`, of which no packet tells, leaves ESTABLISHED (5 days).
With `half` the client closes its side and the server never does, which leaves CLOSE_WAIT (60 s).
On several processors loopback can deliver the server's answer to a FIN behind the server's own FIN; such a connection
ends in a reset after all.
"""

import asyncio
import os
import select
import socket
import struct
from collections import deque
from typing import Callable, Deque, Iterable, List, Optional, Sequence, Set, Tuple

from lab.guest.accepts import Accepts
from lab.guest.client import Client
from lab.guest.connects import Connects
from lab.guest.files import close_all
from lab.guest.polling import poll_all
from lab.guest.server import GATHER_SECONDS, Server
from lab.guest.states import LOST, Target

FIN, RESET, VANISH, HALF = CLOSES = ("fin", "reset", "vanish", "half")

_NO_LINGER = struct.pack("ii", 1, 0)  # struct linger: close() sends a reset instead of a FIN (socket(7))
_TCP_REPAIR = 19  # linux/tcp.h, since 3.5
_EVENTS_PER_POLL = 4096


class ChurnClient(Client):
    """Opens the connections of `targets`, and closes each once it has been open for `hold_seconds`.

    A closed connection stays counted in `held`, unless the other side had closed it before its time: it is then lost.
    `on_settled` is called whenever none is pending or open any more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        targets: Sequence[Target],
        on_settled: Callable[[], None],
        rate_per_second: float = 0.0,
        hold_seconds: float = 0.0,
        close: str = FIN,
        connects: Optional[Connects] = None,
    ) -> None:
        """`close` is one of CLOSES; raises OSError if this process may not close in that way."""
        self._end = _ending(close)
        self._hold_seconds = hold_seconds
        self._closed = 0
        self._batches: Deque[Tuple[float, Sequence[int]]] = deque()  # when each is due, in that order
        super().__init__(loop, targets, on_settled, rate_per_second, connects)

    @property
    def open(self) -> int:
        """Established connections that were not closed yet."""
        return self.held - self._closed

    @property
    def settled(self) -> bool:
        """True when every connection was tried, has an outcome and is closed."""
        return super().settled and self.open == 0

    def _keep(self, indexes: Sequence[int]) -> None:
        if not indexes or self._finished:
            return
        if not self._hold_seconds:
            self._end_all(indexes)
            return
        self._batches.append((self._loop.time() + self._hold_seconds, indexes))
        if len(self._batches) == 1:
            self._wait()

    def _wait(self) -> None:
        self._loop.call_at(self._batches[0][0], self._end_due)

    def _end_due(self) -> None:
        """Close what was open for long enough, one batch for each turn of the loop."""
        if self._finished:
            return
        self._end_all(self._without_lost(self._batches.popleft()[1]))
        if self._batches:
            self._wait()
        if self.settled:
            self._on_settled()

    def _end_all(self, indexes: Sequence[int]) -> None:
        fds = self._fds
        ended = [fds[index] for index in indexes]
        for index in indexes:
            fds[index] = -1
        self._end(ended)
        self._closed += len(indexes)

    def _without_lost(self, indexes: Sequence[int]) -> Sequence[int]:
        """Those that are still whole; the others are counted as lost and closed."""
        ended = set(_ended([self._fds[index] for index in indexes]))
        if not ended:
            return indexes
        whole = [index for index in indexes if self._fds[index] not in ended]
        for index in set(indexes).difference(whole):
            self._states[index] = LOST
            os.close(self._fds[index])
            self._fds[index] = -1
        self.held -= len(ended)
        self.lost += len(ended)
        return whole


class ChurnServer(Server):
    """Accepts, and closes what the other side has closed; with `vanish` everything, at once and without a word."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listen: Sequence[Tuple[str, int, int]],
        expected: int,
        on_expected: Callable[[], None],
        gather_seconds: float = GATHER_SECONDS,
        close: str = FIN,
        accepts: Optional[Accepts] = None,
    ) -> None:
        """`close` is one of CLOSES; raises OSError for what Server does, or if this process may not vanish."""
        self._vanish = close == VANISH
        self._end = _ending(VANISH if self._vanish else FIN)
        self._watched: Set[int] = set()
        self._epoll = select.epoll()
        try:
            super().__init__(loop, listen, expected, on_expected, gather_seconds, accepts)
        except OSError:
            self._epoll.close()
            raise

    def start(self) -> None:
        """Begin to accept; returns at once."""
        super().start()
        self._watch()

    def close(self) -> None:
        """Close the listeners and every connection. A worker leaves that to its own end."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        for fd in self._watched:
            os.close(fd)
        self._watched.clear()
        super().close()

    def _keep(self, accepted: List[int]) -> None:
        """One poll(2) finds those that the other side has closed already; only the others cost a watch each."""
        ended = accepted if self._vanish else _ended(accepted)
        self._end(ended)
        if len(ended) < len(accepted):
            for fd in set(accepted).difference(ended):
                self._epoll.register(fd, select.EPOLLRDHUP)
                self._watched.add(fd)

    def _watch(self) -> None:
        ready = self._gather_ends if self._gather_seconds else self._end_ready
        self._loop.add_reader(self._epoll.fileno(), ready)

    def _gather_ends(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._loop.call_later(self._gather_seconds, self._end_gathered)

    def _end_gathered(self) -> None:
        if not self._epoll.closed:
            self._end_ready()
            self._watch()

    def _end_ready(self) -> None:
        for fd, _ in self._epoll.poll(0, _EVENTS_PER_POLL):
            self._watched.discard(fd)
            os.close(fd)  # which ends the watch, too


def _ended(fds: List[int]) -> List[int]:
    """Those that the other side has closed, with FIN or reset."""
    events = poll_all(fds, select.POLLRDHUP)
    return [fd for fd, event in zip(fds, events) if event] if any(events) else []


def _ending(close: str) -> Callable[[Iterable[int]], None]:
    """What closes descriptors in the way of `close`; raises OSError if this process may not."""
    if close == VANISH:
        _may_vanish()
    end = {HALF: _shut_down, RESET: _reset, VANISH: _vanish}.get(close)
    if end is None:
        return close_all

    def end_each(fds: Iterable[int]) -> None:
        for fd in fds:
            sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, fd)
            end(sock)

    return end_each


def _may_vanish() -> None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    except OSError as error:
        raise OSError(error.errno, "connections cannot vanish, which needs CAP_NET_ADMIN: {}".format(error.strerror))


def _shut_down(sock: socket.SocketType) -> None:
    """Close this side alone: the socket stays, for one that no process has would be given up after a minute."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:  # the other side has reset it
        pass
    sock.detach()


def _reset(sock: socket.SocketType) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    sock.close()


def _vanish(sock: socket.SocketType) -> None:
    """Close without a packet: a socket in repair is disconnected silently (tcp_disconnect() in net/ipv4/tcp.c)."""
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    sock.close()
