"""The files that QEMU opens: as descriptors, so that it needs no right to enter the folders that they lie in."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lab.core.errors import PrerequisiteError
from lab.host.process import unprivileged_ids


class Descriptors:
    """Files opened for QEMU, closed at the end of the block. QEMU reopens them by /proc/self/fd, so that it needs no
    right to enter the folders that they lie in.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __enter__(self) -> Descriptors:
        return self

    def __exit__(self, *_: object) -> None:
        for number in self.numbers:
            os.close(number)

    def number(self, path: Path, flags: int = os.O_RDONLY) -> int:
        """The descriptor of a file; raises PrerequisiteError when it cannot be opened."""
        try:
            number = os.open(path, flags | os.O_CLOEXEC)
            self.numbers.append(number)
            _let_read(number)
        except OSError as error:
            raise PrerequisiteError(
                f"cannot open {path}: {error.strerror}", hint="lab image build makes it again"
            ) from error
        return number

    def path(self, path: Path, flags: int = os.O_RDONLY) -> str:
        """The name by which QEMU opens a file."""
        return f"/proc/self/fd/{self.number(path, flags)}"

    def empty_file(self, name: str, size_bytes: int) -> str:
        """A file that exists in memory only, of holes."""
        number = os.memfd_create(name)
        self.numbers.append(number)
        os.truncate(number, size_bytes)
        return f"/proc/self/fd/{number}"

    def memory_file(self, name: str, content: bytes) -> str:
        """A file that exists in memory only, with `content`."""
        number = os.memfd_create(name)
        self.numbers.append(number)
        with open(number, "wb", closefd=False) as file:
            file.write(content)
        return f"/proc/self/fd/{number}"


def _let_read(number: int) -> None:
    """QEMU reopens its files by /proc/self/fd, as an unprivileged user where the lab is root: under a umask of 077
    the cache's files are root's alone.
    """
    status = os.fstat(number)
    if os.geteuid() == 0 and status.st_uid == 0 and not status.st_mode & stat.S_IROTH:
        os.fchmod(number, stat.S_IMODE(status.st_mode) | stat.S_IROTH)


@contextlib.contextmanager
def memory_of_guest(path: Path, size_bytes: int) -> Iterator[None]:
    """A sparse file for the guest's memory, which QEMU may write while the block runs and only read afterwards."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
        os.fchown(file.fileno(), *unprivileged_ids())
        yield
        if os.geteuid() == 0:
            os.fchown(file.fileno(), 0, 0)
