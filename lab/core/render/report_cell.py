"""What a report shows of one cell, made of what lies in its folder.

Whatever a guest said may stand in it, so no text has a character that moves, hides or ends anything: `readable`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.core.holders.groups import groups
from lab.core.holders.model import Holder
from lab.core.kernel import kmsg
from lab.core.plan import RemoveStep
from lab.core.render import by_hand
from lab.core.render.command_words import command_words
from lab.core.render.timeline import Panel
from lab.core.render.views import CellView, HolderView, MitigationView, Pairs, StepView
from lab.core.result import FAMILY_NAMES, CellResult, FamilyResult, Mitigation, StoredProofs
from lab.core.scenario import FileStep, RunStep, Step, SysctlStep, UnloadStep

Said = Mapping[str, Any]  # a step as the guest was sent it, or what it said of one

UNKNOWN = "unknown"
_REPLACED = "\N{REPLACEMENT CHARACTER}"
_MOST_LOG_LINES = 20
_MOST_OUTPUT = 2000
_ANSWERS: Mapping[bool | None, str] = {True: "attached", False: "not attached", None: "cannot say"}


@dataclass(frozen=True)
class RecordedCell:
    """A cell as it lies in its folder; `no_plots` is why there is nothing to draw."""

    result: CellResult
    steps: tuple[Said, ...] = field(default=(), hash=False)
    outcomes: tuple[Said, ...] = field(default=(), hash=False)  # of the steps, as far as they were reached
    panels: tuple[Panel, ...] = ()
    no_plots: str = ""
    log: tuple[kmsg.Record, ...] | None = None
    files: tuple[str, ...] = ()  # relative to the cell's folder


def readable(value: Any) -> Any:
    """The same JSON, or text, in whose texts nothing but newlines controls what shows them."""
    if isinstance(value, str):
        text = value.replace("\r\n", "\n").replace("\t", "    ")
        return "".join(char if char.isprintable() or char == "\n" else _REPLACED for char in text)
    if isinstance(value, Mapping):
        return {readable(name): readable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [readable(inner) for inner in value]
    return value


def cell_view(anchor: str, recorded: RecordedCell) -> CellView:
    cell = recorded.result
    reason, _, more = cell.reason.partition("\n")
    repeat = f", repeat {cell.repeat}" if cell.repeat != 1 else ""
    return CellView(
        anchor=anchor,
        cell=cell.cell,
        title=f"{cell.target}{repeat}",
        kernel=cell.kernel_release or "kernel unknown",
        finding=cell.finding,
        mark=cell.mark,
        expected=cell.expected or "",
        because=cell.because or "",
        in_short=_in_short(cell),
        reason=reason,
        more_reason=more,
        numbers=(*_numbers(cell), *_lent(cell)),
        holders=None if cell.holders is None else tuple(_holders(cell.holders)),
        mitigation=_mitigation(cell.mitigation),
        proofs=_proofs(cell.proofs) if cell.proofs else (),
        disagreement=(cell.proofs.disagreement if cell.proofs else None) or "",
        steps=tuple(_steps(recorded.steps, recorded.outcomes)),
        log=None if recorded.log is None else tuple(_log_lines(recorded.log)),
        panels=recorded.panels,
        no_plots=recorded.no_plots,
        files=recorded.files,
    )


def _proofs(proofs: StoredProofs) -> Pairs:
    return (
        ("the kernel's list of hooks", _ANSWERS[proofs.hooks]),
        ("the rulesets and options", _ANSWERS[proofs.holders]),
        ("what new connections did", _ANSWERS[proofs.behaviour]),
    )


def _in_short(cell: CellResult) -> str:
    connections = cell.connections
    if connections is None:
        return "no load"
    parts = [f"{connections.held:,} of {connections.total:,} held"]
    parts += [f"{cell.entries_peak:,} entries"] if cell.entries_peak is not None else []
    parts += [f"{cell.drops:,} drops"] if cell.drops else []
    parts += [f"{cell.early_drops:,} evicted"] if cell.early_drops else []
    if newcomers := cell.newcomers:
        parts.append(f"{newcomers['held']:,} of {newcomers['connections']:,} newcomers held")
    return ", ".join(parts)


def _lent(cell: CellResult) -> Iterable[tuple[str, str]]:
    if cell.programs_of_lab:
        yield "programs of the lab, which the distribution lacks", ", ".join(cell.programs_of_lab)


def _numbers(cell: CellResult) -> Iterable[tuple[str, str]]:
    """The numbers behind the finding; those of a load only where there was one, rare ones where they are not 0."""
    if connections := cell.connections:
        yield "held", f"{connections.held:,} of {connections.total:,}"
        for name in ("failed", "lost", "stalled", "untried"):
            if count := vars(connections)[name]:
                yield name, _count(count)
        if cell.dead:
            yield "open and dead", _count(cell.dead)
        for name, family in cell.families.items():
            yield FAMILY_NAMES.get(name, name), _family(family)
        yield "entries at most", f"{_count(cell.entries_peak)}; max {_count(cell.max)}"
        if cell.max_changed:
            yield "max changed", ", then ".join(f"{value:,}" for value in cell.max_changed)
        yield "drops", _count(cell.drops)
        rare = (("early drops", cell.early_drops), ("inserts failed", cell.insert_failed))
        yield from ((words, _count(count)) for words, count in rare if count)
        if newcomers := cell.newcomers:
            yield "newcomers held", f"{newcomers['held']:,} of {newcomers['connections']:,}"
        if cell.first_drop_seconds is not None:
            yield "first drop", f"after {cell.first_drop_seconds:.2f} s"
    yield "table full logged", {True: "yes", False: "no", None: UNKNOWN}[cell.message_logged]
    for name, count in cell.errors.items():
        yield name, f"{count:,} times"
    for attempt in cell.tries[:-1]:
        yield f"try {attempt.number}", f"lost: {(attempt.lost or 'inconclusive').partition(chr(10))[0]}"
    if seconds := cell.seconds:
        yield "took", f"{seconds:.1f} s"


def _family(family: FamilyResult) -> str:
    """What one family of a load over both shows: its finding, how many were held, and its proofs of the hooks."""
    counts = family.connections
    held = "" if counts is None else f", {counts.held:,} of {counts.total:,} held"
    return f"{family.finding}{held}; rulesets: {_ANSWERS[family.proofs.holders]}"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _holders(found: Sequence[Holder]) -> Iterable[HolderView]:
    for group in groups(tuple(found)):
        place = f"{group.place}, {group.size}, for example" if group.size else group.place
        yield HolderView(place, group.example.rule, "; ".join(group.notes), shlex.join(group.remove))


def _mitigation(found: Mitigation | None) -> MitigationView | None:
    if found is None:
        return None
    commands = tuple(command_words(argv) for argv in found.commands)
    return MitigationView(found.outcome, found.reason, commands, found.advice)


def _steps(steps: Iterable[Said], outcomes: Sequence[Said]) -> Iterable[StepView]:
    ended = {_step_number(outcome, index): outcome for index, outcome in enumerate(outcomes)}
    for number, step in enumerate(steps):
        if (outcome := ended.get(number)) is None:
            yield StepView(_command(step), "not reached")
            continue
        words = f"exit status {outcome.get('exit_status')}"
        refused = "" if outcome.get("as_wanted", True) else ", which was not expected"
        said = "".join(str(outcome.get(name) or "") for name in ("stdout", "stderr")).strip()
        cut = f"\n... ({len(said):,} characters)" if len(said) > _MOST_OUTPUT else ""
        yield StepView(_command(step), words + refused, said[:_MOST_OUTPUT] + cut)


def _step_number(outcome: Said, index: int) -> int:
    """Of which step an outcome is: as the guest said, where that is a number."""
    number = outcome.get("number")
    return number if isinstance(number, int) and not isinstance(number, bool) else index


def _command(step: Said) -> str:
    """A step of a plan as what one types; of a kind that this lab does not know, its own words."""
    make = _STEPS.get(step.get("kind", ""))
    return by_hand.commands(make(step)) if make is not None else " ".join(f"{name}={step[name]}" for name in step)


_STEPS: Mapping[str, Callable[[Said], Step | RemoveStep]] = {
    "run": lambda step: RunStep(tuple(step["argv"]), bool(step.get("refused"))),
    "file": lambda step: FileStep(step["path"], step["text"]),
    "sysctl": lambda step: SysctlStep(tuple((name, str(value)) for name, value in step["values"].items())),
    "unload": lambda step: UnloadStep(tuple(step["modules"])),
    "remove": lambda step: RemoveStep(tuple(step["argv"]), ()),
}


def _log_lines(log: Sequence[kmsg.Record]) -> Iterable[str]:
    """The kernel's lines, the same ones in a row once, with their times on the kernel's clock."""
    runs: list[tuple[str, list[kmsg.Record]]] = []
    for record in log:
        if record.from_kernel:
            if not runs or runs[-1][0] != record.text:
                runs.append((record.text, []))
            runs[-1][1].append(record)
    for text, same in runs[:_MOST_LOG_LINES]:
        first, last = (record.time_microseconds / 10**6 for record in (same[0], same[-1]))
        times = f" ({len(same)} times, until {last:.3f})" if len(same) > 1 else ""
        yield f"[{first:.3f}] {readable(text)}{times}"
    if len(runs) > _MOST_LOG_LINES:
        yield f"... and {len(runs) - _MOST_LOG_LINES} more"
