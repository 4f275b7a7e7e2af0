"""Errors of the host (full disk, no rights, no more open files) in plain words, each with what a person can do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from typing import TypeVar

from lab.core.errors import PrerequisiteError

_HINTS: Mapping[int, str] = {
    errno.ENOSPC: "free some space (lab image list says what the cache takes), or choose another folder",
    errno.EDQUOT: "the quota is used up: free some space, or choose another folder",
    errno.EMFILE: "allow more open files: ulimit -n 1024",
    errno.ENFILE: "the host has no more open files: raise fs.file-max, or end other programs",
    errno.ENOMEM: "free some memory, or run fewer cells at once with -j 1",
    errno.EAGAIN: "the host starts no more processes: raise ulimit -u, or run fewer cells at once with -j 1",
    errno.EACCES: "make it readable and writable for this user, or choose another folder",
    errno.EPERM: "make it readable and writable for this user, or choose another folder",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOENT: "something removed it meanwhile: try again",
    errno.ENOTDIR: "name a folder",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "the disk fails: choose another folder, and look at the kernel's log",
}
# what the host has no more of: says nothing of the program that was to be started
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
_ANY_HINT = "lab doctor says what this host lacks; then try again"

_E = TypeVar("_E", bound=BaseException)


def host_failed(error: OSError, ran: str = "") -> PrerequisiteError:
    """An error of the host in plain words; `ran` is what was kept."""
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    what = f"{where}{error.strerror or error}"
    return PrerequisiteError(f"{what}; {ran}" if ran else what, hint=_HINTS.get(error.errno or 0, _ANY_HINT))


def first_error(error: BaseException, kind: type[_E]) -> _E:
    """The first error of a kind in a group, however deep; `error` holds one."""
    return next(leaf for leaf in leaves(error) if isinstance(leaf, kind))


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, however deep; of what is no group itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
