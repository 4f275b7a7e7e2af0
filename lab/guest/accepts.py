"""How connections are accepted, by accept4(2) until the kernel says EAGAIN."""

import errno
import socket
from typing import List, NamedTuple, Optional, Tuple

_MOST = 1024  # of one listener; then it is the others' turn
_AGAIN = (errno.EAGAIN, errno.EWOULDBLOCK)
_TRANSIENT = (errno.ECONNABORTED, errno.EINTR)


class Taken(NamedTuple):
    """What was accepted of a listener at once."""

    fds: List[int]
    strangers: int  # of those: how many do not come from the load's own addresses
    error: int = 0  # the errno of what keeps this listener from accepting more


class Accepts:
    """Accepts what has come to a listener."""

    def __init__(self, own: Tuple[str, ...] = ("",)) -> None:
        """`own` is what the addresses of the load's own connections begin with; any other one is a stranger's."""
        self._own = own

    def is_own(self, address: str) -> bool:
        """Whether a connection from there is the load's."""
        return address.startswith(self._own)

    def take(self, listener: socket.socket) -> Taken:
        """Accept what is there now, up to a bound."""
        # _accept() gives the bare descriptor: no socket object is built for a connection that is only held
        accept = listener._accept  # type: ignore[attr-defined]
        own, fds, strangers = self._own, [], 0
        for _ in range(_MOST):
            try:
                fd, peer = accept()
                fds.append(fd)
                strangers += not peer[0].startswith(own)
            except OSError as error:
                if error.errno in _TRANSIENT:
                    continue
                return Taken(fds, strangers, 0 if error.errno in _AGAIN else error.errno or errno.EIO)
        return Taken(fds, strangers)

    def close(self) -> None:
        """Give up what this has of its own: nothing."""


def blocks(code: int) -> Optional[int]:
    """The errno of an accept, if it keeps a listener from accepting more; None where it says only: not now."""
    return None if code in _AGAIN + _TRANSIENT else code
