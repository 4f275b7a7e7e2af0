"""Files of folders and archives that somebody else made: read without following, unpacking or trusting anything."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

from lab.core.errors import ScenarioError

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_KEPT_BYTES = 512 * 1024 * 1024
MAX_UNPACKED_BYTES = 8 * 1024**3  # of everything in an archive, kept or passed over
MAX_MEMBERS = 1_000_000

Wanted = Callable[[str], bool]
_HINT = "record the host again, or unpack what you trust and name the folder"


class _Member(tarfile.TarInfo):
    """A member of an archive. tarfile takes one that is cut between two members, or in a header, for a whole one."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The member whose header this is. Raises ReadError where the archive ends without the blocks that end it."""
        if len(buf) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it was cut")
        return super().frombuf(buf, encoding, errors)


def folder_files(folder: Path, wanted: Wanted) -> dict[str, str]:
    """The files in a folder whose path in it is wanted; links are not followed. Raises ScenarioError."""
    kept: dict[str, str] = {}
    room = MAX_KEPT_BYTES
    for path in _walk(folder):
        name = str(path.relative_to(folder))
        if not wanted(name):
            continue
        data = _plain_file(path)
        if data is not None:
            room -= len(data)
            _check_room(room, str(folder))
            kept[name] = _text(data)
    return kept


def archive_files(path: Path, wanted: Wanted) -> dict[str, str]:
    """The files in a tar archive whose name is wanted, links passed over. Raises ScenarioError for what is no archive
    or damaged, and for one with a path that leads out of it, a device node, or more than bounds allow.
    """
    kept: dict[str, str] = {}
    room, unpacked = MAX_KEPT_BYTES, 0
    try:
        with tarfile.open(path, mode="r|*", tarinfo=_Member) as archive:
            for number, member in enumerate(archive):
                unpacked += max(0, member.size)
                _check_member(member, path)
                if number >= MAX_MEMBERS or unpacked > MAX_UNPACKED_BYTES:
                    limits = f"{MAX_MEMBERS:,} files or {MAX_UNPACKED_BYTES // 1024**3} GiB"
                    raise ScenarioError(f"{path}: unpacks to more than {limits}", hint=_HINT)
                name = str(PurePosixPath(member.name))  # without the ./ of `tar -C FOLDER .`
                if not member.isreg() or not wanted(name):
                    continue
                file = archive.extractfile(member)
                data = b"" if file is None else file.read(MAX_FILE_BYTES)
                room -= len(data)
                _check_room(room, str(path))
                kept[name] = _text(data)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise ScenarioError(f"{path}: cannot be read as an archive: {error}", hint=_HINT) from error
    except Exception as error:  # zlib.error, lzma.LZMAError: neither is an OSError
        if type(error).__module__ not in ("zlib", "lzma", "_lzma"):
            raise
        raise ScenarioError(f"{path}: the archive is damaged: {error}", hint=_HINT) from error
    return kept


def bounded_text(stream: BinaryIO, what: str) -> str:
    """All that a stream has. Raises ScenarioError for more than MAX_FILE_BYTES."""
    data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ScenarioError(f"{what}: is larger than {MAX_FILE_BYTES // 1024**2} MB", hint="paste one text")
    return _text(data)


def file_text(path: Path) -> str:
    """The text of one ordinary file. Raises ScenarioError."""
    data = _plain_file(path, MAX_FILE_BYTES + 1)
    if data is None:
        raise ScenarioError(f"{path}: is no ordinary file, or cannot be read", hint="name a record or a text")
    return bounded_text(io.BytesIO(data), str(path))


def _check_member(member: tarfile.TarInfo, path: Path) -> None:
    parts = PurePosixPath(member.name).parts
    if ".." in parts or member.name.startswith("/"):
        raise ScenarioError(f"{path}: the name {member.name[:100]!r} leads out of the archive", hint=_HINT)
    if member.ischr() or member.isblk() or member.isfifo():
        raise ScenarioError(f"{path}: {member.name[:100]!r} is a device node", hint=_HINT)


def _check_room(room: int, what: str) -> None:
    if room < 0:
        raise ScenarioError(f"{what}: has more than {MAX_KEPT_BYTES // 1024**2} MB of texts to read", hint=_HINT)


def _walk(folder: Path) -> Iterator[Path]:
    count = 0
    for place, _, names in os.walk(folder, followlinks=False):
        for name in sorted(names):
            count += 1
            if count > MAX_MEMBERS:
                raise ScenarioError(f"{folder}: has more than {MAX_MEMBERS:,} files", hint="name the record's folder")
            yield Path(place) / name


def _plain_file(path: Path, limit: int = MAX_FILE_BYTES) -> bytes | None:
    """The beginning of an ordinary file; None for a link, anything else that is none, and one that cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        try:
            return file.read(limit) if stat.S_ISREG(os.fstat(fd).st_mode) else None
        except OSError:
            return None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
