"""The SHA-256 of files that one process asks for again and again: images, before each chunk of cells and each look."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from lab.host.cache import sha256_of

_SETTLED_SECONDS = 2.0  # a write shortly after another one may leave a file's times as they were
_GOOD_SECONDS = 600.0  # a disk may fail without a write


@dataclass(frozen=True)
class _Known:
    identity: tuple[int, ...]
    digest: str
    read_at: float


_known: dict[Path, _Known] = {}


def known_sha256(path: Path) -> str:
    """As sha256_of; or what this process read at most ten minutes ago, where the file is the same and was not written
    since: device, inode, size and times are as they were.
    """
    seen = path.stat()
    identity = (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    known, now = _known.get(path), time.monotonic()
    if known is not None and known.identity == identity and now - known.read_at < _GOOD_SECONDS:
        return known.digest
    is_settled = time.time() - max(seen.st_mtime, seen.st_ctime) > _SETTLED_SECONDS
    digest = sha256_of(path)
    if is_settled:
        _known[path] = _Known(identity, digest, now)
    return digest
