"""Applying a starting state: the steps in order, as argv, each with its exit status recorded."""

import os
import subprocess
import time
from typing import Any, Callable, Dict, List

from lab.guest.files import error_name, sysctl_path, write_text

STEP_SECONDS = 60.0
_BUSY_SECONDS = 2.0
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C", "TERM": "dumb"}
_MAX_OUTPUT = 65536

Outcome = Dict[str, Any]


def apply_steps(steps: List[Dict[str, Any]], on_outcome: Callable[[Outcome], None]) -> bool:
    """Apply the steps until one does not do what it should; True when all did.

    A step does what it should when it succeeds, or, marked `refused`, when it fails.
    """
    for number, step in enumerate(steps):
        started = time.monotonic()
        outcome = _KINDS[step["kind"]](step)
        outcome.update(number=number, seconds=round(time.monotonic() - started, 4))
        outcome["as_wanted"] = (outcome["exit_status"] != 0) is bool(step.get("refused", False))
        on_outcome(outcome)
        if not outcome["as_wanted"]:
            return False
    return True


def run_command(argv: List[str], seconds: float) -> Outcome:
    """Run a program to its end: exit status (shell's numbers for a missing one or a signal), bounded output."""
    try:
        process = start_command(argv)
    except OSError as error:
        status = 127 if isinstance(error, FileNotFoundError) else 126
        return {"argv": argv, "exit_status": status, "stdout": "", "stderr": "{}: {}".format(argv[0], error.strerror)}
    return finish_command(argv, process, seconds)


def finish_command(argv: List[str], process: "subprocess.Popen[bytes]", seconds: float) -> Outcome:
    """Wait for a started program, killing its whole session when the time is over (exit status 124, as timeout(1))."""
    late = False
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, 9)
        out, err = process.communicate()
    status = process.returncode
    return {
        "argv": argv,
        "exit_status": 124 if late else status if status >= 0 else 128 - status,
        "stdout": _bounded(out),
        "stderr": _bounded(err),
    }


def start_command(argv: List[str]) -> "subprocess.Popen[bytes]":
    """Start a program whose output `finish_command` will take; raises OSError."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )


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
        os.makedirs(os.path.dirname(step["path"]), exist_ok=True)
        write_text(step["path"], step["text"])
    except OSError as error:
        outcome.update(exit_status=1, stderr="{}: {}".format(step["path"], error_name(error)))
    return outcome


def _sysctl(step: Dict[str, Any]) -> Outcome:
    problems = set_sysctls(step["values"])
    return {"values": step["values"], "exit_status": bool(problems) * 1, "stdout": "", "stderr": "\n".join(problems)}


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
    """nf_tables frees what was flushed in the background, so that a module may stay in use for a moment longer."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        outcome = run_command(["modprobe", "-r", module], STEP_SECONDS)
        if outcome["exit_status"] == 0 or time.monotonic() > deadline:
            return outcome
        time.sleep(0.05)


def loaded_modules() -> List[str]:
    """The names in /proc/modules; empty on a kernel without modules."""
    try:
        with open("/proc/modules") as file:
            return [line.split(" ", 1)[0] for line in file]
    except OSError:
        return []


def _bounded(data: bytes) -> str:
    text = data[:_MAX_OUTPUT].decode("utf-8", "backslashreplace")
    return text + "\n[cut]" if len(data) > _MAX_OUTPUT else text


_KINDS: Dict[str, Callable[[Dict[str, Any]], Outcome]] = {
    "run": _run,
    "file": _file,
    "sysctl": _sysctl,
    "unload": _unload,
}
