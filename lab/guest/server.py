"""The accepting side of the load: several listeners, drained together."""

import asyncio
import errno
import os
import socket
import sys
from array import array
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from lab.guest.accepts import Accepts
from lab.guest.exchange import Exchange

GATHER_SECONDS = 0.01
# Once the queue of half-open connections is more than half full the kernel gives up those that wait longest
# (reqsk_timer_handler() in net/ipv4/inet_connection_sock.c): with answers that take seconds it would reset some.
_ROOM = 2
_SO_MEMINFO = 55  # asm-generic/socket.h
_MEMINFO_BYTES = 36  # linux/sock_diag.h: nine 32-bit numbers, of which SK_MEMINFO_DROPS is the last
_MEMINFO_DROPS = slice(32, 36)


class Server:
    """Accepts and holds; never reads or writes. `on_expected` is called once `expected` connections were accepted."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listen: Sequence[Tuple[str, int, int]],
        expected: int,
        on_expected: Callable[[], None],
        gather_seconds: float = GATHER_SECONDS,
        accepts: Optional[Accepts] = None,
    ) -> None:
        """Bind the (address, port, backlog) of `listen`; raises OSError, with the address in its text.

        Connections gather for `gather_seconds` before they are accepted: the backlogs hold them all, and every wake-up
        less is a change of process less, which an emulated guest pays for with much of what it had translated. A server
        that shares its process with the client has nothing to gain from it.
        """
        self._loop = loop
        self._expected = expected
        self._on_expected = on_expected
        self._gather_seconds = gather_seconds
        self._accepts = accepts or Accepts()
        self.accepted = 0
        self.strangers = 0
        self.errors: Dict[str, int] = {}
        self._held = array("i")
        self._refused: List[socket.socket] = []  # still bound, so that connects stall instead of being refused
        self._listeners: List[socket.socket] = []
        try:
            for address, port, backlog in listen:
                self._listeners.append(self._listener(address, port, backlog))
        except OSError:
            self.close()
            raise

    def _listener(self, address: str, port: int, backlog: int) -> socket.socket:
        return _listener(address, port, backlog)

    def start(self) -> None:
        """Begin to accept; returns at once."""
        self._listen()

    def tick(self) -> None:
        """Nothing to do: what is to be accepted wakes the loop."""

    def progress(self) -> Dict[str, Any]:
        """Counts so far."""
        return {"accepted": self.accepted, "errors": dict(self.errors)}

    def outcome(self) -> Dict[str, Any]:
        """The end's counts. `drops` is what the kernel counted as dropped at these listeners themselves (sk_drops, by
        tcp_listendrop() when a queue has no room); None where it does not tell (before 4.12).
        """
        return dict(self.progress(), strangers=self.strangers, drops=_drops(self._listeners + self._refused))

    def exchange(self) -> None:
        """Send back every byte that comes over a held connection from now on."""
        self._exchange = Exchange(self._loop, self._held, answers=True)

    def close(self) -> None:
        """Close the listeners and every connection. A worker leaves that to its own end."""
        for listener in self._listeners + self._refused:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        for fd in self._held:
            os.close(fd)
        self._accepts.close()
        del self._listeners[:], self._refused[:], self._held[:]

    def _listen(self) -> None:
        for listener in self._listeners:
            if self._gather_seconds:
                self._loop.add_reader(listener.fileno(), self._wait_for_more)
            else:
                self._loop.add_reader(listener.fileno(), self._drain, [listener])

    def _wait_for_more(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
        self._loop.call_later(self._gather_seconds, self._drain_all)

    def _drain_all(self) -> None:
        self._drain(list(self._listeners))
        self._listen()

    def _drain(self, listeners: List[socket.socket]) -> None:
        for listener in listeners:
            self._accept_all(listener)
        if self.accepted >= self._expected:
            self._on_expected()

    def _accept_all(self, listener: socket.socket) -> None:
        taken = self._accepts.take(listener)
        self.accepted += len(taken.fds) - taken.strangers
        self.strangers += taken.strangers
        if taken.error:
            self._refuse(listener, taken.error)
        self._keep(taken.fds)

    def _keep(self, accepted: List[int]) -> None:
        """What becomes of connections that were just accepted; these are held."""
        self._held.fromlist(accepted)

    def _refuse(self, listener: socket.socket, code: int) -> None:
        """Out of descriptors or memory: count it and stop listening to this one, or the loop would spin on it."""
        name = errno.errorcode.get(code, "errno {}".format(code))
        self.errors[name] = self.errors.get(name, 0) + 1
        self._loop.remove_reader(listener.fileno())
        self._listeners.remove(listener)
        self._refused.append(listener)


def _drops(listeners: Sequence[socket.socket]) -> Optional[int]:
    try:
        infos = [listener.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO_BYTES) for listener in listeners]
    except OSError:
        return None
    return sum(int.from_bytes(info[_MEMINFO_DROPS], sys.byteorder) for info in infos)


def _listener(address: str, port: int, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, "cannot listen on {}:{}: {}".format(address, port, error.strerror))
    listener.listen(backlog * _ROOM)
    listener.setblocking(False)
    return listener
