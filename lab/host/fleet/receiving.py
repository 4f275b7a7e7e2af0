"""An image or a kernel arrives on a worker, part by part; it is in the cache when all of it has its digests."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from lab.core.errors import LabError
from lab.host.cache import Deadline, cache_root, exclusive, make_folder, require_space, sha256_of, staging
from lab.host.fleet import WORKER_HINT
from lab.host.fleet.artifacts import Artifact

_LOCK = "fleet"
_SECONDS = 300.0


async def begin(artifact: Artifact) -> bool:
    """Make room for an artifact; False where it is there already. Raises LabError without enough space."""
    if artifact.is_there():
        return False
    folder = arriving(artifact)
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    require_space(folder, artifact.size_bytes, f"{artifact.name} of the client")
    return True


async def write(artifact: Artifact, name: str, offset: int, part: bytes) -> None:
    """Write a part of a file. Raises LabError for a file or place that the artifact does not have, and OSError."""
    file = next((file for file in artifact.files if file.name == name), None)
    if file is None or os.path.basename(name) != name or offset + len(part) > file.size_bytes:
        raise LabError(f"{name!r:.100}: is no part of {artifact.name}", WORKER_HINT)
    await asyncio.to_thread(_write_at, arriving(artifact) / name, offset, part)


async def end(artifact: Artifact) -> None:
    """Check all files, and put them into the cache. Raises LabError that names the first file that is another one."""
    await asyncio.to_thread(_take, artifact)


def arriving(artifact: Artifact) -> Path:
    """The folder whose files are not checked yet."""
    return _parent() / artifact.digest


def remove_arriving() -> None:
    """Remove what a worker that was killed had of artifacts."""
    shutil.rmtree(_parent(), ignore_errors=True)


def _take(artifact: Artifact) -> None:
    folder = arriving(artifact)
    for file in artifact.files:
        digest = sha256_of(folder / file.name)
        if digest != file.sha256:
            raise LabError(f"{artifact.name}/{file.name}: sha256 is {digest}, expected {file.sha256}", WORKER_HINT)
    with exclusive(_LOCK, Deadline.after(_SECONDS, f"taking {artifact.name}")), staging(artifact.place, _LOCK) as place:
        for file in artifact.files:
            os.replace(folder / file.name, place / file.name)
    shutil.rmtree(folder)


def _write_at(path: Path, offset: int, part: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "wb") as file:
        file.seek(offset)
        file.write(part)


def _parent() -> Path:
    return cache_root() / "arriving"
