"""Work on what a guest said, in a process of its own with bounds on its time and memory.

A regular expression or a parser that a hostile text keeps busy cannot be interrupted from within, and whatever it runs
in stands still: a process can be killed. Idle processes are kept for the next piece of work, as each takes a third of a
second to start; the first one of a run is a fork, which has loaded already what the run has.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import importlib
import json
import os
import pickle
import resource
import selectors
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

from lab.core.errors import LabError

SECONDS = 60.0
MEMORY_BYTES = 2 * 2**30
MOST_ANSWER_BYTES = 512 * 2**20

_SIZE = struct.Struct(">Q")
_START_SECONDS = 60.0
_EXIT_SECONDS = 5.0
_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from lab.host.results.apart import serve; serve()"


class Exceeded(Exception):
    """The work took more time or memory than it may; the message says which."""


class Worker:
    """A process that calls functions of this program, one after the other.

    `forked` is for a process that has one thread only: of others, what they hold would stay held in the fork.
    """

    def __init__(self, forked: bool = False) -> None:
        self._has_answered = False
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at the terminal is the lab's to handle
            preexec_fn=_serve_as_fork if forked else None,
        )

    def call(self, function: str, arguments: tuple[Any, ...], seconds: float, memory_bytes: int) -> Any:
        """What `module:name` returns. Raises what it raises, and Exceeded; then the process has ended."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        task = pickle.dumps((function, arguments, seconds, memory_bytes))
        deadline = time.monotonic() + seconds + (0.0 if self._has_answered else _START_SECONDS)
        try:
            process.stdin.write(_SIZE.pack(len(task)) + task)
            process.stdin.flush()
            (size,) = _SIZE.unpack(self._read(_SIZE.size, deadline, seconds))
            if size > MOST_ANSWER_BYTES:
                raise Exceeded(f"its answer has {size // 2**20} MB")
            returned, answer = pickle.loads(self._read(size, deadline, seconds))
        except (OSError, EOFError) as error:  # its end of the pipes is closed: it has ended, or is about to
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_EXIT_SECONDS)
            self.end()
            raise Exceeded(self._how_it_ended(seconds)) from error
        except BaseException:
            self.end()
            raise
        self._has_answered = True
        if not returned:
            raise answer
        return answer

    def is_alive(self) -> bool:
        """Whether its process has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the process, whatever it does; whoever waits for its answer takes its exit status."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process and take its exit status."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _read(self, size: int, deadline: float, seconds: float) -> bytes:
        assert self._process.stdout is not None
        descriptor, parts, missing = self._process.stdout.fileno(), [], size
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while missing:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise Exceeded(f"it did not end within {seconds:g} s")
                part = os.read(descriptor, min(missing, 2**20))
                if not part:
                    raise EOFError
                parts.append(part)
                missing -= len(part)
        return b"".join(parts)

    def _how_it_ended(self, seconds: float) -> str:
        status = self._process.returncode
        if status == -signal.SIGXCPU:
            return f"it did not end within {seconds:g} s"
        return (
            f"its process was killed by signal {-status}" if status < 0 else f"its process ended with status {status}"
        )


_T = TypeVar("_T")
_idle: list[Worker] = []
_busy: set[Worker] = set()
_lock = threading.Lock()


def start_ahead() -> None:
    """Have a worker ready that has loaded what this process has; none where this process has more than one thread."""
    if len(os.listdir("/proc/self/task")) == 1:
        _idle.append(Worker(forked=True))


@contextlib.contextmanager
def worker() -> Iterator[Worker]:
    """A worker for this block alone; it is killed when the block raises, and kept for the next one otherwise."""
    with _lock:
        chosen = _idle.pop() if _idle else Worker()
    if not chosen.is_alive():  # somebody ended it while it waited
        chosen.end()
        chosen = Worker()
    try:
        _busy.add(chosen)
        yield chosen
    except LabError:  # an answer like another
        _idle.append(chosen)
        raise
    except BaseException:
        chosen.end()
        raise
    else:
        _idle.append(chosen)
    finally:
        _busy.discard(chosen)


def end_busy() -> None:
    """Kill the workers that are at work: their callers get Exceeded at once."""
    for chosen in tuple(_busy):
        chosen.kill()


@atexit.register
def end_idle() -> None:
    """End the workers that wait for work."""
    with _lock:
        while _idle:
            _idle.pop().end()


def call_apart(function: str, *arguments: Any, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> Any:
    """What the function `module:name` returns for these arguments, called in another process.

    Raises Exceeded where it needs more than `seconds` or `memory_bytes`, and otherwise what it raises.
    """
    with worker() as chosen:
        return chosen.call(function, arguments, seconds, memory_bytes)


async def in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    """What a function returns that calls apart; others have their turn meanwhile.

    When this is cancelled, the busy workers are killed, so that it ends at once.
    """
    work = asyncio.get_running_loop().run_in_executor(None, functools.partial(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        end_busy()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # that it was interrupted is no news
        raise


# -- in the other process ---------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer calls from standard input until it ends."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a function prints is no answer
    while len(head := source.read(_SIZE.size)) == _SIZE.size:
        answer = _answer(*pickle.loads(source.read(*_SIZE.unpack(head))))
        target.write(_SIZE.pack(len(answer)) + answer)
        target.flush()


def _serve_as_fork() -> NoReturn:
    """Serve, and end without what the process that this is a fork of would do at its end."""
    status = 1
    try:
        # Popen waits for the end of one of these, which says that a program has been started
        os.closerange(3, 1 + max(map(int, os.listdir("/proc/self/fd"))))
        serve()
        status = 0
    finally:
        os._exit(status)


def _answer(function: str, arguments: tuple[Any, ...], seconds: float, memory_bytes: int) -> bytes:
    """A pickle of whether the function returned, and of what it returned or raised."""
    module, _, name = function.partition(":")
    try:
        called = getattr(importlib.import_module(module), name)
        _bound(seconds, memory_bytes)
        return pickle.dumps((True, called(*arguments)))
    except MemoryError:
        error: Exception = Exceeded(f"it needs more than {memory_bytes // 2**20} MB of memory")
    except RecursionError:
        error = Exceeded("it is nested too deeply")
    except LabError as known:
        error = known
    except Exception as fault:
        error = RuntimeError(f"{type(fault).__name__}: {str(fault)[:2000]}")
    return pickle.dumps((False, error))


def _bound(seconds: float, memory_bytes: int) -> None:
    """Limits of the kernel's own, which hold even when the lab has been killed."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    most = int(usage.ru_utime + usage.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
