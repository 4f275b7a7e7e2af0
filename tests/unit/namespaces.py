"""Network namespaces for tests: a body runs in a child of its own, and what it makes is gone with that child."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import resource
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.guest.machine import bring_up

_NET = Path("/proc/thread-self/net")  # /proc/net shows the namespace of a process's first thread
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h


def in_namespace(body: Callable[[], Any]) -> Any:
    """Run `body` in new network and mount namespaces and return what it returned, by way of JSON.

    Loopback is up and /run is empty there. Skips the test where this user cannot have namespaces, or `body` skips.
    """
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        _answer(body, write_fd)
    os.close(write_fd)
    try:
        with os.fdopen(read_fd, "rb") as pipe:
            answer = json.loads(pipe.read() or b'{"failed": "ended without a word"}')
    except BaseException:
        os.kill(pid, 9)
        raise
    finally:
        os.waitpid(pid, 0)
    if "skip" in answer:
        pytest.skip(answer["skip"])
    assert "failed" not in answer, answer["failed"]
    return answer["result"]


def leave_descriptors(count: int) -> None:
    """Let this process open so many descriptors more, whatever it has open already."""
    taken = {int(name) for name in os.listdir("/proc/self/fd")}
    free = (number for number in itertools.count() if number not in taken)
    limit = next(itertools.islice(free, count, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def track() -> None:
    """Have this namespace's conntrack track, with a rule that matches nothing; skips where that cannot be."""
    if not (_NET / "nf_conntrack").exists():
        pytest.skip("this kernel has no conntrack, or does not list its entries in /proc/net/nf_conntrack")
    nft = "table ip test { chain input { type filter hook input priority 0; ct state invalid counter; }; }"
    first_that_works(
        ["nft", nft],
        ["iptables-legacy", "--append", "INPUT", "--match", "conntrack", "--ctstate", "INVALID"],
    )


def first_that_works(*commands: list[str]) -> None:
    """Run the commands until one succeeds; skips the test when none does."""
    said = []
    for argv in commands:
        try:
            ended = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        except FileNotFoundError as error:
            said.append(str(error))
            continue
        if ended.returncode == 0:
            return
        said.append(f"{argv[0]}: {ended.stderr.strip()}")
    pytest.skip(f"cannot be done here: {'; '.join(said)}")


def entries() -> list[str]:
    """The lines of this thread's namespace's table."""
    return (_NET / "nf_conntrack").read_text().splitlines()


def neighbours() -> dict[str, int]:
    """The flags (linux/if_arp.h) of each address in the ARP table of this thread's namespace."""
    rows = [line.split() for line in (_NET / "arp").read_text().splitlines()[1:]]
    return {row[0]: int(row[2], 16) for row in rows}


def counters(protocol: str) -> dict[str, int]:
    """The counters of one protocol in this thread's namespace, from /proc/net/snmp."""
    rows = [line.split() for line in (_NET / "snmp").read_text().splitlines()]
    names, values = (row[1:] for row in rows if row[0] == f"{protocol}:")
    return dict(zip(names, map(int, values), strict=True))


def _answer(body: Callable[[], Any], write_fd: int) -> None:
    answer: dict[str, Any]
    try:
        _leave()
        answer = {"result": body()}
    except pytest.skip.Exception as skipped:
        answer = {"skip": str(skipped)}
    except BaseException:
        answer = {"failed": traceback.format_exc()}
    os.write(write_fd, json.dumps(answer).encode())
    os._exit(0)


def _leave() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS) != 0:
        pytest.skip(f"no namespaces here: {os.strerror(ctypes.get_errno())}")
    for argv in (["mount", "--make-rprivate", "/"], ["mount", "-t", "tmpfs", "none", "/run"]):
        first_that_works(argv)
    bring_up("lo")
