"""poll(2) of many descriptors in one call: select.poll takes a call for each, and a tuple for each answer."""

import ctypes
import os
from array import array
from typing import Sequence

_POLLFD_SHORTS = 4  # struct pollfd: an int, two shorts


def poll_all(fds: Sequence[int], events: int) -> "array[int]":
    """What has happened to each descriptor, as bits of poll(2), without waiting; a negative one has none."""
    there = [fd for fd in fds if fd >= 0]  # of more entries than descriptors are allowed, poll(2) makes EINVAL
    entries = array("i", bytes(8 * len(there)))
    memoryview(entries)[::2] = array("i", there)
    shorts = memoryview(entries).cast("B").cast("h")
    shorts[2::_POLLFD_SHORTS] = array("h", [events]) * len(there)
    if _poll(entries.buffer_info()[0], len(there), 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, "poll of {} descriptors: {}".format(len(there), os.strerror(code)))
    found = array("h", shorts[3::_POLLFD_SHORTS].tobytes())
    if len(there) == len(fds):
        return found
    seen = iter(found)
    return array("h", [next(seen) if fd >= 0 else 0 for fd in fds])


_poll = ctypes.CDLL(None, use_errno=True).poll
_poll.argtypes = [ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int]
