"""Records and what people have instead of one: whichever it is, is seen from what is in it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lab.core.errors import ScenarioError
from lab.core.inspecting.model import Record
from lab.core.inspecting.pasted import pasted_record
from lab.core.inspecting.record import is_record, record_of
from lab.core.inspecting.sosreport import is_sosreport, sosreport_record
from lab.core.inspecting.sosreport import wanted as sosreport_wanted
from lab.guest.recorder import FOLDER
from lab.host.inspecting.archives import archive_files, bounded_text, file_text, folder_files

STDIN = "-"
_SOSREPORT = re.compile(r"sosreport-[^/]+/")
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # gzip, bzip2, xz
_GZIP = "\x1f"  # how one begins that was read as a text
_HINT = "a record of lab inspect --recorder, a sosreport, a folder of pasted texts, one text, or - for stdin"


def read_record(source: str) -> Record:
    """The record that a path leads to, whatever its form. Raises ScenarioError."""
    if source == STDIN:
        text = bounded_text(sys.stdin.buffer, "standard input")
        if text.startswith(_GZIP):
            raise ScenarioError("standard input: an archive", hint="write it to a file, and name that")
        return pasted_record({"": text}, "standard input")
    path = Path(source)
    if not path.exists():
        raise ScenarioError(f"{source}: there is no such record", hint=_HINT)
    if path.is_dir():
        return _of_files(folder_files(path, sosreport_wanted if (path / "sos_commands").is_dir() else _wanted), source)
    if not _is_archive(path):
        return pasted_record({path.name: file_text(path)}, source)
    return _of_files(archive_files(path, _wanted), source)


def _of_files(files: dict[str, str], source: str) -> Record:
    if not files:
        raise ScenarioError(f"{source}: has no text that is known", hint=_HINT)
    inner = {name.partition(f"{FOLDER}/")[2]: text for name, text in files.items() if f"{FOLDER}/" in name}
    for record in (inner, files):
        if is_record(record):
            return record_of(record, source)
    if is_sosreport(files):
        return sosreport_record(files, source)
    return pasted_record(files, source)


def _wanted(name: str) -> bool:
    """Of a sosreport, which has everything, only what is needed."""
    return sosreport_wanted(name) if "sos_commands/" in name or _SOSREPORT.match(name) else True


def _is_archive(path: Path) -> bool:
    """Whether a file begins as an archive does that tarfile reads; else it is taken for a text."""
    with path.open("rb") as file:
        begin = file.read(512)
    return begin.startswith(_COMPRESSED) or begin[257:262] == b"ustar"
