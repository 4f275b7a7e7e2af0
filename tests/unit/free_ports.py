"""Ports for tests that listen: free now, and looked for elsewhere by every other process of this machine."""

from __future__ import annotations

import os
import socket

_ROW = 16  # listeners of one load
_FIRST, _LAST = 9000, 32000  # below the ephemeral ports


def free_row() -> int:
    """The first of a row of free ports."""
    rows = (_LAST - _FIRST) // _ROW
    for step in range(rows):
        first = _FIRST + (os.getpid() * 7 + step) % rows * _ROW
        if all(is_free(first + number) for number in range(_ROW)):
            return first
    raise AssertionError("no free ports")


def is_free(port: int) -> bool:
    """Whether the port could be listened on."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
