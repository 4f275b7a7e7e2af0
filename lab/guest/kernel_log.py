"""The kernel's log from a marker on, one record per read (Documentation/ABI/testing/dev-kmsg)."""

import errno
import os
from typing import List, Optional

KMSG = "/dev/kmsg"
_MAX_RECORD = 16384
_MAX_BYTES = 1024 * 1024
_MAX_OVERWRITTEN = 1000  # a kernel that logs faster than it is read overwrites for ever
_MAX_MARKER = 900  # a record that is written holds less than 1024 bytes


class KernelLog:
    """Remembers a place in the kernel's log and reads what came after it."""

    def __init__(self, marker: str) -> None:
        """Write `marker` into the log and remember the place before it; raises OSError."""
        self._records: List[str] = []
        self._size = 0
        self.overwritten = 0  # how often the log had been overwritten beyond the place of the next record
        self.truncated = False
        self._fd = os.open(KMSG, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.lseek(self._fd, 0, os.SEEK_END)
            self.mark(marker)
        except OSError:
            self.close()
            raise

    def mark(self, text: str) -> None:
        """Write a line into the log, so that what comes before it is told from what comes after; raises OSError."""
        # at level notice: kept by every kernel's default
        os.write(self._fd, b"<5>" + text.encode("utf-8")[:_MAX_MARKER] + b"\n")

    def read(self) -> str:
        """Every record since the marker, raw, one per line (continuation lines included); of a flood the beginning."""
        while not self.truncated:
            record = self._next()
            if record is None:
                break
            self._size += len(record)
            self.truncated = self._size > _MAX_BYTES
            if not self.truncated:
                self._records.append(record)
        return "".join(self._records)

    def close(self) -> None:
        """Forget the place."""
        os.close(self._fd)

    def _next(self) -> Optional[str]:
        while self.overwritten < _MAX_OVERWRITTEN:
            try:
                return self._read_record().decode("utf-8", "backslashreplace") or None
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    return None
                if error.errno != errno.EPIPE:
                    raise
                self.overwritten += 1  # the next read goes on with the oldest record that there is
        self.truncated = True
        return None

    def _read_record(self) -> bytes:
        return os.read(self._fd, _MAX_RECORD)
