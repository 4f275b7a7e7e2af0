"""The accepting side of the load: several listeners, each drained until the kernel says EAGAIN."""

import asyncio
import errno
import socket
from array import array
from typing import Any, Callable, Dict, List, Sequence, Tuple

_ACCEPTS_PER_WAKEUP = 1024  # then the loop may look at the other listeners
_AGAIN = (errno.EAGAIN, errno.EWOULDBLOCK)
_TRANSIENT = (errno.ECONNABORTED, errno.EINTR)


class Server:
    """Accepts and holds; never reads or writes. `on_expected` is called once `expected` connections were accepted."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listen: Sequence[Tuple[str, int, int]],
        expected: int,
        on_expected: Callable[[], None],
    ) -> None:
        """Bind the (address, port, backlog) of `listen`; raises OSError, with the address in its text."""
        self._loop = loop
        self._expected = expected
        self._on_expected = on_expected
        self.accepted = 0
        self.errors: Dict[str, int] = {}
        self._held = array("l")
        self._listeners = [_listener(address, port, backlog) for address, port, backlog in listen]

    def start(self) -> None:
        """Begin to accept; returns at once."""
        for listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept_all, listener)

    def progress(self) -> Dict[str, Any]:
        """Counts so far."""
        return {"accepted": self.accepted, "errors": dict(self.errors)}

    def _accept_all(self, listener: socket.socket) -> None:
        # _accept() gives the bare descriptor: no socket object is built for a connection that is only held
        accept = listener._accept  # type: ignore[attr-defined]
        held = self._held
        for _ in range(_ACCEPTS_PER_WAKEUP):
            try:
                held.append(accept()[0])
            except OSError as error:
                if error.errno in _TRANSIENT:
                    continue
                if error.errno not in _AGAIN:
                    self._refuse(listener, error)
                break
        self.accepted = len(held)
        if self.accepted >= self._expected:
            self._on_expected()

    def _refuse(self, listener: socket.socket, error: OSError) -> None:
        """Out of descriptors or memory: count it and stop listening to this one, or the loop would spin on it."""
        name = errno.errorcode.get(error.errno or 0, str(error))
        self.errors[name] = self.errors.get(name, 0) + 1
        self._loop.remove_reader(listener.fileno())


def _listener(address: str, port: int, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, "cannot listen on {}:{}: {}".format(address, port, error.strerror))
    listener.listen(backlog)
    listener.setblocking(False)
    return listener


def accepted_total(progress: List[Dict[str, Any]]) -> int:
    """The connections accepted by several servers."""
    return sum(part["accepted"] for part in progress)
