"""Looking into another system's disk: its partitions' first bytes, its files; mounted read-only, and never run."""

import base64
import glob
import os
import stat
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List

from lab.guest.apply import run_command
from lab.guest.files import MAX_TEXT_BYTES, error_name, read_text

HEAD_BYTES = 68 * 1024  # btrfs has its superblock after 64 KiB, all others that are known before
PART_BYTES = 1024 * 1024
_SECTOR_BYTES = 512  # the unit of /sys/class/block/*/size, whatever the disk's own is
_MOUNT_SECONDS = 60.0
_MAX_PARTITIONS = 64
_MAX_PATHS = 5000
_MOUNTS = "/run/disk"
_OVERLAYS = "/run/disk-overlay"  # in memory
_PROGRAM_SECONDS = 60.0


def partitions(disk: str) -> List[Dict[str, Any]]:
    """A disk as the kernel has divided it: the whole, then each partition, with its size and its first bytes."""
    folder = os.path.join("/sys/class/block", disk)
    parts = [name for name in os.listdir(folder) if os.path.exists(os.path.join(folder, name, "partition"))]
    names = [disk, *sorted(parts, key=lambda name: (len(name), name))]
    return [_partition(name) for name in names[:_MAX_PARTITIONS]]


def _partition(name: str) -> Dict[str, Any]:
    size, _, _ = read_text(os.path.join("/sys/class/block", name, "size"))
    try:
        with open("/dev/" + name, "rb") as file:
            head, error = file.read(HEAD_BYTES), None
    except OSError as failure:
        head, error = b"", error_name(failure)
    size_bytes = int(size or 0) * _SECTOR_BYTES
    return {"name": name, "size_bytes": size_bytes, "head": _text_of(head), "error": error}


def mount(name: str, filesystem: str, options: str) -> Dict[str, Any]:
    """Mount a partition read-only, in place of what was mounted there before: where, and the outcome of mount(8)."""
    place = os.path.join(_MOUNTS, name)
    os.makedirs(place, exist_ok=True)
    if os.path.ismount(place):
        run_command(["umount", place], _MOUNT_SECONDS)
    argv = ["mount", "-t", filesystem, "-o", options, "/dev/" + name, place]
    return dict(run_command(argv, _MOUNT_SECONDS), place=place)


def look(root: str, patterns: List[str]) -> List[Dict[str, Any]]:
    """What matches the globs below `root`, in order: each path, where it leads if it is a link, and its size."""
    with _root_at(root):
        paths = sorted({path for pattern in patterns for path in glob.glob("/" + pattern)})
        return [_entry(path) for path in paths[:_MAX_PATHS]]


def _entry(path: str) -> Dict[str, Any]:
    status = os.lstat(path)
    link = os.readlink(path) if stat.S_ISLNK(status.st_mode) else None
    return {"path": path.lstrip("/"), "link": link, "size_bytes": status.st_size, "folder": os.path.isdir(path)}


def texts(root: str, paths: List[str], limit: int) -> Dict[str, Dict[str, Any]]:
    """The content of files below `root`, each with why there is none, and whether it was cut at `limit` bytes."""
    found: Dict[str, Dict[str, Any]] = {}
    with _root_at(root):
        for path in paths:
            text, error, truncated = read_text("/" + path, limit)
            found[path] = {"text": text, "error": error, "truncated": truncated}
    return found


def fetch(root: str, path: str, limit: int, on_part: Callable[[str], None]) -> int:
    """Pass on the first `limit` bytes of a file below `root`, in parts; how many there were. Raises OSError."""
    sent = 0
    with _root_at(root):
        with open("/" + path, "rb") as file:
            while sent < limit:
                part = file.read(min(PART_BYTES, limit - sent))
                if not part:
                    break
                on_part(_text_of(part))
                sent += len(part)
    return sent


def run(root: str, argv: List[str]) -> Dict[str, Any]:
    """Run a program of the system below `root`, where it may write and nothing of it stays; the outcome."""
    place = _writable(root)
    return run_command(["chroot", place, *argv], _PROGRAM_SECONDS, MAX_TEXT_BYTES)


def _writable(root: str) -> str:
    """`root` under an overlay in memory, with a /dev; made at the first call. Raises OSError."""
    place, writes = os.path.join(_OVERLAYS, "root"), os.path.join(_OVERLAYS, "writes")
    if os.path.ismount(place):
        return place
    for folder in (place, writes + "/upper", writes + "/work"):
        os.makedirs(folder, exist_ok=True)
    layers = "lowerdir={},upperdir={}/upper,workdir={}/work".format(root, writes, writes)
    for argv in (
        ["mount", "-t", "overlay", "-o", layers, "overlay", place],
        ["mount", "--bind", "/dev", place + "/dev"],
    ):
        outcome = run_command(argv, _MOUNT_SECONDS)
        if outcome["exit_status"] != 0:
            raise OSError("{}: {}".format(" ".join(argv), outcome["stderr"].strip()))
    return place


def _text_of(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


@contextmanager
def _root_at(folder: str) -> Iterator[None]:
    """Within another root for a while, so that no link leads out of it."""
    home = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.chroot(folder)
        os.chdir("/")
        try:
            yield
        finally:
            os.fchdir(home)
            os.chroot(".")
    finally:
        os.close(home)
