"""The file of an image: by path or fetched, and refused unless its digest is the one that was named for it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from lab.core.distribution.disk_format import HEADER_BYTES, NoDiskImage, disk_format
from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host.cache import Deadline, Progress, cache_root, exclusive, make_folder, remove_stale, require_space, staging
from lab.host.distributions.source import Digest, ImageSource
from lab.host.download import download

_LOCK = "distribution-images"
_USUAL_BYTES = 10**9  # what a cloud image may take
_MOST_BYTES = 8 * 10**9


@dataclass(frozen=True)
class ImageFile:
    """An image as it lies on this host."""

    path: Path
    format: str
    sha256: str


def image_file(source: ImageSource, progress: Progress, deadline: Deadline) -> ImageFile:
    """The image, fetched if it is not here, and of the digest that was named for it.

    Raises ScenarioError and PrerequisiteError; nothing was started then.
    """
    path = source.path
    if source.is_url:
        path = _fetched(source, progress, deadline)
    try:
        with path.open("rb") as file:
            head, size_bytes = file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ScenarioError(
            f"no image at {path}: {error.strerror}", hint="the path of a qcow2 or raw disk image"
        ) from error
    try:
        form = disk_format(head, size_bytes)
    except NoDiskImage as wrong:
        raise ScenarioError(f"{path} {wrong}", hint=wrong.hint) from wrong
    _require_readable(path)
    return ImageFile(path, form, _checked(path, source.digest))


def _fetched(source: ImageSource, progress: Progress, deadline: Deadline) -> Path:
    """The image in the cache, in a folder named by its digest: fetched if it is missing or no more what it was."""
    assert source.digest is not None, "a URL without a digest is refused before"
    folder = make_folder(cache_root() / "distribution-images")
    final = folder / source.digest.value
    file = final / (re.sub(r"[^\w.+~-]", "_", source.place.partition("?")[0].rpartition("/")[2])[-200:] or "image")
    with exclusive(_LOCK, deadline, on_wait=lambda: progress("waiting for another one that fetches")):
        remove_stale(folder, _LOCK)
        if not (file.is_file() and _digest(file, source.digest.algorithm) == source.digest.value):
            require_space(folder, _USUAL_BYTES, "an image of a distribution")
            progress(f"fetching {source.place}")
            with staging(final, _LOCK) as work:
                download(source.place, work / file.name, _MOST_BYTES, deadline, "fetch it by hand, then image:PATH")
                _checked(work / file.name, source.digest)
    return file


def _checked(path: Path, expected: Digest | None) -> str:
    """The SHA-256 of a file, all of whose bytes have the expected digest. Raises PrerequisiteError."""
    sha256 = _digest(path, "sha256")
    if expected is None:
        return sha256
    actual = sha256 if expected.algorithm == "sha256" else _digest(path, expected.algorithm)
    if actual != expected.value:
        raise PrerequisiteError(
            f"{path}: its {expected.algorithm} is {actual}, expected {expected.value}",
            hint="it is another build of the image, or damaged: fetch it again, or name the digest of this one",
        )
    return sha256


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _require_readable(path: Path) -> None:
    """QEMU runs as an unprivileged user where the lab is root, and the mode of a user's file is not the lab's."""
    status = path.stat()
    if os.geteuid() == 0 and status.st_uid == 0 and not status.st_mode & stat.S_IROTH:
        raise PrerequisiteError(f"{path}: others may not read it, and QEMU runs as nobody", hint=f"chmod o+r {path}")
