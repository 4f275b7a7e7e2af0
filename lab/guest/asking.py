"""The load `udp` with answers: a datagram, its answer, and another one two seconds later, as streams have them.

The kernel takes a UDP entry for assured, and so not to be evicted, once it has seen an answer and a packet that came
two seconds after the first (nf_conntrack_udp_packet() in net/netfilter/nf_conntrack_proto_udp.c; older ones take the
first packet after the answer).
"""

import asyncio
import errno
import os
import select
import socket
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from lab.guest.client import Client
from lab.guest.connects import Address, Outcome, PolledConnects, outcome_of
from lab.guest.server import Server
from lab.guest.sockets import bind_next
from lab.guest.sources import Source
from lab.guest.states import Target, by_port, runs

_STREAM_SECONDS = 2.3
_ASK_AGAIN_SECONDS = 1.0
_MAX_ASKS = 4
_QUESTION, _ANSWER, _MORE = b"?", b"!", b"+"
_EVENTS_PER_POLL = 4096
_DATAGRAMS_PER_TURN = 1024
_BUFFER_BYTES = 64 * 1024 * 1024
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_GONE = (errno.EAGAIN, errno.EWOULDBLOCK)


class Questions(PolledConnects):
    """Asks from a socket of its own for each connection; what is answered counts as established."""

    _type = socket.SOCK_DGRAM

    def __init__(self, addresses: Sequence[Address], sources: Optional[Iterator[Source]] = None) -> None:
        """As PolledConnects."""
        super().__init__(addresses, sources)
        self.asked_at: Dict[int, Tuple[float, int]] = {}  # of descriptors without an answer: when last, how often

    def begin(self, targets: Sequence[int]) -> Tuple[Sequence[int], Optional[Dict[int, int]]]:
        """Ask each: its descriptor, or -errno; no answer is looked for yet."""
        now = time.monotonic()  # as the loop's
        fds = [self._ask(self._addresses[target]) for target in targets]
        for fd in fds:
            if fd >= 0:
                self.asked_at[fd] = (now, 1)
                self._epoll.register(fd, select.EPOLLIN)
        return fds, {}

    def later(self) -> List[Outcome]:
        """The answers that have come since."""
        answered = self._epoll.poll(0, _EVENTS_PER_POLL)
        for fd, events in answered:
            self._epoll.unregister(fd)
            self.asked_at.pop(fd, None)
            if events == select.EPOLLIN:
                os.read(fd, 16)
        return [(fd, outcome_of(fd, events)) for fd, events in answered]

    def _ask(self, address: Address) -> int:
        sock = None
        try:
            sock = self._new_socket()
            if self._sources is not None:
                bind_next(sock, self._sources)
            sock.connect(address)
            sock.send(_QUESTION)
            return sock.detach()
        except OSError as error:
            if sock is not None:
                sock.close()
            return -(error.errno or errno.EIO)


class AskingClient(Client):
    """Asks from one socket for each of `targets`' connections; one that was answered is held."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        targets: Sequence[Target],
        on_settled: Callable[[], None],
        rate_per_second: float,
        questions: Questions,
    ) -> None:
        super().__init__(loop, targets, on_settled, rate_per_second, questions)
        self._asked_at = questions.asked_at
        self._due: List[Tuple[float, List[int]]] = []  # answered ones, and when they speak once more

    @property
    def open(self) -> int:
        """Those that were answered and have not spoken once more yet."""
        return sum(len(fds) for _, fds in self._due)

    @property
    def settled(self) -> bool:
        """True when every one was tried, has an outcome, and has spoken once more."""
        return super().settled and not self._due

    def tick(self) -> None:
        """Ask again where no answer came, as resolvers do; let streams speak once more that are old enough."""
        super().tick()
        now = self._loop.time()
        while self._due and self._due[0][0] <= now:
            for fd in self._due.pop(0)[1]:
                self._send(fd, _MORE)
        for fd, (asked, times) in list(self._asked_at.items()):
            if now - asked >= _ASK_AGAIN_SECONDS and times < _MAX_ASKS:
                self._asked_at[fd] = (now, times + 1)
                self._send(fd, _QUESTION)
        if self.settled:
            self._on_settled()

    def _resent(self) -> int:
        """How many had to ask again, and have no answer yet."""
        return sum(times > 1 for _, times in self._asked_at.values())

    def outcome(self) -> Dict[str, Any]:
        """The end's counts, with the keys of Client's; what is sent again here are questions."""
        self._finished = True
        self._take_answers()
        times = [count for _, count in self._asked_at.values()]
        stalled = {
            "examined": len(times),
            "syn_retransmitted": sum(count > 1 for count in times),
            "syns": sum(times),
        }
        return dict(
            self.progress(),
            runs=runs(self._states),
            stalled=stalled,
            held_resent=0,
            ports=by_port(self._targets, self._states),
        )

    def _keep(self, indexes: Sequence[int]) -> None:
        fds = [self._fds[index] for index in indexes]
        if fds and not self._finished:
            self._due.append((self._loop.time() + _STREAM_SECONDS, fds))

    def _send(self, fd: int, word: bytes) -> None:
        """What is refused here would have been lost on its way just as well."""
        try:
            os.write(fd, word)
        except OSError:
            pass


class AnsweringServer(Server):
    """Answers every question, and counts whom it has answered."""

    def start(self) -> None:
        """Begin to answer; returns at once."""
        self._answered: Set[Any] = set()
        for listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._answer, listener)

    def outcome(self) -> Dict[str, Any]:
        """The end's counts; no queue of a listener drops anything here."""
        return dict(self.progress(), strangers=self.strangers)

    def _answer(self, listener: socket.socket) -> None:
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                word, peer = listener.recvfrom(16)
                if word == _QUESTION and _is_sent(listener, peer):
                    self._count(listener, peer)
            except OSError as error:
                if error.errno not in _GONE:
                    name = errno.errorcode.get(error.errno or 0, str(error))
                    self.errors[name] = self.errors.get(name, 0) + 1
                return
        if self.accepted >= self._expected:
            self._on_expected()

    def _count(self, listener: socket.socket, peer: Tuple[Any, ...]) -> None:
        key = (listener.fileno(), peer[:2])
        if key in self._answered:
            return
        self._answered.add(key)
        if self._accepts.is_own(peer[0]):
            self.accepted += 1
        else:
            self.strangers += 1

    def _listener(self, address: str, port: int, backlog: int) -> socket.socket:
        """`backlog` is how many will ask: all of their questions may come at once."""
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            listener.bind((address, port))
        except OSError as error:
            listener.close()
            raise OSError(error.errno, "cannot answer on {}:{}: {}".format(address, port, error.strerror))
        listener.setblocking(False)
        return listener


def _is_sent(listener: socket.socket, peer: Tuple[Any, ...]) -> bool:
    """Send the answer. A full table refuses one whose entry was evicted meanwhile: then the other side asks again."""
    try:
        listener.sendto(_ANSWER, peer)
    except PermissionError:
        return False
    return True
