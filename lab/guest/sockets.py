"""The sockets of a load's connections: made cheaply, and bound to where the connection shall come from."""

import errno
import socket
from functools import partial
from typing import Callable, Iterator

from lab.guest.sources import Source

_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_IP_FREEBIND = 15  # linux/in.h: a source of a prefix that is local as a whole (ip(7)); of IPv6 too


def socket_maker(family: int, kind: int, is_bound: bool) -> Callable[[], socket.SocketType]:
    """What makes a connection's socket, not blocking; `is_bound` where it will get a source of the load's own.

    It is the plain C type: a third of the cost of socket.socket, which converts its arguments to enums.
    """
    make: Callable[[], socket.SocketType] = partial(socket.SocketType, family, kind | _FLAGS)
    if family == socket.AF_INET or not is_bound:
        return make

    def free() -> socket.SocketType:
        sock = make()
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        return sock

    return free


def bind_next(sock: socket.SocketType, sources: Iterator[Source]) -> None:
    """Give a connection the next source that is free; raises OSError. Somebody who listens on a port of every address
    has it of these, too.
    """
    for source in sources:
        try:
            sock.bind(source)
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRNOTAVAIL, "every source is used")
