"""Records and what people have instead of one: whichever it is, is seen from what is in it."""

from __future__ import annotations

from pathlib import Path

from lab.core.errors import ScenarioError
from lab.core.inspecting.model import Record
from lab.core.inspecting.record import is_record, record_of
from lab.guest.recorder import FOLDER
from lab.host.inspecting.archives import archive_files, folder_files

STDIN = "-"
_HINT = "a record of lab inspect --recorder, a sosreport, a folder of pasted texts, one text, or - for stdin"


def read_record(source: str) -> Record:
    """The record that a path leads to, whatever its form. Raises ScenarioError."""
    path = Path(source)
    if not path.exists():
        raise ScenarioError(f"{source}: there is no such record", hint=_HINT)
    files = folder_files(path, _wanted) if path.is_dir() else archive_files(path, _wanted)
    inner = {name.partition(f"{FOLDER}/")[2]: text for name, text in files.items() if f"{FOLDER}/" in f"{name}/"}
    if is_record(inner or files):
        return record_of(inner or files, source)
    raise ScenarioError(f"{source}: is no record", hint=_HINT)


def _wanted(name: str) -> bool:
    return True
