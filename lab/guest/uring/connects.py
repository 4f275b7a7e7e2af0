"""Connecting through a ring: sockets, binds and connects of a batch, submitted as entries that were written once.

The descriptors are ordinary ones, so everything else can be asked of them as of any other. The sockets block: a connect
without an answer then waits in the ring, and its completion is its outcome.
"""

import errno
import socket
import struct
import sys
from array import array
from itertools import islice
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from lab.guest.connects import Address, Connects, Outcome
from lab.guest.files import close_all
from lab.guest.sockets import bind_next
from lab.guest.sources import Source
from lab.guest.uring import ring as io_uring
from lab.guest.uring.ring import ADDRESS, FD, LINKED, LONGS, QUIET, TAG, WORDS, Completed, Ring, entry

_MOST = 512  # connects in one submission
_SOCKETS, _BOUND, _PLAIN = 0, _MOST, 3 * _MOST  # where the entries begin: socket; bind and connect in turn; connect
_COMPLETIONS = 4096
_CONNECT, _BIND, _SOCKET, _CANCEL = range(4)  # the high word of a tag; the low one is the descriptor
_ADDRESS_BYTES, _SHORTS = 16, 8  # struct sockaddr_in
_TURNS_TO_CANCEL = 64


class RingConnects(Connects):
    """Begins IPv4 connections through a ring of this process."""

    def __init__(self, sources: Optional[Iterator[Source]] = None) -> None:
        """Without `sources` the kernel chooses where a connection comes from. Raises OSError for what Ring does."""
        self._sources = sources
        self._ring = Ring(4 * _MOST, _COMPLETIONS)
        self._binds = sources is not None and io_uring.BIND in io_uring.supported()
        self._targets = _Pointers()
        self._from = array("H", [socket.AF_INET] + [0] * (_SHORTS - 1)) * _MOST  # a struct sockaddr_in for each
        self._waiting = 0  # connects without an outcome
        self._early: List[Outcome] = []  # which came with something else
        self._write_entries()

    def fileno(self) -> int:
        """What the loop watches."""
        return self._ring.fileno()

    def begin(self, addresses: Iterator[Address], count: int) -> Tuple[Sequence[int], Optional[Dict[int, int]]]:
        """Begin the next `count`; see Connects."""
        if not count:
            return [], None
        alone = not self._waiting
        fds = self._sockets(count)
        targets = array("Q", map(self._targets.__getitem__, islice(addresses, count)))
        opened = fds
        if min(fds) < 0:
            targets = array("Q", [target for fd, target in zip(fds, targets) if fd >= 0])
            opened = array("i", [fd for fd in fds if fd >= 0])
        self._submit(opened, targets)
        completed = self._ring.completed()
        if alone and len(completed.results) == count and not any(completed.results):
            self._waiting = 0
            return fds, None
        outcomes = dict(self._sorted(completed))
        self._try_other_sources(dict(zip(opened, targets)), outcomes)
        return fds, outcomes

    def later(self) -> List[Outcome]:
        """The outcomes that have come since."""
        return self._sorted(self._ring.completed())

    def abandon(self, fds: Iterable[int]) -> None:
        """Close connections that have no outcome yet. Nothing can be begun afterwards."""
        self._ring.write(0, entry(io_uring.ASYNC_CANCEL, op_flags=io_uring.CANCEL_EVERY, tag=_CANCEL << 32))
        self._ring.submit(0, 1, 1)
        for _ in range(_TURNS_TO_CANCEL):
            self._sorted(self._ring.completed(self._waiting))
            if not self._waiting:
                break
        close_all(fds)

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()

    def _write_entries(self) -> None:
        ring, size = self._ring, _ADDRESS_BYTES
        new = entry(io_uring.SOCKET, fd=socket.AF_INET, address2=socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        bind = entry(io_uring.BIND, LINKED | QUIET, address2=size, tag=_BIND << 32)
        connect = entry(io_uring.CONNECT, address2=size, tag=_CONNECT << 32)
        ring.write(_SOCKETS, new * _MOST)
        ring.words[TAG + 1 : _MOST * WORDS : WORDS] = array("I", [_SOCKET]) * _MOST
        ring.write(_BOUND, (bind + connect) * _MOST)
        ring.write(_PLAIN, connect * _MOST)
        first = self._from.buffer_info()[0]
        own = array("Q", range(first, first + size * _MOST, size))
        ring.longs[_BOUND * LONGS + ADDRESS : _PLAIN * LONGS : 2 * LONGS] = own

    def _sockets(self, count: int) -> "array[int]":
        """The descriptors of new sockets, or -errno; bound where the ring cannot do that."""
        if self._sources is not None and not self._binds:
            return array("i", [_bound_socket(self._sources) for _ in range(count)])
        self._ring.submit(_SOCKETS, count, count)
        completed = self._ring.completed()
        made = completed.results
        if completed.kinds.count(_SOCKET) < len(made):  # beside outcomes of earlier connects
            made = array("i", [made[index] for index, kind in enumerate(completed.kinds) if kind == _SOCKET])
            self._early += self._sorted(completed)
        if len(made) != count:
            raise OSError(errno.EIO, "the ring made {} of {} sockets".format(len(made), count))
        return made

    def _submit(self, fds: "array[int]", targets: "array[int]") -> None:
        """Connect each to its target, which is an address in memory; bound to the next sources where that is to do."""
        if self._binds:
            self._write_sources(len(fds))
            self._fill(_BOUND, 2, fds)
            self._fill(_BOUND + 1, 2, fds, targets)
            self._ring.submit(_BOUND, 2 * len(fds), len(fds))
        else:
            self._fill(_PLAIN, 1, fds, targets)
            self._ring.submit(_PLAIN, len(fds), len(fds))
        self._waiting += len(fds)

    def _fill(self, first: int, step: int, fds: "array[int]", targets: Optional["array[int]"] = None) -> None:
        """Write the descriptors into every `step`th entry from `first`, and where they shall connect to."""
        ring, end = self._ring, first + step * len(fds)
        numbers = array("I", fds)
        for field in (FD, TAG):
            ring.words[first * WORDS + field : end * WORDS : step * WORDS] = numbers
        if targets is not None:
            ring.longs[first * LONGS + ADDRESS : end * LONGS : step * LONGS] = targets

    def _write_sources(self, count: int) -> None:
        taken = list(islice(self._sources or (), count))
        if len(taken) < count:
            raise OSError(errno.EADDRNOTAVAIL, "every source is used")
        ports = array("H", [port for _, port in taken])
        if sys.byteorder == "little":
            ports.byteswap()
        shorts = memoryview(self._from)
        shorts[1 : count * _SHORTS : _SHORTS] = ports
        words = shorts.cast("B").cast("I")
        if taken[0][0] == taken[-1][0]:  # all ports of one address come before those of the next
            addresses = array("I", socket.inet_aton(taken[0][0])) * count
        else:
            addresses = array("I", b"".join(socket.inet_aton(address) for address, _ in taken))
        words[1 : count * _SHORTS // 2 : _SHORTS // 2] = addresses

    def _sorted(self, completed: Completed) -> List[Outcome]:
        """The outcomes of connects among what has completed, and those that were left over before."""
        # a bind that fails completes alone: of what is linked to a quiet operation nothing is heard then
        mine = [(fd, -result) for fd, kind, result in zip(*completed) if kind in (_CONNECT, _BIND)]
        self._waiting -= len(mine)
        outcomes, self._early = self._early + mine, []
        return outcomes

    def _try_other_sources(self, targets: Dict[int, int], outcomes: Dict[int, int]) -> None:
        """Connect those of a batch from elsewhere whose source somebody else has taken."""
        if self._sources is None:
            return
        again = array("i")
        for fd in [fd for fd, code in outcomes.items() if code == errno.EADDRINUSE and fd in targets]:
            outcomes[fd] = _bind(fd, self._sources)
            if not outcomes[fd]:
                again.append(fd)
                del outcomes[fd]
        if again:
            self._fill(_PLAIN, 1, again, array("Q", [targets[fd] for fd in again]))
            self._ring.submit(_PLAIN, len(again), len(again))
            self._waiting += len(again)
            outcomes.update(self._sorted(self._ring.completed()))


class _Pointers(Dict[Address, int]):
    """Where in memory the kernel finds each address, as a struct sockaddr_in that stays as long as this does."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: List["array[int]"] = []

    def __missing__(self, address: Address) -> int:
        host, port = address
        head = array("H", [socket.AF_INET]).tobytes() + struct.pack("!H", port)
        self._kept.append(array("B", head + socket.inet_aton(host) + bytes(8)))
        self[address] = pointer = self._kept[-1].buffer_info()[0]
        return pointer


def _bound_socket(sources: Iterator[Source]) -> int:
    """The descriptor of a socket that has the next source, or -errno."""
    try:
        sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        bind_next(sock, sources)
    except OSError as error:
        return -(error.errno or errno.EIO)
    return sock.detach()


def _bind(fd: int, sources: Iterator[Source]) -> int:
    """Bind to the next source that is free; 0 or an errno."""
    sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, fd)
    try:
        bind_next(sock, sources)
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        sock.detach()
    return 0
