"""Connecting through a ring: sockets, binds and connects of a batch, submitted as entries that were written once.

Each of the three is a submission of its own. Linked to each other they take 4 us more for a connection (6.18), and the
descriptors would have to be known beforehand. Rings bind since 6.11; before, that is a system call for each socket.

The descriptors are ordinary ones, so everything else can be asked of them as of any other. The sockets block: a connect
without an answer then waits in the ring, and its completion is its outcome. But a ring takes a connect that an ICMP
error refuses for established, for it looks at sk_err, and that error is in sk_err_soft and the queue of errors
(io_connect(), tcp_v4_err(); measured on 6.1 and 6.12). So where ICMP has come, what says 0 is asked of poll(2).
"""

import ctypes
import errno
import select
import socket
import struct
from array import array
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from lab.guest.connects import Address, Connects, Outcome, outcome_of
from lab.guest.files import close_all
from lab.guest.polling import poll_all
from lab.guest.protocol_counters import IcmpMessages
from lab.guest.sockets import bind_next
from lab.guest.sources import Run, Source
from lab.guest.uring import ring as io_uring
from lab.guest.uring.ring import ADDRESS, FD, LONGS, QUIET, TAG, WORDS, Completed, Ring, any_failed, entry

_MOST = 512  # connects in one submission
_SOCKETS, _BINDS, _CONNECTS = 0, _MOST, 2 * _MOST  # where their entries begin
_COMPLETIONS = 4096
_CONNECT, _BIND, _SOCKET, _CANCEL = range(4)  # the high word of a tag; the low one is the descriptor
_ADDRESS_BYTES, _SHORTS = 16, 8  # struct sockaddr_in
# numbers of 16 bits each, in network order: ones, and from 0 on
_ONES = int.from_bytes(b"\0\1" * _MOST, "big")
_COUNTING = int.from_bytes(struct.pack("!{}H".format(_MOST), *range(_MOST)), "big")
_TURNS_TO_CANCEL = 64


class RingConnects(Connects):
    """Begins IPv4 connections through a ring of this process."""

    def __init__(self, addresses: Sequence[Address], runs: Optional[Iterator[Run]] = None, binds: bool = True) -> None:
        """To `addresses`; without `runs` of sources the kernel chooses where a connection comes from. `binds` says
        whether this kernel's rings bind. Raises OSError for what Ring does.
        """
        self._binds = binds
        self._runs = runs
        self._source, self._ports = "", range(0)  # what is left of a run
        self._ring = Ring(3 * _MOST, _COMPLETIONS)
        self._targets = array("B", b"".join(map(_sockaddr, addresses)))
        first = self._targets.buffer_info()[0]
        self._pointers = range(first, first + len(self._targets), _ADDRESS_BYTES)
        self._from = array("H", [socket.AF_INET] + [0] * (_SHORTS - 1)) * _MOST  # a struct sockaddr_in for each
        first = self._from.buffer_info()[0]
        self._places = array("Q", range(first, first + _ADDRESS_BYTES * _MOST, _ADDRESS_BYTES))
        self._written: Sequence[int] = ()  # the targets that the entries of connects have
        self._icmp = IcmpMessages()
        self._waiting = 0  # connects without an outcome
        self._early: List[Outcome] = []  # which came with something else
        self._write_entries()

    def fileno(self) -> int:
        """What the loop watches."""
        return self._ring.fileno()

    def begin(self, targets: Sequence[int]) -> Tuple[Sequence[int], Optional[Dict[int, int]]]:
        """Begin a connection to each; see Connects."""
        count = len(targets)
        if not count:
            return [], None
        alone = not self._waiting
        fds = opened = self._bound_sockets(count)
        if any_failed(fds):
            targets = [target for fd, target in zip(fds, targets) if fd >= 0]
            opened = array("i", [fd for fd in fds if fd >= 0])
        self._write(_CONNECTS, opened)
        self._write_targets(targets)
        self._ring.submit(_CONNECTS, len(opened), len(opened))
        self._waiting += len(opened)
        completed = self._ring.completed()
        fine = len(completed.results) == count and not completed.results.tobytes().strip(b"\0")
        if alone and fine and not self._icmp.has_come():
            self._waiting = 0
            return fds, None
        return fds, dict(self._sorted(completed))

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
        self._icmp.close()

    def _write_entries(self) -> None:
        ring, size = self._ring, _ADDRESS_BYTES
        kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
        ring.write(_SOCKETS, entry(io_uring.SOCKET, fd=socket.AF_INET, address2=kind, tag=_SOCKET << 32) * _MOST)
        ring.write(_BINDS, entry(io_uring.BIND, QUIET, address2=size, tag=_BIND << 32) * _MOST)
        ring.write(_CONNECTS, entry(io_uring.CONNECT, address2=size, tag=_CONNECT << 32) * _MOST)
        ring.longs[_BINDS * LONGS + ADDRESS : _CONNECTS * LONGS : LONGS] = self._places

    def _bound_sockets(self, count: int) -> "array[int]":
        """The descriptors of new sockets that have the next sources, or -errno."""
        if self._runs is None:
            return self._sockets(count)
        fds = self._sockets(count)
        if not any_failed(fds):
            refused = self._bind(fds)
        else:
            refused = {fd: errno.EADDRINUSE for fd in fds if fd >= 0}  # few are left to open
        for index, fd in enumerate(fds) if refused else ():
            if fd in refused:
                fds[index] = _bound_elsewhere(fd, refused[fd], self._sources())
        return fds

    def _sockets(self, count: int) -> "array[int]":
        """The descriptors of new sockets, or -errno."""
        self._ring.submit(_SOCKETS, count, count)
        completed = self._ring.completed()
        made = completed.results
        if completed.kinds != array("i", [_SOCKET]) * len(made):  # beside outcomes of earlier connects
            made = array("i", [made[index] for index, kind in enumerate(completed.kinds) if kind == _SOCKET])
            self._early += self._sorted(completed)
        if len(made) != count:
            raise OSError(errno.EIO, "the ring made {} of {} sockets".format(len(made), count))
        return made

    def _bind(self, fds: "array[int]") -> Dict[int, int]:
        """Bind to the next sources; those that could not be, and the errno of each."""
        self._write_sources(len(fds))
        if not self._binds:
            refused = {}
            for fd, place in zip(fds, self._places):
                if _bind(fd, place, _ADDRESS_BYTES) < 0:
                    refused[fd] = ctypes.get_errno()
            return refused
        self._write(_BINDS, fds)
        self._ring.submit(_BINDS, len(fds), 0)  # nothing is heard of those that are bound
        completed = self._ring.completed()
        self._early += self._sorted(completed)
        return {fd: -result for fd, kind, result in zip(*completed) if kind == _BIND}

    def _write(self, first: int, fds: "array[int]") -> None:
        """Write descriptors into the entries from `first`."""
        numbers, end = array("I", fds.tobytes()), first + len(fds)
        self._ring.words[first * WORDS + FD : end * WORDS : WORDS] = numbers
        self._ring.words[first * WORDS + TAG : end * WORDS : WORDS] = numbers

    def _write_targets(self, targets: Sequence[int]) -> None:
        """Write where the connects go; in turn to all, a batch mostly goes where the last one went."""
        if targets != self._written:
            pointers = array("Q", map(self._pointers.__getitem__, targets))
            end = _CONNECTS + len(targets)
            self._ring.longs[_CONNECTS * LONGS + ADDRESS : end * LONGS : LONGS] = pointers
            self._written = targets

    def _write_sources(self, count: int) -> None:
        ports, addresses = b"", b""
        while len(ports) < 2 * count:
            address, taken = self._next_run(count - len(ports) // 2)
            ports += _network_ports(taken)
            addresses += socket.inet_aton(address) * len(taken)
        shorts = memoryview(self._from)
        shorts[1 : count * _SHORTS : _SHORTS] = array("H", ports)
        shorts.cast("B").cast("I")[1 : count * _SHORTS // 2 : _SHORTS // 2] = array("I", addresses)

    def _sources(self) -> Iterator[Source]:
        """The next ones, one at a time."""
        while True:
            address, (port,) = self._next_run(1)
            yield address, port

    def _next_run(self, most: int) -> Run:
        """An address, and its next ports; raises OSError where every source is used."""
        if not self._ports:
            try:
                self._source, self._ports = next(self._runs or iter(()))
            except StopIteration:
                raise OSError(errno.EADDRNOTAVAIL, "every source is used") from None
        taken, self._ports = self._ports[:most], self._ports[most:]
        return self._source, taken

    def _sorted(self, completed: Completed) -> List[Outcome]:
        """The outcomes of connects among what has completed, and those that came with something else before."""
        mine = [(fd, -result) for fd, kind, result in zip(*completed) if kind == _CONNECT]
        self._waiting -= len(mine)
        fine = [fd for fd, code in mine if not code]
        events = dict(zip(fine, poll_all(fine, select.POLLOUT)))
        mine = [(fd, code or outcome_of(fd, events[fd])) for fd, code in mine]
        outcomes, self._early = self._early + mine, []
        return outcomes


_bind = ctypes.CDLL(None, use_errno=True).bind
_bind.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint]


def _network_ports(ports: range) -> bytes:
    """Up to _MOST ports that follow each other, in network order: made by one addition, without an object for each."""
    spare = 16 * (_MOST - len(ports))
    return ((_COUNTING >> spare) + ports.start * (_ONES >> spare)).to_bytes(2 * len(ports), "big")


def _sockaddr(address: Address) -> bytes:
    """An address as a struct sockaddr_in."""
    host, port = address
    return array("H", [socket.AF_INET]).tobytes() + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def _bound_elsewhere(fd: int, code: int, sources: Iterator[Source]) -> int:
    """A socket that could not have its source, with the next one that is free; or closed, and -errno."""
    sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, fd)
    try:
        if code != errno.EADDRINUSE:
            raise OSError(code, "bind")
        bind_next(sock, sources)
    except OSError as error:
        sock.close()
        return -(error.errno or errno.EIO)
    return sock.detach()
