"""Entering network namespaces: those of a path's ends, by their names."""

import ctypes
import os
from contextlib import contextmanager
from typing import Callable, Iterator

from lab.guest.files import error_name
from lab.guest.paths import path_of

NAMESPACES_FOLDER = "/var/run/netns/"  # NETNS_RUN_DIR in the Makefile of iproute2
_CLONE_NEWNET = 0x40000000  # linux/sched.h


class TopologyError(Exception):
    """A path cannot be made or entered; names the command, or the file, and what was said of it."""


def enter(name: str, role: str) -> None:
    """Move this process (this thread of it) to where a path's "client" or "server" stands; raises TopologyError."""
    link = path_of(name).links.get(role)
    if link is None:
        return
    file = NAMESPACES_FOLDER + link.namespace
    try:
        _set_namespace(file)
    except OSError as error:
        raise TopologyError("{} cannot be entered: {}".format(file, error_name(error)))


@contextmanager
def inside(name: str, role: str) -> Iterator[None]:
    """Where "client" or "server" stands, for a while; what is done there is done by this thread."""
    link = path_of(name).links.get(role)
    if link is None:
        yield
        return
    with _away(lambda: enter(name, role)):
        yield


@contextmanager
def in_namespace(namespace: str) -> Iterator[None]:
    """Within a named namespace for a while; what is done there is done by this thread. Raises OSError."""
    with _away(lambda: _set_namespace(NAMESPACES_FOLDER + namespace)):
        yield


@contextmanager
def _away(move: Callable[[], None]) -> Iterator[None]:
    """Where `move` leads this thread, and back."""
    home = _home()
    try:
        move()
        try:
            yield
        finally:
            _set_namespace_of(home)
    finally:
        os.close(home)


def _home() -> int:
    """This thread's namespace; before Linux 3.17 that of the process, which is the same but for a moment."""
    try:
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _set_namespace(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set_namespace_of(fd)
    finally:
        os.close(fd)


def _set_namespace_of(fd: int) -> None:
    """setns(2), which os has only since Python 3.12; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
