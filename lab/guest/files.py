"""Reading the kernel's files: raw text, bounded in size, and an absence that is told from emptiness."""

import os
from typing import Optional, Tuple

MAX_TEXT_BYTES = 1024 * 1024


def read_text(path: str, limit: int = MAX_TEXT_BYTES) -> Tuple[Optional[str], Optional[str], bool]:
    """(text, error, truncated) of a file: text is None, and error the errno's name, when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
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
    import errno

    return errno.errorcode.get(error.errno or 0, str(error))


def write_text(path: str, text: str) -> None:
    """Write a sysctl or a configuration file whole; raises OSError."""
    with open(path, "w") as file:
        file.write(text)


def sysctl_path(name: str) -> str:
    """`net.ipv4.tcp_syncookies` as its file below /proc/sys (sysctl(8))."""
    return "/proc/sys/" + name.replace(".", "/")
