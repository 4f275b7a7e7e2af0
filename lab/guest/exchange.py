"""A byte there and back over every held connection: one that is open may be dead, and only its data would tell."""

import asyncio
import errno
import os
import select
from typing import Iterable

_EVENTS_PER_POLL = 4096
_BYTE = b"."
_AGAIN = (errno.EAGAIN, errno.EWOULDBLOCK)


class Exchange:
    """Watches connections for a byte; the side that answers sends back each that it gets."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fds: Iterable[int], answers: bool) -> None:
        """Begins at once: the side that does not answer sends its bytes."""
        self._answers = answers
        self.asked = 0
        self.answered = 0
        self._epoll = select.epoll()
        for fd in fds:
            self._epoll.register(fd, select.EPOLLIN)
            if not answers:
                self._send(fd)
                self.asked += 1
        loop.add_reader(self._epoll.fileno(), self._on_ready)

    def _on_ready(self) -> None:
        for fd, _ in self._epoll.poll(0, _EVENTS_PER_POLL):
            try:
                data = os.read(fd, 16)
            except OSError as error:
                if error.errno in _AGAIN:
                    continue
                data = b""
            if not data or not self._answers:
                self._epoll.unregister(fd)
            if data:
                self.answered += 1
                if self._answers:
                    self._send(fd)

    @staticmethod
    def _send(fd: int) -> None:
        """A connection that cannot take a byte gives no answer, which is what counts."""
        try:
            os.write(fd, _BYTE)
        except OSError:
            pass
