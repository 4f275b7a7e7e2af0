"""The user's cache: where it is, locks between processes, and folders that are either complete or absent."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import LabError, PrerequisiteError

Progress = Callable[[str], None]

_POLL_SECONDS = 0.2
_REMOVE_TRIES = 10
# a staging folder tells whose lock guards it: .tmp-<lock>-<random>
_STAGING = re.compile(r"\.tmp-(?P<lock>.+)-[a-z0-9_]{8}")


class Cancelled(LabError):
    """The caller's `cancelled` event was set: what was under way has been undone."""


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock by which work must have ended, and what to call that work."""

    what: str
    limit_seconds: float
    ends_at_seconds: float
    cancelled: threading.Event

    @classmethod
    def after(cls, seconds: float, what: str, cancelled: threading.Event | None = None) -> Deadline:
        """A deadline `seconds` from now; `cancelled` ends the work earlier."""
        return cls(what, seconds, time.monotonic() + seconds, cancelled or threading.Event())

    def check(self) -> None:
        """Return while there is time. Raises Cancelled, or LabError that names the work and its limit."""
        if self.cancelled.is_set():
            raise Cancelled(f"{self.what}: interrupted")
        if time.monotonic() >= self.ends_at_seconds:
            raise LabError(
                f"{self.what} did not end within {self.limit_seconds:g} s",
                hint="allow more with --timeouts, or look at the network and the load of this host",
            )


def cache_root() -> Path:
    """The lab's folder in the user's cache (XDG base directories); it need not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # the XDG specification: a relative path is invalid and to be ignored
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "conntrack-lab"


def make_folder(path: Path) -> Path:
    """`path`, made if it was missing. Raises PrerequisiteError when it cannot be made or written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrerequisiteError(
            f"cannot make {path}: {error.strerror}", hint="point XDG_CACHE_HOME to a folder that you can write"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise PrerequisiteError(f"cannot write in {path}", hint="point XDG_CACHE_HOME to a folder that you can write")
    return path


def require_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Return if the file system of `folder` has `needed_bytes` free. Raises PrerequisiteError that says both."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise PrerequisiteError(
            f"{purpose} needs {needed_bytes // 10**6} MB in {folder}, which has {free_bytes // 10**6} MB free",
            hint="free some space (lab image list, lab image remove), or point XDG_CACHE_HOME to a larger disk",
        )


@contextlib.contextmanager
def exclusive(name: str, deadline: Deadline, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock `name` of the cache; `on_wait` is called once if another process has it.

    The kernel drops the lock with its holder, however that ends. Raises what `deadline.check()` raises.
    """
    with _lock_file(name) as descriptor:
        if not _try_lock(descriptor):
            on_wait()
            while not _try_lock(descriptor):
                deadline.check()
                deadline.cancelled.wait(_POLL_SECONDS)
        yield


@contextlib.contextmanager
def scratch(parent: Path, lock: str) -> Iterator[Path]:
    """A new folder in `parent`, removed when the block ends; call it with the lock named `lock` held.

    Its name carries the lock, which marks the folder as alive: remove_stale() takes it away after a builder's death.
    """
    folder = Path(tempfile.mkdtemp(prefix=f".tmp-{lock}-", dir=make_folder(parent)))
    try:
        yield folder
    finally:
        if folder.exists():
            remove_tree(folder)


@contextlib.contextmanager
def staging(final: Path, lock: str) -> Iterator[Path]:
    """A scratch folder beside `final` that becomes `final` when the block ends well, and is removed when it does not.

    What the rename makes visible is on the disk first, so a crash of the host leaves `final` complete or absent too.
    """
    with scratch(final.parent, lock) as folder:
        yield folder
        folder.chmod(0o755)
        _sync_tree(folder)
        if final.exists():
            remove_tree(final)
        folder.rename(final)
        _sync_path(final.parent)


def remove_stale(parent: Path, own_lock: str) -> None:
    """Remove the staging folders in `parent` of builders that died; call it with `own_lock` held.

    A folder under another lock goes only if that lock is free, so a living builder keeps its own.
    """
    for folder in parent.glob(".tmp-*"):
        match = _STAGING.fullmatch(folder.name)
        lock = match["lock"] if match else own_lock
        if lock == own_lock:
            remove_tree(folder)
            continue
        with _lock_file(lock) as descriptor:
            if _try_lock(descriptor):
                remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Remove `folder` with all it holds, also what sub-users of a user namespace own. Raises LabError if some stays.

    Never crosses into another file system: a builder that was killed may have left /dev or /proc mounted inside.
    """
    argv = ("rm", "-rf", "--one-file-system", "--", str(folder))
    for attempt in range(_REMOVE_TRIES):
        for prefix in ((), as_mapped_root()):
            subprocess.run([*prefix, *argv], check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
            if not folder.exists():
                return
        # the processes of a killed builder may be a moment from their end, and still writing
        time.sleep(0.05 * (attempt + 1))
    raise LabError(f"cannot remove {folder}", hint=f"remove it by hand: sudo rm -rf --one-file-system {folder}")


def as_mapped_root() -> tuple[str, ...]:
    """The command prefix under which this user is root over the own sub-user ids; empty for root itself."""
    if os.geteuid() == 0:
        return ()
    return ("unshare", "--user", "--map-root-user", "--map-auto")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _lock_file(name: str) -> Iterator[int]:
    path = make_folder(cache_root() / "locks") / f"{name}.lock"
    # the file stays for ever: removing a lock file lets two processes hold "the" lock
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            _sync_path(path)
    _sync_path(folder)


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
