"""This host, read by the recorder's own code, in this process."""

from __future__ import annotations

from pathlib import Path

from lab.core.errors import LabError
from lab.core.inspecting.model import Record
from lab.core.inspecting.record import record_of
from lab.guest.recorder.archive import write_archive
from lab.guest.recorder.collect import Options, collect

ORIGIN = "this host"


def read_this_host(watch_seconds: float, entries: bool, addresses: bool, save: Path | None = None) -> Record:
    """What this host shows, without changing it; also written as a record to the new file `save`.

    Raises LabError where that cannot be written.
    """
    files = collect(Options(watch_seconds, entries or addresses, addresses))
    if save is not None:
        try:
            write_archive(str(save), files)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise LabError(f"{save}: cannot be written: {why}", hint="name a new file in a folder of yours") from error
    return record_of(files, ORIGIN)
