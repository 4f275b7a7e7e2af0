"""Functions that a test has called in another process: each does what hostile evidence makes a judge do."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

from lab.host.results.plain_files import Damaged


def double(number: int) -> int:
    return 2 * number


def sleep() -> None:
    time.sleep(600)


def backtrack() -> object:
    """No signal handler and no thread comes between: the expression holds the interpreter."""
    return re.match(r"(a+)+$", "a" * 60 + "b")


def eat() -> int:
    return len(b"x" * 2**40)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    os._exit(3)


def say() -> str:
    sys.stdout.write("this is no answer")
    sys.stdout.flush()
    return "said"


def find_damage() -> None:
    raise Damaged(Path("some/file"), "it is odd")


def fail() -> None:
    raise KeyError("a fault")


def unpicklable() -> object:
    return lambda: None


def nest() -> object:
    return nest()
