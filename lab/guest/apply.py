"""Applying a starting state: the steps in order, as argv, each with its exit status recorded."""

import os
import selectors
import shutil
import signal
import subprocess
import time
from typing import IO, Any, Callable, ContextManager, Dict, List, NamedTuple, Optional, Sequence

from lab.guest.files import MAX_TEXT_BYTES, as_path, error_name, sysctl_path, write_text
from lab.guest.programs import OWN_PATH, SCRIPTS, instrument
from lab.guest.removal import mismatch

STEP_SECONDS = 60.0
_BUSY_SECONDS = 2.0
_VERSION_SECONDS = 10.0
_KILL_SECONDS = 5.0  # a program that hangs in the kernel outlives SIGKILL
_LOOK_SECONDS = 0.1
STEP_PATH = OWN_PATH + ":" + SCRIPTS  # the lab's programs come last, in a distribution that has not all
_BACKENDS = ("-legacy", "-nft")
_ENVIRONMENT = {"PATH": STEP_PATH, "HOME": "/root", "LC_ALL": "C", "TERM": "dumb"}
_MAX_OUTPUT = 65536
_SIGNAL_STATUS = range(129, 193)  # as a shell tells that a signal ended a program: 128 and the signal, 1 to 64

Outcome = Dict[str, Any]


Inside = Callable[[str], ContextManager[None]]


def apply_steps(
    steps: List[Dict[str, Any]], on_outcome: Callable[[Outcome], None], inside: Optional[Inside] = None
) -> bool:
    """Apply the steps until one does not do what it should; True when all did. `inside` leads to the end of the path
    that a step names.

    A step does what it should when it succeeds, or, marked `refused`, when it ends with a failure: a program that
    is not there, hangs, or is ended by a signal was not refused anything.
    """
    for number, step in enumerate(steps):
        started = time.monotonic()
        if step.get("in") is None or inside is None:
            outcome = _KINDS[step["kind"]](step)
        else:
            with inside(step["in"]):
                outcome = _KINDS[step["kind"]](step)
        outcome.update(number=number, seconds=round(time.monotonic() - started, 4))
        outcome["as_wanted"] = _as_wanted(outcome, bool(step.get("refused", False)))
        on_outcome(outcome)
        if not outcome["as_wanted"]:
            return False
    return True


def _as_wanted(outcome: Outcome, refused: bool) -> bool:
    if refused:
        ended_by_itself = bool(outcome.get("ended_by_itself", True)) and outcome["exit_status"] not in _SIGNAL_STATUS
        return outcome["exit_status"] != 0 and ended_by_itself
    return bool(outcome["exit_status"] == 0)


def run_command(argv: List[str], seconds: float, limit: int = _MAX_OUTPUT) -> Outcome:
    """Run a program to its end: exit status (shell's numbers for a missing one or a signal), bounded output."""
    try:
        process = start_command(argv)
    except (OSError, ValueError) as error:  # ValueError: a NUL in an argument, or text that is no UTF-8
        status = 127 if isinstance(error, FileNotFoundError) else 126
        stderr = "{}: {}".format(argv[0], getattr(error, "strerror", None) or error)
        return {"argv": argv, "exit_status": status, "ended_by_itself": False, "stdout": "", "stderr": stderr}
    ended = finish_command(process, seconds, limit)
    late = [] if ended.by_itself else ["killed: it had not ended after {:g} s".format(seconds)]
    return {
        "argv": argv,
        "exit_status": ended.exit_status,
        "ended_by_itself": ended.by_itself,
        "stdout": _marked(ended.stdout),
        "stderr": "\n".join([_marked(ended.stderr), *late]),
    }


class Text(NamedTuple):
    """The beginning of what a program printed, and whether it printed more."""

    text: str
    truncated: bool


class Ended(NamedTuple):
    """How a program ended: its exit status as a shell gives it, 124 when it was killed for being late (timeout(1))."""

    exit_status: int
    by_itself: bool
    stdout: Text
    stderr: Text


def program_here(name: str) -> str:
    """The name by which this machine has a program.

    Before iptables 1.8 (CentOS 7) there was one backend, and what is `iptables-legacy` since was called `iptables`;
    some distributions have only one of the two (RHEL), by that name. Its version says which.
    """
    if "/" in name:
        return name
    backend = next((mark for mark in _BACKENDS if name.startswith(("iptables" + mark, "ip6tables" + mark))), None)
    if backend is None or _where(name) is not None:
        return instrument(name)
    plain = name.replace(backend, "", 1)
    if _where(plain) is None:
        return name
    version = run_command([plain.split("-")[0], "--version"], _VERSION_SECONDS)
    said = "-nft" if "nf_tables" in version["stdout"] else "-legacy"
    return plain if version["exit_status"] == 0 and said == backend else name


def _where(name: str) -> Optional[str]:
    return shutil.which(name, path=OWN_PATH)


def start_command(argv: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start a program whose output `finish_command` will take; raises OSError and ValueError."""
    words = [program_here(argv[0]), *argv[1:]]
    return subprocess.Popen(
        [word.encode("utf-8") for word in words],  # the first process of a machine has no locale that would say so
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )


def finish_command(process: "subprocess.Popen[bytes]", seconds: float, limit: int) -> Ended:
    """Wait for a started program, killing its whole session when the time is over; returns within seconds of that.

    What it leaves behind in the background may keep the pipes open: that is not waited for.
    """
    deadline = time.monotonic() + seconds
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    try:
        stdout, stderr = _take_output(process, streams, deadline, limit)
        by_itself = _wait(process, deadline - time.monotonic())
        if not by_itself:
            os.killpg(process.pid, signal.SIGKILL)
            _wait(process, _KILL_SECONDS)
    finally:
        for stream in streams:
            stream.close()
    status = process.returncode if by_itself else 124
    return Ended(status if status >= 0 else 128 - status, by_itself, stdout, stderr)


def _take_output(
    process: "subprocess.Popen[bytes]", streams: List[IO[bytes]], deadline: float, limit: int
) -> List[Text]:
    """Read to the end, keeping at most `limit` bytes of each: a program that never stops printing fills no memory."""
    kept = {stream.fileno(): b"" for stream in streams}
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            ready = selector.select(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                kept[key.fd] += chunk[: limit + 1 - len(kept[key.fd])]
            if not ready and process.poll() is not None:
                break
    return [Text(data[:limit].decode("utf-8", "backslashreplace"), len(data) > limit) for data in kept.values()]


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    try:
        process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return False
    return True


def set_sysctls(values: Dict[str, Any]) -> List[str]:
    """Write sysctls; returns one line for each that could not be written."""
    problems = []
    for name, value in values.items():
        try:
            write_text(sysctl_path(name), str(value))
        except OSError as error:
            problems.append("{}: {}".format(name, error_name(error)))
    return problems


def _run(step: Dict[str, Any]) -> Outcome:
    return run_command(step["argv"], step.get("deadline_seconds", STEP_SECONDS))


def _file(step: Dict[str, Any]) -> Outcome:
    outcome = {"path": step["path"], "exit_status": 0, "stdout": "", "stderr": ""}
    try:
        os.makedirs(os.path.dirname(as_path(step["path"])), exist_ok=True)
        write_text(step["path"], step["text"])
    except OSError as error:
        outcome.update(exit_status=1, stderr="{}: {}".format(step["path"], error_name(error)))
    return outcome


def _sysctl(step: Dict[str, Any]) -> Outcome:
    problems = set_sysctls(step["values"])
    return {"values": step["values"], "exit_status": int(bool(problems)), "stdout": "", "stderr": "\n".join(problems)}


def _unload(step: Dict[str, Any]) -> Outcome:
    """Remove those of the named modules that are loaded, in that order: the names differ from kernel to kernel."""
    removed: List[str] = []
    for module in step["modules"]:
        if module.replace("-", "_") not in loaded_modules():
            continue
        outcome = _remove(module)
        if outcome["exit_status"] != 0:
            return dict(outcome, removed=removed)
        removed.append(module)
    return {"modules": step["modules"], "removed": removed, "exit_status": 0, "stdout": "", "stderr": ""}


def _remove(module: str) -> Outcome:
    """nf_tables frees what was flushed in the background, so that a module may stay in use for a moment longer: for so
    long it is tried again.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        outcome = run_command(["modprobe", "-r", module], STEP_SECONDS)
        over = not outcome["ended_by_itself"] or time.monotonic() > deadline
        if outcome["exit_status"] == 0 or over:
            return outcome
        time.sleep(0.05)


def _remove_rules(step: Dict[str, Any]) -> Outcome:
    """Run the step's program if at every place that it names the expected rule is there, and nothing else."""
    listings: Dict[Any, Outcome] = {}
    for expected in step["expected"]:
        listing = tuple(expected["listing"])
        if listing not in listings:
            listings[listing] = run_command(list(listing), STEP_SECONDS, MAX_TEXT_BYTES)
        listed = listings[listing]
        if listed["exit_status"] != 0:
            return dict(listed, stdout="")
        another = mismatch(listed["stdout"], expected)
        if another is not None:
            return {"argv": step["argv"], "exit_status": 1, "stdout": "", "stderr": another}
    return _run(step)


def loaded_modules() -> List[str]:
    """The names in /proc/modules; empty on a kernel without modules."""
    try:
        with open("/proc/modules") as file:
            return [line.split(" ", 1)[0] for line in file]
    except OSError:
        return []


def _marked(output: Text) -> str:
    return output.text + "\n[cut]" if output.truncated else output.text


_KINDS: Dict[str, Callable[[Dict[str, Any]], Outcome]] = {
    "run": _run,
    "file": _file,
    "sysctl": _sysctl,
    "unload": _unload,
    "remove": _remove_rules,
}
