"""What a report shows of a run, as values: words and numbers in their order. What they look like is not decided here.

Whatever a guest said may stand in them, so no text has a character that moves, hides or ends anything: `readable`.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.core.holders import groups, stored_holder
from lab.core.kernel import kmsg
from lab.core.mitigation import command_words
from lab.core.plan import RemoveStep
from lab.core.render import by_hand
from lab.core.render.matrix import MARKS, by_role, by_state, duration, kernel_of, target_names
from lab.core.render.report_groups import MARK_WORDS, Group, by_finding, counts_of_findings, headline
from lab.core.render.timeline import Panel
from lab.core.result import mark
from lab.core.scenario import FileStep, RunStep, Step, SysctlStep, UnloadStep

Json = Mapping[str, Any]
Pairs = tuple[tuple[str, str], ...]

UNKNOWN = "unknown"
_REPLACED = "\N{REPLACEMENT CHARACTER}"
_MOST_LOG_LINES = 20
_MOST_OUTPUT = 2000
_SHORT_DIGEST = 12
_PROOFS: Pairs = (
    ("hooks", "the kernel's list of hooks"),
    ("holders", "the rulesets and options"),
    ("behaviour", "what new connections did"),
)
_ANSWERS: Mapping[bool | None, str] = {True: "attached", False: "not attached", None: "cannot say"}
_SUMS = ("held", "failed", "lost", "stalled", "untried")


@dataclass(frozen=True)
class Recorded:
    """A cell as it lies in its folder; `no_plots` is why there is nothing to draw."""

    result: Json
    plan: Json | None = None
    outcomes: tuple[Json, ...] = ()  # of the plan's steps, as far as they were reached
    panels: tuple[Panel, ...] = ()
    no_plots: str = ""
    log: tuple[kmsg.Record, ...] | None = None
    files: tuple[str, ...] = ()  # relative to the cell's folder


@dataclass(frozen=True)
class StepView:
    """A command of the state, how it ended, and what it printed."""

    command: str
    ended: str
    output: str = ""


@dataclass(frozen=True)
class HolderView:
    """What holds conntrack, where it is, what to know of it, and what removes it, where it should be removed."""

    place: str
    rule: str
    note: str
    remove: str


@dataclass(frozen=True)
class MitigationView:
    """What came of removing the holders."""

    outcome: str
    reason: str
    commands: tuple[str, ...]
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellView:
    """All that is shown of one cell."""

    anchor: str
    cell: str
    title: str
    kernel: str
    finding: str
    mark: str
    expected: str
    because: str
    in_short: str
    reason: str
    more_reason: str
    numbers: Pairs
    holders: tuple[HolderView, ...] | None
    mitigation: MitigationView | None
    proofs: Pairs
    disagreement: str
    steps: tuple[StepView, ...]
    log: tuple[str, ...] | None
    panels: tuple[Panel, ...]
    no_plots: str
    files: tuple[str, ...]

    @property
    def fix(self) -> str:
        """The command that removes the first holder, where conntrack is attached; empty where none is known."""
        attached = self.finding not in ("untracked", "state-refused", "skipped")
        return next((one.remove for one in self.holders or () if one.remove), "") if attached else ""

    @property
    def mark_words(self) -> str:
        """The mark as people say it."""
        return MARK_WORDS[self.mark]


@dataclass(frozen=True)
class Outcome:
    """What a field of the matrix says; of repeats, how many said so and the first one's anchor."""

    anchor: str
    finding: str
    mark: str
    expected: str
    logged: bool
    count: int


@dataclass(frozen=True)
class StateView:
    """A state: its row of the matrix, in the order of the columns, and its cells."""

    anchor: str
    name: str
    summary: str
    fields: tuple[tuple[Outcome, ...], ...]
    cells: tuple[CellView, ...]


@dataclass(frozen=True)
class Report:
    """A run as a page shows it; `columns` are targets with their kernels."""

    name: str
    headline: str
    outcome: str
    findings: tuple[tuple[str, int], ...]  # how often each was made
    incomplete: bool
    columns: Pairs
    states: tuple[StateView, ...]
    facts: Pairs
    versions: tuple[tuple[str, tuple[str, ...]], ...]  # of a package in each target

    @property
    def cells(self) -> tuple[CellView, ...]:
        """Every cell, in the order in which they are shown."""
        return tuple(cell for state in self.states for cell in state.cells)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The states by finding, where there is one column: a table of it would be thin."""
        return by_finding(self.states) if len(self.columns) == 1 else ()

    @property
    def opened(self) -> str:
        """The anchor of the cell to begin with: the first that is not as expected, or the only one; else empty."""
        first = self.unexpected[:1] or (self.cells if len(self.cells) == 1 else ())
        return first[0].anchor if first else ""

    @property
    def unexpected(self) -> tuple[CellView, ...]:
        """The cells that are not as expected, or whose proofs contradict each other."""
        return tuple(cell for cell in self.cells if cell.mark in ("DIFFERS", "unclear") or cell.disagreement)


def readable(value: Any) -> Any:
    """The same JSON, or text, in whose texts nothing but newlines controls what shows them."""
    if isinstance(value, str):
        text = value.replace("\r\n", "\n").replace("\t", "    ")
        return "".join(char if char.isprintable() or char == "\n" else _REPLACED for char in text)
    if isinstance(value, Mapping):
        return {readable(name): readable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [readable(one) for one in value]
    return value


def report(
    name: str,
    manifest: Json,
    recorded: Sequence[Recorded],
    summaries: Mapping[str, str],
    wall_seconds: float | None = None,
) -> Report:
    """A run's report; `summaries` are those of its scenarios, by name. Raises KeyError or TypeError for damaged ones.

    `manifest` may lack anything: a part that is not there is not shown.
    """
    cells = [one.result for one in recorded]
    known = {"targets": _part(manifest, "targets")}
    targets = target_names(known, cells)
    views = {id(one.result): _cell(f"c{number}", one) for number, one in enumerate(recorded, start=1)}
    states = []
    for number, ((scenario, axes), found) in enumerate(by_state(cells).items(), start=1):
        states.append(
            StateView(
                anchor=f"s{number}",
                name=f"{scenario}, {axes}" if axes else scenario,
                summary=summaries.get(scenario, ""),
                fields=tuple(_outcomes(found.get(target, ()), views) for target in targets),
                cells=tuple(views[id(cell)] for target in targets for cell in found.get(target, ())),
            )
        )
    columns = tuple((target, kernel_of(target, known, cells)) for target in targets)
    return Report(
        name=name,
        headline=headline(cells, columns),
        outcome=outcome_in_words(cells),
        findings=counts_of_findings(cells),
        incomplete=manifest.get("complete") is False,
        columns=columns,
        states=tuple(states),
        facts=tuple(run_facts(manifest, wall_seconds)),
        versions=_versions(known["targets"], targets),
    )


def outcome_in_words(cells: Sequence[Json]) -> str:
    """`27 cells: 26 as expected, 1 not as expected`."""
    counts = Counter(map(mark, cells))
    parts = ", ".join(f"{counts[name]:,} {words}" for name, words in MARKS if counts[name])
    return f"{len(cells):,} cell{'s' if len(cells) != 1 else ''}: {parts}"


def run_facts(manifest: Json, wall_seconds: float | None = None) -> list[tuple[str, str]]:
    """What shaped the run, by its manifest; what that does not tell is left out."""
    provisioner, host, overrides = (_part(manifest, name) for name in ("provisioner", "host", "overrides"))
    changed = [f"--{name} {overrides[name]}" for name in ("connections", "max") if overrides.get(name) is not None]
    changed += [f"--set {one}" for one in overrides.get("set") or ()] + ["--mitigate"] * bool(overrides.get("mitigate"))
    accelerator = {"tcg": "emulated", "kvm": "KVM"}.get(str(provisioner.get("accelerator")))
    command = manifest.get("command")
    facts = (
        ("command", shlex.join(map(str, command)) if isinstance(command, list) else None),
        ("started", _time(manifest.get("started_at"))),
        ("took", duration(wall_seconds) if wall_seconds is not None else None),
        ("conntrack-lab", manifest.get("tool_version")),
        ("machines", ", ".join(str(one) for one in (provisioner.get("qemu_version"), accelerator) if one)),
        ("processors", host.get("processors")),
        ("changed", " ".join(changed)),
    )
    return [(name, str(value)) for name, value in facts if value]


def _time(stamp: object) -> str:
    """`2026-11-21T00:54:46+00:00` as people read it; anything else as it is."""
    return re.sub(r"^(\S+)T(\d\d:\d\d):\d\d\+00:00$", r"\1 \2 UTC", str(stamp or ""))


def _part(manifest: Json, name: str) -> Json:
    found = manifest.get(name)
    return found if isinstance(found, Mapping) else {}


def _versions(targets: Json, names: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The packages that matter and the image, each with its version in every target; the kernel is in the head."""
    described = [_part(targets, name) for name in names]
    packages = [by_role(_part(one, "packages")) for one in described]
    roles = dict.fromkeys(role for versions in packages for role in versions)
    rows = [(role, [str(one.get(role, "-")) for one in packages]) for role in roles]
    digests = [str(one.get("image_digest") or "-")[:_SHORT_DIGEST] for one in described]
    rows += [("image", digests)] if any(one != "-" for one in digests) else []
    return tuple((role, tuple(found)) for role, found in rows)


def _outcomes(cells: Sequence[Json], views: Mapping[int, CellView]) -> tuple[Outcome, ...]:
    """Each different outcome of the cells of one field, the most frequent first."""
    groups: dict[tuple[str, str, bool], list[CellView]] = {}
    for cell in cells:
        view = views[id(cell)]
        groups.setdefault((view.finding, view.mark, cell["message_logged"] is True), []).append(view)
    return tuple(
        Outcome(group[0].anchor, finding, marked, group[0].expected, logged, len(group))
        for (finding, marked, logged), group in sorted(groups.items(), key=lambda one: -len(one[1]))
    )


def _cell(anchor: str, recorded: Recorded) -> CellView:
    cell = recorded.result
    reason, _, more = str(cell["reason"]).partition("\n")
    repeat = f", repeat {cell['repeat']}" if cell["repeat"] != 1 else ""
    proofs = cell["proofs"] or {}
    return CellView(
        anchor=anchor,
        cell=str(cell["cell"]),
        title=f"{cell['target']}{repeat}",
        kernel=str(cell["kernel_release"] or "kernel unknown"),
        finding=str(cell["finding"]),
        mark=mark(cell),
        expected=str(cell["expected"] or ""),
        because=str(cell["because"] or ""),
        in_short=_in_short(cell),
        reason=reason,
        more_reason=more,
        numbers=tuple(_numbers(cell)),
        holders=None if cell["holders"] is None else tuple(_holders(cell["holders"])),
        mitigation=_mitigation(cell.get("mitigation")),
        proofs=tuple((words, _ANSWERS[proofs[name]]) for name, words in _PROOFS if name in proofs),
        disagreement=str(proofs.get("disagreement") or ""),
        steps=tuple(_steps(recorded.plan, recorded.outcomes)),
        log=None if recorded.log is None else tuple(_log_lines(recorded.log)),
        panels=recorded.panels,
        no_plots=recorded.no_plots,
        files=recorded.files,
    )


def _in_short(cell: Json) -> str:
    connections = cell["connections"]
    if not connections:
        return "no load"
    parts = [f"{connections['held']:,} of {_wanted(connections):,} held"]
    parts += [f"{cell['entries_peak']:,} entries"] if cell["entries_peak"] is not None else []
    parts += [f"{cell['drops']:,} drops"] if cell["drops"] else []
    parts += [f"{cell['early_drops']:,} evicted"] if cell["early_drops"] else []
    if newcomers := cell.get("newcomers"):
        parts.append(f"{newcomers['held']:,} of {newcomers['connections']:,} newcomers held")
    return ", ".join(parts)


def _wanted(connections: Json) -> int:
    return sum(connections.get(name, 0) for name in _SUMS)


def _numbers(cell: Json) -> Iterable[tuple[str, str]]:
    """The numbers behind the finding; those of a load only where there was one, rare ones where they are not 0."""
    if connections := cell["connections"]:
        yield "held", f"{connections['held']:,} of {_wanted(connections):,}"
        yield from ((name, _count(connections[name])) for name in _SUMS[1:] if connections[name])
        yield "entries at most", f"{_count(cell['entries_peak'])}; max {_count(cell['max'])}"
        if cell["max_changed"]:
            yield "max changed", ", then ".join(f"{one:,}" for one in cell["max_changed"])
        yield "drops", _count(cell["drops"])
        yield from ((words, _count(cell[name])) for name, words in _RARE if cell[name])
        if newcomers := cell.get("newcomers"):
            yield "newcomers held", f"{newcomers['held']:,} of {newcomers['connections']:,}"
        if cell["first_drop_seconds"] is not None:
            yield "first drop", f"after {cell['first_drop_seconds']:.2f} s"
    yield "table full logged", {True: "yes", False: "no"}.get(cell["message_logged"], UNKNOWN)
    for name, count in (cell.get("errors") or {}).items():
        yield name, f"{count:,} times"
    for attempt in cell["tries"][:-1]:
        yield f"try {attempt['number']}", f"lost: {str(attempt['lost'] or 'inconclusive').partition(chr(10))[0]}"
    if seconds := sum(sum(attempt["stages_seconds"].values()) for attempt in cell["tries"]):
        yield "took", f"{seconds:.1f} s"


_RARE: Pairs = (("early_drops", "early drops"), ("insert_failed", "inserts failed"))


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _holders(found: Sequence[Json]) -> Iterable[HolderView]:
    for group in groups(tuple(map(stored_holder, found))):
        place = f"{group.place}, {group.size}, for example" if group.size else group.place
        yield HolderView(place, str(group.example.rule), "; ".join(group.notes), shlex.join(group.remove))


def _mitigation(found: Json | None) -> MitigationView | None:
    if not found:
        return None
    commands = tuple(command_words(argv) for argv in found["commands"])
    return MitigationView(str(found["outcome"]), str(found["reason"]), commands, tuple(found.get("advice", ())))


def _steps(plan: Json | None, outcomes: Sequence[Json]) -> Iterable[StepView]:
    ended = {_step_number(one, index): one for index, one in enumerate(outcomes)}
    for number, step in enumerate((plan or {}).get("steps", ())):
        outcome = ended.get(number)
        if outcome is None:
            yield StepView(_command(step), "not reached")
            continue
        words = f"exit status {outcome.get('exit_status')}"
        refused = "" if outcome.get("as_wanted", True) else ", which was not expected"
        said = "".join(str(outcome.get(name) or "") for name in ("stdout", "stderr")).strip()
        cut = f"\n... ({len(said):,} characters)" if len(said) > _MOST_OUTPUT else ""
        yield StepView(_command(step), words + refused, said[:_MOST_OUTPUT] + cut)


def _step_number(outcome: Json, index: int) -> int:
    """Of which step an outcome is: as the guest said, where that is a number."""
    number = outcome.get("number")
    return number if isinstance(number, int) and not isinstance(number, bool) else index


def _command(step: Json) -> str:
    """A step of a plan as what one types; of a kind that this lab does not know, its own words."""
    make = _STEPS.get(step.get("kind", ""))
    return by_hand.commands(make(step)) if make is not None else " ".join(f"{name}={step[name]}" for name in step)


_STEPS: Mapping[str, Callable[[Json], Step | RemoveStep]] = {
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
        first, last = (one.time_microseconds / 10**6 for one in (same[0], same[-1]))
        times = f" ({len(same)} times, until {last:.3f})" if len(same) > 1 else ""
        yield f"[{first:.3f}] {readable(text)}{times}"
    if len(runs) > _MOST_LOG_LINES:
        yield f"... and {len(runs) - _MOST_LOG_LINES} more"
