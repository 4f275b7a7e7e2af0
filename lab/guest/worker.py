"""Worker processes of the load: forked, so that none pays for an interpreter's start, and linked by two pipes."""

import asyncio
import gc
import json
import os
import signal
import sys
import traceback
from typing import Any, Callable, Dict, List, Optional, Set

TICK_SECONDS = 0.05
Message = Dict[str, Any]


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """An event loop: `asyncio`, or `uvloop` where that is installed (ImportError where it is not)."""
    if kind == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.new_event_loop()


class Link:
    """JSON lines over a pipe each way, read by the loop of whichever side owns it."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self._write_fd = write_fd
        self._pending = b""
        self.closed = False

    def attach(self, loop: asyncio.AbstractEventLoop, on_message: Callable[[Message], None]) -> None:
        """Call `on_message` for each message; at the end of the stream with an empty one."""
        os.set_blocking(self.read_fd, False)
        loop.add_reader(self.read_fd, self._read, loop, on_message)

    def detach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop reading. A loop must forget a descriptor before that is closed, and before the loop is."""
        loop.remove_reader(self.read_fd)

    def send(self, message: Message) -> None:
        """Write one message; one that finds the other side gone is dropped."""
        try:
            os.write(self._write_fd, json.dumps(message).encode("ascii") + b"\n")
        except BrokenPipeError:
            self.closed = True

    def close(self) -> None:
        """Close both pipes, which is how a worker learns that it shall end."""
        for fd in (self.read_fd, self._write_fd):
            os.close(fd)

    def _read(self, loop: asyncio.AbstractEventLoop, on_message: Callable[[Message], None]) -> None:
        try:
            chunk = os.read(self.read_fd, 65536)
        except BlockingIOError:
            return
        if not chunk:
            loop.remove_reader(self.read_fd)
            self.closed = True
            on_message({})
            return
        lines = (self._pending + chunk).split(b"\n")
        self._pending = lines.pop()
        for line in lines:
            on_message(json.loads(line.decode("ascii")))


class Worker:
    """A forked process and the link to it."""

    def __init__(self, name: str, body: Callable[[Link], None]) -> None:
        """Fork; the child runs `body` with its end of the link and never returns from here."""
        self.name = name
        self.latest: Message = {}
        down_read, down_write = os.pipe()
        up_read, up_write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become_worker(body, down_read, up_write)
        os.close(down_read)
        os.close(up_write)
        self.link = Link(up_read, down_write)

    def end(self) -> None:
        """End the process and reap it: whatever it held is closed when this returns."""
        self.link.close()
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)


def _become_worker(body: Callable[[Link], None], read_fd: int, write_fd: int) -> None:
    """Everything inherited but the link and the standard streams is closed: a worker has no business with it."""
    status = 1
    link = Link(read_fd, write_fd)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the coordinator answers it
        gc.disable()  # what was garbage in the parent could close a number that is the worker's own by then
        _close_all_but({0, 1, 2, read_fd, write_fd})
        body(link)
        status = 0
    except BaseException as error:
        link.send({"crash": "{}: {}".format(type(error).__name__, error)})
        traceback.print_exc()
    finally:
        os._exit(status)


def _close_all_but(keep: Set[int]) -> None:
    """By name, not by range: before Python 3.10 a range is one system call for each number that it could hold."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:  # the descriptor of this listing, gone already
                pass


def end_all(workers: List[Worker]) -> None:
    """End every worker of a list and empty it."""
    while workers:
        workers.pop().end()


def first_crash(workers: List[Worker]) -> Optional[str]:
    """What a worker died of, if one did; one that said why comes before those that only went away."""
    for worker in workers:
        if "crash" in worker.latest:
            return "{}: {}".format(worker.name, worker.latest["crash"])
    for worker in workers:
        if worker.link.closed:
            return "{}: ended without a word".format(worker.name)
    return None
