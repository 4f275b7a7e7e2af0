"""A ring of io_uring(7), and what this kernel's can do. Numbers and layouts are those of linux/io_uring.h.

The loop is never blocked by it: entering waits for nothing that is not done already.
"""

import ctypes
import errno
import mmap
import os
import struct
import sys
from array import array
from typing import FrozenSet, List, NamedTuple, Tuple

_SETUP, _ENTER, _REGISTER = 425, 426, 427  # on every architecture
_OFF_SQES = 0x10000000
_ENTRY_BYTES, _COMPLETION_BYTES = 64, 16
# CQSIZE, SUBMIT_ALL, COOP_TASKRUN (5.19). Not DEFER_TASKRUN: when a connect completes later, nothing wakes a loop then
# that watches the ring's descriptor (measured on 6.18).
_FLAGS = 1 << 3 | 1 << 7 | 1 << 8
# SINGLE_MMAP; NODROP: more completions than there is room for are kept; FAST_POLL: what waits takes no kernel thread;
# EXT_ARG: entering with a time limit; CQE_SKIP
_FEATURES = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 8 | 1 << 11
_GETEVENTS, _EXT_ARG = 1 << 0, 1 << 3
_NO_WAIT_BYTES = 24
_NOTHING_YET = (errno.ETIME, errno.EINTR)
_REGISTER_PROBE, _PROBED, _SUPPORTED = 8, 64, 1

ACCEPT, ASYNC_CANCEL, CONNECT, SOCKET, BIND = 13, 14, 16, 45, 56  # SOCKET since 5.19, BIND since 6.11
QUIET = 1 << 6  # IOSQE_CQE_SKIP_SUCCESS
CANCEL_EVERY = 1 << 0 | 1 << 2  # IORING_ASYNC_CANCEL_ALL, IORING_ASYNC_CANCEL_ANY
# where the fields of an entry lie: in 32-bit words, in 64-bit words
FD, TAG, WORDS = 1, 8, 16
ADDRESS2, ADDRESS, LONGS = 1, 2, 8

# of 32-bit numbers, the byte that has the sign
_SIGNS = slice(3 if sys.byteorder == "little" else 0, None, 4)

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = [ctypes.c_long] * 5 + [ctypes.c_void_p, ctypes.c_size_t]
_syscall.restype = ctypes.c_long


class Completed(NamedTuple):
    """Operations that have completed: the low and the high word of the tag of each, and its result."""

    numbers: "array[int]"
    kinds: "array[int]"
    results: "array[int]"  # -errno of those that failed


def any_failed(results: "array[int]") -> bool:
    """Whether there is a -errno among results. An emulated guest takes 0.3 us to make an object of each, so these are
    looked at as bytes.
    """
    return b"\xff" in results.tobytes()[_SIGNS]


def entry(operation: int, flags: int = 0, fd: int = 0, address2: int = 0, op_flags: int = 0, tag: int = 0) -> bytes:
    """A struct io_uring_sqe."""
    return struct.pack("BBHiQQIIQ24x", operation, flags, 0, fd, address2, 0, 0, op_flags, tag)


class Ring:
    """Entries that are written once and submitted again and again, and their completions.

    Must be made by the process that uses it.
    """

    def __init__(self, entries: int, completions: int) -> None:
        """Raises OSError where the kernel gives none: ENOSYS, EPERM (sysctl kernel.io_uring_disabled, seccomp)."""
        self._fd, params = _set_up(entries, completions)
        sq, cq = params[10:20], params[20:30]  # head, tail, mask, entries, flags, dropped, array; ..., overflow, cqes
        self.entries, slots = params[0], params[1]
        size = max(sq[6] + 4 * self.entries, cq[5] + _COMPLETION_BYTES * slots)
        try:
            self._shared = mmap.mmap(self._fd, size, flags=mmap.MAP_SHARED)
            self._sqes = mmap.mmap(self._fd, self.entries * _ENTRY_BYTES, flags=mmap.MAP_SHARED, offset=_OFF_SQES)
        except OSError:
            os.close(self._fd)
            raise
        whole = memoryview(self._shared)
        self._words = whole[: size // 4 * 4].cast("I")
        self._sq_tail, self._cq_head, self._cq_tail = (offset // 4 for offset in (sq[1], cq[0], cq[1]))
        self._order = self._words[sq[6] // 4 : sq[6] // 4 + self.entries]  # which entry each slot of the queue means
        self._slots = slots
        self._completions = whole[cq[5] : cq[5] + _COMPLETION_BYTES * slots]
        self._numbers = array("I", range(self.entries))
        self.words, self.longs = memoryview(self._sqes).cast("I"), memoryview(self._sqes).cast("Q")
        self._no_time = (ctypes.c_int64 * 2)()  # struct __kernel_timespec
        self._no_wait = (ctypes.c_uint64 * 3)(0, 0, ctypes.addressof(self._no_time))  # struct io_uring_getevents_arg

    def fileno(self) -> int:
        """Readable while there are completions."""
        return self._fd

    def write(self, first: int, entries: bytes) -> None:
        """Write entries, as of `entry`, from number `first`."""
        self._sqes[first * _ENTRY_BYTES : first * _ENTRY_BYTES + len(entries)] = entries

    def submit(self, first: int, count: int, expected: int) -> None:
        """Submit the `count` entries from `first`, which make so many completions; returns when all are there that
        need not wait. Raises OSError where the kernel does not take them.
        """
        at = self._words[self._sq_tail] % self.entries
        before_end = min(count, self.entries - at)
        self._order[at : at + before_end] = self._numbers[first : first + before_end]
        self._order[: count - before_end] = self._numbers[first + before_end : first + count]
        self._words[self._sq_tail] = (self._words[self._sq_tail] + count) & 0xFFFFFFFF  # seen by the call below
        taken = self._enter(count, expected)
        if taken < count:
            raise OSError(errno.EAGAIN, "the ring took {} of {} entries".format(taken, count))

    def completed(self, expected: int = 0) -> Completed:
        """The operations that have completed since.

        Some kernels look at few at a time, and at more where more are `expected`.
        """
        self._enter(0, expected)
        head, tail = self._words[self._cq_head], self._words[self._cq_tail]
        start = head % self._slots
        end = start + ((tail - head) & 0xFFFFFFFF)
        size = _COMPLETION_BYTES
        found = self._completions[start * size : min(self._slots, end) * size].tobytes()
        found += self._completions[: max(0, end - self._slots) * size].tobytes()
        self._words[self._cq_head] = tail
        words = array("i", found)  # struct io_uring_cqe: user_data, res, flags
        return Completed(words[0::4], words[1::4], words[2::4])

    def close(self) -> None:
        """Give it back. What was submitted and waits is cancelled."""
        for view in (self._words, self._order, self._completions, self.words, self.longs):
            view.release()
        os.close(self._fd)

    def _enter(self, submit: int, wait_for: int) -> int:
        """How many entries were taken. Waits for as many completions, but not for a moment (ETIME)."""
        flags = _GETEVENTS | _EXT_ARG
        taken = _syscall(_ENTER, self._fd, submit, wait_for, flags, self._no_wait, _NO_WAIT_BYTES)
        if taken < 0:
            if ctypes.get_errno() not in _NOTHING_YET:
                raise _error("io_uring_enter")
            return 0
        return int(taken)


def supported() -> FrozenSet[int]:
    """The operations that this kernel's rings have. Raises OSError where there is no ring, or none that will do."""
    ring, _ = _set_up(1, 2)
    probe = ctypes.create_string_buffer(16 + 8 * _PROBED)  # struct io_uring_probe, and its struct io_uring_probe_op
    try:
        if _syscall(_REGISTER, ring, _REGISTER_PROBE, ctypes.addressof(probe), _PROBED, None, 0) < 0:
            raise _error("io_uring_register")
    finally:
        os.close(ring)
    told = struct.iter_unpack("BxHxxxx", probe.raw[16:])
    return frozenset(operation for operation, flags in told if flags & _SUPPORTED)


def _set_up(entries: int, completions: int) -> Tuple[int, List[int]]:
    """The ring's descriptor, which is closed on exec, and the words of struct io_uring_params."""
    params = (ctypes.c_uint32 * 30)()
    params[1], params[2] = completions, _FLAGS
    ring = _syscall(_SETUP, entries, ctypes.addressof(params), 0, 0, None, 0)
    if ring < 0:
        raise _error("io_uring_setup")
    if params[5] & _FEATURES != _FEATURES:
        os.close(ring)
        raise OSError(errno.EOPNOTSUPP, "io_uring has the features {:#x} only".format(params[5]))
    return ring, list(params)


def _error(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, "{}: {}".format(call, os.strerror(code)))
