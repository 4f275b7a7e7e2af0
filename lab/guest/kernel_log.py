"""The kernel's log from a marker on, one record per read (Documentation/ABI/testing/dev-kmsg)."""

import errno
import os
from typing import List, Optional

KMSG = "/dev/kmsg"
_MAX_RECORD = 16384
_MAX_RECORDS = 20000


class KernelLog:
    """Remembers a place in the kernel's log and reads what came after it."""

    def __init__(self, marker: str) -> None:
        """Write `marker` into the log and remember the place before it; raises OSError."""
        self._fd = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)
        with open(KMSG, "w") as log:
            log.write("<5>" + marker + "\n")  # at level notice: kept by every kernel's default
        self._lines: List[str] = []
        self.overwritten = 0

    def read(self) -> str:
        """Every record since the marker, raw, one per line (continuation lines included)."""
        while len(self._lines) < _MAX_RECORDS:
            record = self._next()
            if record is None:
                break
            self._lines.append(record)
        return "".join(self._lines)

    def _next(self) -> Optional[str]:
        while True:
            try:
                return os.read(self._fd, _MAX_RECORD).decode("utf-8", "backslashreplace")
            except OSError as error:
                if error.errno == errno.EPIPE:  # the ring was overwritten before this was read
                    self.overwritten += 1
                    continue
                if error.errno == errno.EAGAIN:
                    return None
                raise
