"""The recorder as one file: a zipapp for Python 3.6 and newer, or a shell script for hosts without Python."""

from __future__ import annotations

import ast
import io
import stat
import zipfile
from collections.abc import Iterable
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from lab.core.errors import LabError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can carry
_MAIN = "import sys\nfrom lab.guest.recorder.main import main\nsys.exit(main(sys.argv))\n"
_PROGRAM = b"#!"
_SHEBANG = b"#!/usr/bin/env python3\n"
_SCRIPT_SUFFIX = ".sh"


@cache
def recorder_zipapp() -> bytes:
    """The bytes of recorder.pyz; the same for the same sources."""
    guest = resources.files("lab") / "guest"
    recorder = _sources(guest / "recorder", "lab/guest/recorder")
    package = (guest / "__init__.py").read_text(encoding="utf-8")
    files = {"__main__.py": _MAIN, "lab/__init__.py": "", "lab/guest/__init__.py": package, **recorder}
    files.update(_imported(guest, recorder.values()))
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
        if path.exists() and not _is_program(path):
            hint = "name a new file; a record is read with --from"
            raise LabError(f"{path}: is there, and is no recorder", hint=hint)
        path.write_bytes(data)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    except OSError as error:
        raise LabError(
            f"{path}: cannot be written: {error.strerror}", hint="name a file in a folder of yours"
        ) from error


def _is_program(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_PROGRAM)) == _PROGRAM


def _imported(guest: Traversable, sources: Iterable[str]) -> dict[str, str]:
    """The guest's other modules that these sources import, and what those import in turn."""
    found: dict[str, str] = {}
    pending = [name for source in sources for name in _imports(source)]
    while pending:
        name = f"{pending.pop()}.py"
        if (guest / name).is_file() and f"lab/guest/{name}" not in found:
            source = (guest / name).read_text(encoding="utf-8")
            found[f"lab/guest/{name}"] = source
            pending += _imports(source)
    return found


def _imports(source: str) -> list[str]:
    """The modules of lab.guest that a source imports."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "lab.guest":
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lab.guest."):
            names.append((node.module or "").split(".")[2])
    return names


def _sources(folder: Traversable, name: str) -> dict[str, str]:
    return {
        f"{name}/{entry.name}": entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".py")
    }
