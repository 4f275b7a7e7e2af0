"""A cell's folder as bytes, and back: a bounded ZIP file of regular files, no more."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

from lab.core.errors import LabError
from lab.host.fleet import WORKER_HINT
from lab.host.results.plain_files import read_bytes
from lab.host.results.sums import files_below

MOST_BYTES = 512 * 2**20  # of all files of a cell; the largest of the lab's own has 20 MB
MOST_FILES = 10_000
_FASTEST = 1
# what zipfile raises for what is no whole archive, for encrypted members, and for unknown ways to compress
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def pack(folder: Path) -> bytes:
    """All files of a cell. Raises Damaged for what is no regular file, LabError for more than MOST_BYTES."""
    buffer, left = io.BytesIO(), MOST_BYTES
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_FASTEST) as archive:
        for name in files_below(folder):
            content = read_bytes(folder / name)
            left -= len(content)
            if left < 0:
                raise LabError(f"{folder.name}: its files have more than {MOST_BYTES // 2**20} MB", WORKER_HINT)
            archive.writestr(name, content)
    return buffer.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """Write the files of an archive below a folder that is empty. Raises LabError for names that lead elsewhere, for
    more than the bounds allow, and for what is no such archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MOST_FILES or sum(member.file_size for member in members) > MOST_BYTES:
                raise LabError(f"an archive of more than {MOST_FILES} files or {MOST_BYTES // 2**20} MB", WORKER_HINT)
            for member in members:
                _write(archive, member, folder)
    except (*_DAMAGE, FileExistsError) as error:
        raise LabError(f"a damaged archive: {error}"[:300], WORKER_HINT) from error


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    parts = member.filename.split("/")
    if member.filename.startswith("/") or "\0" in member.filename or {"", ".", ".."} & set(parts):
        raise LabError(f"an archive with the name {member.filename!r:.100}", WORKER_HINT)
    with archive.open(member) as file:
        content = file.read(member.file_size + 1)  # what the list says may be a lie
    if len(content) != member.file_size:
        raise LabError(f"an archive whose {member.filename!r:.100} is larger than it says", WORKER_HINT)
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file_there:
        file_there.write(content)
