"""Where the recordings of real guests are: `GOLDEN` has the readable ones and those of tests/golden/archives together.

The folder is made once for each content of tests/golden, in the system's temporary folder, and is only read."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

STORED = Path(__file__).parent / "golden"
ARCHIVES = STORED / "archives"
LIMIT_BYTES = 64 << 20
LIMIT_MEMBERS = 20_000


def digest(stored: Path = STORED) -> str:
    """SHA-256 over the name and content of every stored file."""
    total = hashlib.sha256()
    for path in sorted(path for path in stored.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(stored)}\0{content}\n".encode())
    return total.hexdigest()


def unpack(archive: Path, target: Path) -> None:
    """Raises ValueError if the archive has more than the limits allow, tarfile.TarError if a member leads outside."""
    size_bytes = 0
    with tarfile.open(archive, "r:xz") as tar:
        for number, member in enumerate(tar):
            size_bytes += member.size
            if number >= LIMIT_MEMBERS or size_bytes > LIMIT_BYTES:
                raise ValueError(f"{archive}: over {LIMIT_MEMBERS} members or {LIMIT_BYTES} bytes")
            tar.extract(member, target, filter="data")


def unpacked(stored: Path = STORED, parent: Path | None = None) -> Path:
    """The folder with everything; unpacked aside and renamed, so that parallel sessions never see half of it."""
    parent = parent or Path(tempfile.gettempdir()) / f"conntrack-lab-recordings-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    if parent.is_symlink() or parent.stat().st_uid != os.getuid():
        raise PermissionError(f"{parent} belongs to someone else: remove it, or set TMPDIR")
    root = parent / digest(stored)[:16]
    if root.is_dir():
        return root
    aside = Path(tempfile.mkdtemp(dir=parent))
    try:
        shutil.copytree(stored, aside, ignore=shutil.ignore_patterns("archives"), dirs_exist_ok=True)
        for archive in sorted((stored / "archives").glob("*.tar.xz")):
            unpack(archive, aside)
        aside.rename(root)
    except OSError:
        if not root.is_dir():  # otherwise another session was faster
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return root


GOLDEN = unpacked()
