"""The recorder as one file: a zipapp for Python 3.6 and newer, or a shell script for hosts without Python."""

from __future__ import annotations

import io
import stat
import zipfile
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from lab.core.errors import LabError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can carry
_MAIN = "import sys\nfrom lab.guest.recorder.main import main\nsys.exit(main(sys.argv))\n"
_PROGRAM = b"#!"
_SHEBANG = b"#!/usr/bin/env python3\n"
# what the recorder's own modules import of the guest's
_SHARED = ("__init__.py", "observe.py", "apply.py", "files.py", "loader.py", "removal.py")
_SCRIPT_SUFFIX = ".sh"


@cache
def recorder_zipapp() -> bytes:
    """The bytes of recorder.pyz; the same for the same sources."""
    guest = resources.files("lab") / "guest"
    files = {"__main__.py": _MAIN, "lab/__init__.py": ""}
    files.update({f"lab/guest/{name}": (guest / name).read_text(encoding="utf-8") for name in _SHARED})
    files.update(_sources(guest / "recorder", "lab/guest/recorder"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), files[name])
    return _SHEBANG + buffer.getvalue()


def recorder_script() -> bytes:
    """The recorder as a POSIX shell script."""
    return (resources.files("lab") / "guest" / "recorder" / "record.sh").read_bytes()


def write_recorder(path: Path) -> None:
    """Write the recorder that the file's name asks for: the script for *.sh, else the zipapp; an older one
    is overwritten, and nothing else. Raises LabError.
    """
    data = recorder_script() if path.suffix == _SCRIPT_SUFFIX else recorder_zipapp()
    try:
        if path.exists() and path.read_bytes()[: len(_PROGRAM)] != _PROGRAM:
            raise LabError(
                f"{path}: is there, and is no recorder", hint="a record is read with --from; name a new file"
            )
        path.write_bytes(data)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    except OSError as error:
        raise LabError(
            f"{path}: cannot be written: {error.strerror}", hint="name a file in a folder of yours"
        ) from error


def _is_program(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_PROGRAM)) == _PROGRAM


def _sources(folder: Traversable, name: str) -> dict[str, str]:
    return {
        f"{name}/{entry.name}": entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".py")
    }
