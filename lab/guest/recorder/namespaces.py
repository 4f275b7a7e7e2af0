"""The network namespaces of a host, and looking at one from a child that enters it."""

import ctypes
import glob
import json
import os
import select
import signal
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from lab.guest.files import error_name, read_text

OWN = "/proc/self/ns/net"
NAMED = ("/run/netns/*", "/run/docker/netns/*")  # `ip netns`, and Docker's
MOST_NAMESPACES = 512
MOST_PROCESSES = 5  # of a namespace, to name it by
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_MAX_ANSWER_BYTES = 256 * 1024 * 1024


class Namespace(NamedTuple):
    """A network namespace: by what it can be entered, and by what people know it."""

    inode: int
    path: str
    names: List[str]
    processes: List[str]  # "PID COMMAND"; the first few
    process_count: int


def namespaces() -> Tuple[List[Namespace], List[str]]:
    """All that are known here, this process's own first; and what kept others from being seen."""
    own = _inode(OWN)
    found: Dict[int, Namespace] = {} if own is None else {own: Namespace(own, OWN, [], [], 0)}
    hidden = _add_of_processes(found)
    _add_named(found)
    problems = []
    if hidden:
        problems.append("processes whose namespaces cannot be read{}: {}".format(_not_root(), hidden))
    if len(found) > MOST_NAMESPACES:
        problems.append("{} namespaces, {} of them were read".format(len(found), MOST_NAMESPACES))
    return list(found.values())[:MOST_NAMESPACES], problems


def _not_root() -> str:
    """Why, where that is known: root is refused in a container."""
    return "" if os.geteuid() == 0 else ", which takes root"


def _add_of_processes(found: Dict[int, Namespace]) -> int:
    """Returns of how many processes the namespace cannot be read."""
    hidden = 0
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        path = "/proc/{}/ns/net".format(pid)
        try:
            inode = int(os.readlink(path)[len("net:[") : -1])
        except PermissionError:
            hidden += 1
            continue
        except (OSError, ValueError):  # it has ended meanwhile
            continue
        known = found.get(inode) or Namespace(inode, path, [], [], 0)
        argv, _, _ = read_text("/proc/{}/cmdline".format(pid), 1)
        if argv and len(known.processes) < MOST_PROCESSES:  # a thread of the kernel has none
            command, _, _ = read_text("/proc/{}/comm".format(pid), 64)
            known.processes.append("{} {}".format(pid, (command or "?").strip()))
        found[inode] = known._replace(process_count=known.process_count + 1)
    return hidden


def _add_named(found: Dict[int, Namespace]) -> None:
    for path in sorted(path for pattern in NAMED for path in glob.glob(pattern)):
        inode = _inode(path)
        if inode is not None and _device(path) == _device(OWN):  # not one whose namespace is gone
            found.setdefault(inode, Namespace(inode, path, [], [], 0)).names.append(os.path.basename(path))


def _inode(path: str) -> Optional[int]:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _device(path: str) -> Optional[int]:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def inside(namespace: Namespace, work: Callable[[], Any], seconds: float) -> Any:
    """What `work` returns, by way of JSON, when it runs in the namespace.

    Raises OSError where that cannot be entered, or where the child does not answer in time.
    """
    if namespace.path == OWN:
        return work()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _answer(namespace.path, work, writing)
    os.close(writing)
    try:
        answer = json.loads(_read_all(reading, seconds).decode("utf-8") or "null")
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if not isinstance(answer, dict) or "failed" in answer:
        raise OSError("cannot be entered: {}".format(answer["failed"] if answer else "its reader ended"))
    return answer["done"]


def _answer(path: str, work: Callable[[], Any], fd: int) -> None:
    try:
        _enter(path)
        answer = {"done": work()}
    except Exception as error:
        answer = {"failed": error_name(error) if isinstance(error, OSError) else repr(error)}
    try:
        with os.fdopen(fd, "wb") as pipe:
            pipe.write(json.dumps(answer).encode("utf-8"))
    finally:
        os._exit(0)


def _enter(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(fd)


def _read_all(fd: int, seconds: float) -> bytes:
    deadline = time.monotonic() + seconds
    chunks: List[bytes] = []
    size = 0
    while size < _MAX_ANSWER_BYTES:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise OSError("does not answer within {:g} s".format(seconds))
        chunk = os.read(fd, 1024 * 1024)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
    raise OSError("answers more than {} MB".format(_MAX_ANSWER_BYTES // 2**20))
