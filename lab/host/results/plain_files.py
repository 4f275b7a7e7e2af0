"""Files of folders that may come from elsewhere: regular ones only, of a bounded size, and no link is followed.

A run's folder may have been sent by somebody. A link in it leads out of it, a FIFO blocks whoever opens it, a device
never ends: none of them is opened to be read, and nothing is written through one.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from lab.core.errors import ScenarioError

# the largest document: results.json of a run of 10,000 cells has 100 MB
MOST_BYTES = 256 * 2**20
_PARTIAL = ".partial-"
_HINT = "restore it, or leave it out"
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Damaged(ScenarioError):
    """A file or folder that is not what the lab writes; the message names it and what is wrong with it."""

    def __init__(self, path: Path, what: str, hint: str = _HINT) -> None:
        super().__init__(f"{path}: is damaged: {what}", hint=hint)
        self.path, self.what = path, what

    def __reduce__(self) -> tuple[type[Damaged], tuple[Path, str, str]]:
        return Damaged, (self.path, self.what, self.hint)  # it comes out of the process in which a cell is judged


def open_plain(path: Path) -> BufferedReader:
    """A regular file, open to be read. Raises FileNotFoundError, and Damaged for what is no regular file."""
    try:
        # O_NONBLOCK: a FIFO without a writer opens at once; for a regular file it means nothing
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(path, kind_of(path) or f"it cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Damaged(path, kind_of(path) or "it is no regular file")
    return open(descriptor, "rb")


def kind_of(path: Path) -> str | None:
    """What a path is that should be a regular file: `it is a link`; None where it is one, or nothing is there."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    return next((f"it is {name}, and must be a regular file" for is_kind, name in _KINDS if is_kind(mode)), None)


def is_folder(path: Path) -> bool:
    """Whether a path is a folder itself, and no link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a regular file. Raises FileNotFoundError, and Damaged for another kind or a larger file."""
    with open_plain(path) as file:
        try:
            content = file.read(most_bytes + 1)
        except OSError as error:
            raise Damaged(path, f"it cannot be read: {error.strerror}") from error
    if len(content) > most_bytes:
        raise Damaged(path, f"it has more than {most_bytes // 2**20} MB")
    return content


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """A text in UTF-8, byte for byte as it was written. Raises FileNotFoundError, and Damaged."""
    try:
        return read_bytes(path, most_bytes).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(path, f"it is no UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from error


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """A JSON object. Raises FileNotFoundError, and Damaged."""
    try:
        content = json.loads(read_text(path, most_bytes))
    except Damaged:
        raise
    except (ValueError, RecursionError) as error:
        raise Damaged(path, f"{error}"[:200]) from error
    if not isinstance(content, dict):
        raise Damaged(path, "no JSON object")
    return content


def sha256_of(path: Path) -> str:
    """The SHA-256 of a regular file, in hexadecimal. Raises FileNotFoundError, Damaged, and OSError."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_aside(path: Path, text: str) -> None:
    """Write `path` whole or not at all, following no link: what is there under its name is replaced, not written to.

    Raises OSError, with nothing left behind.
    """
    partial = path.with_name(f"{_PARTIAL}{path.name}")
    partial.unlink(missing_ok=True)
    # O_EXCL: it is a new file, or none
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def strange_files(folder: Path) -> Iterator[Path]:
    """All below a folder that is neither a folder nor a regular file; links are not followed."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)


def check_plain(folder: Path) -> None:
    """Return if a folder holds folders and regular files alone. Raises Damaged that names the first other thing."""
    try:
        found = next(strange_files(folder), None)
    except OSError as error:
        raise Damaged(Path(error.filename or folder), f"it cannot be read: {error.strerror}") from error
    if found is not None:
        raise Damaged(found, kind_of(found) or "it is no regular file", "remove it: no run of the lab's has any")
