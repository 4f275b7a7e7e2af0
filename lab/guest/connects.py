"""How connections are begun and their outcomes learnt, by connect(2), poll(2) and epoll(7).

Over loopback the kernel completes a handshake within connect(2), so one poll(2) for a whole batch tells nearly all
outcomes; only what is still pending then is watched.
"""

import errno
import select
import socket
from abc import ABC, abstractmethod
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from lab.guest.files import close_all
from lab.guest.polling import poll_all
from lab.guest.sockets import bind_next, socket_maker
from lab.guest.sources import Source

Address = Tuple[str, int]
Outcome = Tuple[int, int]  # of a descriptor: 0 where its connection is established, else an errno

_CLOSED = select.POLLERR | select.POLLHUP | select.POLLRDHUP  # epoll's constants are the same numbers
_IN_PROGRESS = (0, errno.EINPROGRESS)
_EVENTS_PER_POLL = 4096


class Connects(ABC):
    """Begins connections."""

    @abstractmethod
    def fileno(self) -> int:
        """What the loop watches: readable when there are outcomes of earlier connects."""

    @abstractmethod
    def begin(self, targets: Sequence[int]) -> Tuple[Sequence[int], Optional[Dict[int, int]]]:
        """Begin a connection to each of these, which are numbers of addresses: the descriptor of each, or -errno, and
        the outcomes that there are, also of earlier ones.

        None instead of the outcomes means that every one of these is established, and there is no other: then nothing
        is done here for a single connection that the kernel does not ask for.
        """

    @abstractmethod
    def later(self) -> List[Outcome]:
        """The outcomes that have come since."""

    @abstractmethod
    def abandon(self, fds: Iterable[int]) -> None:
        """Close connections that have no outcome yet."""

    @abstractmethod
    def close(self) -> None:
        """Give up what this has of its own."""


class PolledConnects(Connects):
    """Begins connections by system calls of their own."""

    _type = socket.SOCK_STREAM

    def __init__(self, addresses: Sequence[Address], sources: Optional[Iterator[Source]] = None) -> None:
        """To `addresses` of one family; without `sources` the kernel chooses where a connection comes from."""
        self._addresses = addresses
        self._sources = sources
        self._new_socket = socket_maker(_family_of(addresses), self._type, sources is not None)
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """What the loop watches."""
        return self._epoll.fileno()

    def begin(self, targets: Sequence[int]) -> Tuple[Sequence[int], Optional[Dict[int, int]]]:
        """Begin a connection to each; see Connects."""
        fds: List[int] = []
        new_socket, bind, sources = self._new_socket, bind_next, self._sources
        for address in map(self._addresses.__getitem__, targets):
            try:
                sock = new_socket()
                if sources is not None:
                    bind(sock, sources)
            except OSError as error:
                fds.append(-(error.errno or errno.EIO))
                continue
            code = sock.connect_ex(address)
            if code in _IN_PROGRESS:
                fds.append(sock.detach())
            else:
                sock.close()
                fds.append(-code)
        events = poll_all(fds, select.POLLOUT)
        return fds, None if events.count(select.POLLOUT) == len(targets) else self._sort_out(fds, events)

    def later(self) -> List[Outcome]:
        """The outcomes that have come since."""
        answered = self._epoll.poll(0, _EVENTS_PER_POLL)
        for fd, _ in answered:
            self._epoll.unregister(fd)
        return [(fd, outcome_of(fd, events)) for fd, events in answered]

    def abandon(self, fds: Iterable[int]) -> None:
        """Close connections that have no outcome yet."""
        close_all(fds)  # a descriptor leaves the epoll as it is closed (epoll(7))

    def close(self) -> None:
        """Give up what this has of its own."""
        self._epoll.close()

    def _sort_out(self, fds: Sequence[int], events: Sequence[int]) -> Dict[int, int]:
        """The outcomes of a batch that are there; the others are watched."""
        outcomes = {}
        for fd, event in zip(fds, events):
            if event:
                outcomes[fd] = outcome_of(fd, event)
            elif fd >= 0:
                self._epoll.register(fd, select.EPOLLOUT)
        return outcomes


def outcome_of(fd: int, events: int) -> int:
    """0, or the errno of what has happened to a connect, by the events of its descriptor."""
    if not events & _CLOSED:
        return 0
    with socket.socket(fileno=fd) as sock:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        sock.detach()
    return code or errno.ENOTCONN


def _family_of(addresses: Sequence[Address]) -> int:
    return socket.AF_INET6 if any(":" in address for address, _ in addresses) else socket.AF_INET
