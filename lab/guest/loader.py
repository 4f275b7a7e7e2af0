"""Keeping programs from loading kernel modules, so that looking at a machine does not change it."""

from types import TracebackType
from typing import Optional, Type

from lab.guest.files import error_name, read_text, write_text

NO_LOADER = "/bin/false"
LOADER_PATH = "/proc/sys/kernel/modprobe"


class NoLoading:
    """While the block runs, /proc/sys/kernel/modprobe names a program that loads nothing.

    That stops the kernel's own autoloading and iptables', which asks that file which program to call. `obstacle` is
    the errno's name of what keeps it from being so, else None; a kernel without module loading has no such file, and
    nothing to load.
    """

    def __init__(self) -> None:
        self.obstacle: Optional[str] = None
        self._loader: Optional[str] = None

    def __enter__(self) -> "NoLoading":
        loader, error, _ = read_text(LOADER_PATH)
        if loader is None:
            self.obstacle = None if error == "ENOENT" else error
            return self
        try:
            write_text(LOADER_PATH, NO_LOADER)
            self._loader = loader
        except OSError as failure:
            self.obstacle = error_name(failure)
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._loader is not None:
            write_text(LOADER_PATH, self._loader)  # as it was, also when that was empty
