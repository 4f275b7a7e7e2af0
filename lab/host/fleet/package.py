"""Which lab this is, by the content of its files: a worker runs what the client would have run, or nothing."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import lab

_MADE_BY_PYTHON = frozenset({"__pycache__"})


@cache
def package_digest() -> str:
    """The SHA-256 over the names and contents of all files of this package, as they were at the first call."""
    root = Path(lab.__file__).parent
    files = [path for path in root.rglob("*") if path.is_file() and not _MADE_BY_PYTHON & set(path.parts)]
    whole = hashlib.sha256()
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(root)}\0{content}\n".encode())
    return whole.hexdigest()


def resource_name(digest: str) -> str:
    """What a worker of this lab offers a slot of, and a task asks for: Dask gives it to no worker of another lab."""
    return f"lab-{digest[:16]}"
