"""Runs what is to be compared, in turn, and prints a JSON line for each run: natively, and inside a guest.

    python3 drive.py PLAN.json

It needs Python 3.9, and nothing but the standard library and lab.guest: a guest has nothing else. A plan is
{"limit_seconds": of a run, "runs": [{"label", "what", ...}]}; see `_RUNS` for what there is.
Each run is in a network namespace of its own, so that no run finds what an earlier one has left.

Programs other than the engine print `ready`, begin when they get a line, print `done SECONDS` and hold until their
input ends. CPU seconds and memory are of all processes of a run: what the kernel says of them just before the go, and
at the end, while everything is still held.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

_CLONE_NEWNET = 0x40000000  # linux/sched.h
# After each run what it held is closed, and that not by its processes alone: a ring's sockets are closed by the kernel
# (io_ring_exit_work()), which would slow the next run down.
_CLOSED_WITHIN_SECONDS, _LOOK_SECONDS, _SETTLE_SECONDS = 20.0, 0.05, 0.3
_SOCKETS_OF_OTHERS = 100
_NET = "/proc/thread-self/net/"

Run = dict[str, Any]
Result = dict[str, Any]


class RunError(Exception):
    """A run that measured nothing; the text says why."""


def main(argv: list[str]) -> int:
    """Make every run of a plan; returns the exit status, 1 if a run failed."""
    with open(argv[1]) as file:
        plan = json.load(file)
    import lab.guest.load  # once, and not in every run
    import lab.guest.machine  # noqa: F401

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = 0
    before = _tcp_sockets()
    for number, run in enumerate(plan["runs"]):
        result = _in_child(run, plan["limit_seconds"])
        failed += "error" in result
        sys.stdout.write(json.dumps(dict(result, number=number, label=run["label"])) + "\n")
        sys.stdout.flush()
        _settle(before)
    return int(failed > 0)


def _in_child(run: Run, limit_seconds: float) -> Result:
    """Make a run in a child, with which everything of it ends."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        os.setpgid(0, 0)
        _answer(dict(run, limit_seconds=limit_seconds), write_fd)
    os.close(write_fd)
    os.setpgid(pid, pid)
    data = b""
    try:
        deadline = time.monotonic() + limit_seconds
        while select.select([read_fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            chunk = os.read(read_fd, 65536)
            data += chunk
            if not chunk:
                break
    finally:
        os.close(read_fd)
        os.killpg(pid, signal.SIGKILL)  # the child is not reaped yet, so the group is there, and is its own
        os.waitpid(pid, 0)
    return json.loads(data.decode()) if data else {"error": f"gave no answer within {limit_seconds:g} s"}


def _answer(run: Run, write_fd: int) -> None:
    try:
        enter_namespace()
        result = _RUNS[run["what"]](run)
        result["tcp"] = _tcp_counters()
    except RunError as error:
        result = {"error": str(error)}
    except BaseException:
        result = {"error": traceback.format_exc()}
    os.write(write_fd, json.dumps(result).encode())
    os._exit(0)


def enter_namespace() -> None:
    """Move to a network namespace of its own, with what the guest's agent sets there; raises RunError."""
    from lab.guest.machine import LIMITS, bring_up, set_existing

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise RunError(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    bring_up("lo")
    written = set_existing({name: value for name, value in LIMITS.items() if name.startswith("net.")})
    # net.core.netdev_max_backlog is not there in a namespace that is not the first one: it is one value for all
    refused = [
        name for name, one in written.items() if one["before"] is not None and one["after"] != str(one["wanted"])
    ]
    if refused:
        raise RunError("cannot be set in a namespace: {}".format(", ".join(refused)))


class Meter:
    """CPU time, and optionally memory, of this process and all below it, from `begin` to `end`."""

    def __init__(self, with_memory: bool) -> None:
        self._with_memory = with_memory
        self._cpu_ns = 0
        self._kib: dict[str, int] = {}

    def begin(self) -> None:
        """Everything is ready and nothing has begun."""
        pids = _tree(os.getpid())
        if self._with_memory:
            self._kib = _memory(pids)
        self._cpu_ns = sum(map(_cpu_ns, pids))

    def end(self) -> Result:
        """Everything is done and still held."""
        pids = _tree(os.getpid())
        busy = len(pids) - 1  # but for the one that only waits for the others
        result: Result = {"cpu_seconds": (sum(map(_cpu_ns, pids)) - self._cpu_ns) / 1e9, "processes": busy}
        if self._with_memory:
            after = _memory(pids)
            result["grown_kib"] = {name: after[name] - self._kib[name] for name in after}
        return result


def run_engine(run: Run) -> Result:
    """The load engine, as `agent.pyz load` runs it: `request` are fields of its LoadRequest."""
    from lab.guest.load import Load, LoadRequest

    meter = Meter(run.get("memory", False))
    samples: list[Any] = []

    def on_sample(sample: Any) -> None:
        if not samples:  # the first one is taken when every worker is ready, before any begins
            meter.begin()
        samples.append(sample)

    load = Load(LoadRequest(deadline_seconds=run["limit_seconds"] / 2, **run["request"]), on_sample)
    ended = load.run()
    result = meter.end()
    load.release()
    wanted, progress = ended["connections"], ended["progress"]
    if progress["held"] != wanted or progress["accepted"] < wanted:
        raise RunError("the engine ended with {}: {}".format(ended["ended"], progress))
    # from the first sample with everything held it counts up, of which C does nothing
    seconds = next(one["seconds"] for one in samples if one["held"] >= wanted and one["accepted"] >= wanted)
    counted = {"seconds": seconds, "count_up_seconds": ended["seconds"] - seconds, "connections": wanted}
    return dict(result, **counted, engine=ended["engine"]["name"])


def run_program(run: Run) -> Result:
    """A program that speaks as this module's docstring says."""
    meter = Meter(run.get("memory", False))
    with _Program(run["argv"]) as program:
        program.expect("ready")
        meter.begin()
        program.say("go")
        seconds = float(program.expect("done")[0])
        result = meter.end()
    return dict(result, seconds=seconds, connections=run["connections"], processes=result["processes"] - 1)


def run_clients(run: Run) -> Result:
    """Clients that know nothing of this, against a server that prints how long its connections took to come."""
    with _Program(run["server"]) as server:
        server.expect("ready")
        server.say("go")
        clients = [
            subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for argv in run["clients"]
        ]
        try:
            seconds = float(server.expect("done", clients)[0])
        finally:
            for client in clients:
                client.kill()
                client.wait()
    return {"seconds": seconds, "connections": run["connections"]}


_RUNS: dict[str, Callable[[Run], Result]] = {"engine": run_engine, "program": run_program, "clients": run_clients}


class _Program:
    """A program that is told when to go; at the end of the block it is asked to end, and is awaited."""

    def __init__(self, argv: list[str]) -> None:
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self) -> _Program:
        return self

    def __exit__(self, *_: Any) -> None:
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def say(self, line: str) -> None:
        """Write a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def expect(self, word: str, alive: list[Any] | None = None) -> list[str]:
        """The rest of the next line, which has to begin with `word`; raises RunError, also when one of `alive` ends."""
        assert self._process.stdout is not None
        while alive is not None and not select.select([self._process.stdout], [], [], 0.1)[0]:
            ended = [process for process in alive if process.poll() is not None]
            if ended:
                raise RunError(f"{ended[0].args[0]} ended with {ended[0].returncode}")
        words = self._process.stdout.readline().decode().split()
        if not words or words[0] != word:
            said = self._process.communicate()[1].decode("utf-8", "replace").strip()
            raise RunError("{}: {}".format(os.path.basename(str(self._process.args[0])), said or "ended"))  # type: ignore[index]
        return words[1:]


def _tree(root: int) -> list[int]:
    """A process and all below it."""
    found = [root]
    for pid in found:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                found.extend(int(child) for child in _text(f"/proc/{pid}/task/{task}/children").split())
        except OSError:
            pass
    return found


def _cpu_ns(pid: int) -> int:
    """User and system time of all threads of a process (the first field of schedstat, sched-stats.rst)."""
    folder = f"/proc/{pid}/task/"
    return sum(int(_text(f"{folder}{task}/schedstat").split()[0]) for task in os.listdir(folder))


def _memory(pids: list[int]) -> dict[str, int]:
    """The sums over processes of smaps_rollup, in KiB (proc(5)): a shared page counts in parts, so once, in Pss."""
    wanted: set[str] = {"Rss", "Pss", "Private_Dirty"}
    total = dict.fromkeys(wanted, 0)
    for pid in pids:
        for line in _text(f"/proc/{pid}/smaps_rollup").splitlines()[1:]:
            name, value = line.split(":", 1)
            if name in wanted:
                total[name] += int(value.split()[0])
    return total


def _tcp_counters() -> dict[str, int]:
    """What must not be there if a rate is to mean anything: overflown backlogs, SYNs that had to be sent again."""
    rows = [line.split() for line in _text(_NET + "netstat").splitlines() if line.startswith("TcpExt:")]
    names, values = rows[0], rows[1]
    return {name: int(values[names.index(name)]) for name in ("ListenOverflows", "TCPSynRetrans")}


def _settle(sockets: int) -> None:
    """Wait until no more TCP sockets are left than there were, but not for ever: others may have some, too."""
    deadline = time.monotonic() + _CLOSED_WITHIN_SECONDS
    while _tcp_sockets() > sockets + _SOCKETS_OF_OTHERS and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    time.sleep(_SETTLE_SECONDS)


def _tcp_sockets() -> int:
    """How many there are in all namespaces: `alloc` of sockstat (sockstat_seq_show(), net/ipv4/proc.c)."""
    (words,) = (line.split() for line in _text("/proc/net/sockstat").splitlines() if line.startswith("TCP:"))
    return int(words[words.index("alloc") + 1])


def _text(path: str) -> str:
    with open(path) as file:
        return file.read()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
