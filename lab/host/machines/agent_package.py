"""The guest's code as one zipapp, the same bytes for the same sources: its digest is part of what shaped a result."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can carry
_MAIN = "import sys\nfrom lab.guest.__main__ import main\nsys.exit(main(sys.argv))\n"


@cache
def agent_zipapp() -> bytes:
    """The bytes of agent.pyz; `python3 agent.pyz agent` runs it (Python 3.6 or newer)."""
    files = {"__main__.py": _MAIN, "lab/__init__.py": ""}
    guest = resources.files("lab") / "guest"
    files.update(_sources(guest, "lab/guest"))
    files.update(_sources(guest / "uring", "lab/guest/uring"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), files[name])
    return buffer.getvalue()


def agent_sha256() -> str:
    """The digest of its bytes, by which a run's manifest and its saved states know it."""
    return hashlib.sha256(agent_zipapp()).hexdigest()


def _sources(folder: Traversable, name: str) -> dict[str, str]:
    return {
        f"{name}/{entry.name}": entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".py")
    }
