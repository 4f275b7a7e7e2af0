"""Reading and writing files: raw text, bounded in size, and an absence that is told from emptiness.

Paths and texts are UTF-8 whatever the locale: a machine's first process has none, which Python 3.6 takes for ASCII.
"""

import errno
import os
from typing import Iterable, Iterator, Optional, Sequence, Tuple

MAX_TEXT_BYTES = 1024 * 1024
PROC_SYS = "/proc/sys/"


def read_text(path: str, limit: int = MAX_TEXT_BYTES) -> Tuple[Optional[str], Optional[str], bool]:
    """(text, error, truncated) of a file: text is None, and error the errno's name, when it cannot be read."""
    try:
        fd = os.open(as_path(path), os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return None, error_name(error), False
    try:
        chunks = []
        size = 0
        while size <= limit:
            chunk = os.read(fd, 65536)
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
    except OSError as error:
        return None, error_name(error), False
    finally:
        os.close(fd)
    data = b"".join(chunks)
    return data[:limit].decode("utf-8", "backslashreplace"), None, len(data) > limit


def error_name(error: OSError) -> str:
    """`ENOENT` and the like: the names that every manual page uses."""
    return errno.errorcode.get(error.errno or 0, str(error))


def write_text(path: str, text: str) -> None:
    """Write a sysctl or a configuration file whole; raises OSError."""
    with open(as_path(path), "wb") as file:
        file.write(text.encode("utf-8"))


def as_path(path: str) -> bytes:
    """A path as the kernel takes it."""
    return path.encode("utf-8")


def sysctl_path(name: str) -> str:
    """`net.ipv4.tcp_syncookies` as its file below /proc/sys. The first of `.` and `/` separates, the other is then part
    of a name, as in `net.ipv4.conf.eth0/100.rp_filter` (sysctl(8)).
    """
    dots_separate = "." in name.split("/", 1)[0]
    return PROC_SYS + (name.translate({ord("."): "/", ord("/"): "."}) if dots_separate else name)


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors, those that follow each other at once."""
    for first, end in _ranges(sorted(fds)):
        os.closerange(first, end)


def _ranges(numbers: Sequence[int]) -> Iterator[Tuple[int, int]]:
    """Numbers in their order as ranges, each with its first and the one after its last; never an empty one, of which
    os.closerange() of some releases takes a negative end for the highest number that there is.
    """
    start = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            yield numbers[start], numbers[index - 1] + 1
            start = index
