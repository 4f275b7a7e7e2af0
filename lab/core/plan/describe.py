"""A plan in words: what a cell will do, its load in a phrase, and what became of a step."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from lab.core.plan.plan import CellPlan, PlannedStep, RemoveStep
from lab.core.scenario import FileStep, LoadSpec, RunStep, Step, SysctlStep, UnloadStep
from lab.core.text import shortened

_FAMILIES: Mapping[str | None, str] = {"ipv6": "over IPv6", "both": "half of them over IPv6"}
_MAX_STEP = 300  # of a step's own words, in the line that tells what became of it
_MAX_COMPLAINT = 300  # of what a step printed, in the line that tells of it


def describe(plan: CellPlan) -> tuple[str, ...]:
    """What a cell will do, a line for each thing, for `--dry-run`; safe for a terminal whatever the file says."""
    machine, load = plan.machine, plan.load
    boot_args = f", boot arguments {' '.join(machine.boot_args)}" if machine.boot_args else ""
    path = f", path {machine.path}" if machine.path else ""
    packages = f", packages {' '.join(machine.packages)}" if machine.packages else ""
    lines = [plan.cell, f"  machine: {machine.memory_mb} MB, {machine.vcpus} vCPUs{path}{packages}{boot_args}"]
    lines += [line for planned in plan.steps for line in _step_lines(planned)]
    lines += [f"  set, where it exists: {name} = {value}" for name, value in plan.settings.items()]
    lines.append(f"  load: {describe_load(load)}")
    lines += [line for planned in plan.during for line in _step_lines(planned)]
    return tuple(_printable(line) for line in lines)


def _step_lines(planned: PlannedStep) -> list[str]:
    first, *more = _describe_step(planned.step)
    return [f"  {planned.key}: {first}", *(f"    | {line}" for line in more)]


def describe_load(load: LoadSpec) -> str:
    """A load in a phrase: `churn 5000 connections, 500 per second, each for 0.1 s, ended by fin`."""
    parts = [f"{load.kind} {load.connections} connections"]
    parts += [f"{load.rate_per_second} per second"] if load.rate_per_second else []
    parts += [f"each for {load.hold_seconds:g} s"] if load.hold_seconds is not None else []
    parts += [f"ended by {load.close}"] if load.close else []
    parts += ["with answers"] if load.answered else []
    parts += [f"then {load.newcomers} newcomers over TCP"] if load.newcomers else []
    parts += ["a byte there and back over each at the end"] if load.data else []
    parts += [_FAMILIES[load.family]] if load.family in _FAMILIES else []
    return ", ".join(parts)


def describe_outcome(plan: CellPlan, outcome: Mapping[str, object]) -> str:
    """What became of a step, in a line: `state[0]: run nft -f x: exit status 1, 0.2 s: what it complained of`.

    `outcome` is what the guest said, so it may be anything; the line is safe for a terminal all the same.
    """
    number, seconds = outcome.get("number"), outcome.get("seconds")
    known = isinstance(number, int) and 0 <= number < len(plan.steps)
    planned = plan.steps[number] if known and isinstance(number, int) else None
    step = (
        shortened(f"{planned.key}: {_describe_step(planned.step)[0]}", _MAX_STEP)
        if planned
        else "a step that was not planned"
    )
    parts = [f"exit status {outcome.get('exit_status')!r:.20}"]
    parts += [f"{seconds:.1f} s"] if isinstance(seconds, float) else []
    complaint = " ".join(str(outcome.get("stderr") or "")[:_MAX_COMPLAINT].split())
    wanted = "" if outcome.get("as_wanted") is True else ", not as wanted"
    return _printable(f"{step}: {', '.join(parts)}{wanted}{f': {complaint}' if complaint else ''}")


def _describe_step(step: Step | RemoveStep) -> tuple[str, ...]:
    match step:
        case RemoveStep(argv, _):
            return (f"run {shlex.join(argv)}",)
        case RunStep(argv, refused, end=end):
            return (f"run {shlex.join(argv)}{_where(end)}{' (must be refused)' if refused else ''}",)
        case FileStep(path, text, source=source) if source:
            return (f"write {path} from {source}, {len(text.encode())} bytes",)
        case FileStep(path, text):
            return (f"write {path}", *text.splitlines())
        case SysctlStep(values, end=end):
            return (f"sysctl {' '.join(f'{name}={shlex.quote(value)}' for name, value in values)}{_where(end)}",)
        case UnloadStep(modules):
            return (f"unload, where loaded: {' '.join(modules)}",)


def _where(end: str | None) -> str:
    return f" in the {end}'s namespace" if end else ""


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in line)
