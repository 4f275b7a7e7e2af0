"""A page for each scenario, and their index: what the file asks, does and expects, in words and as commands."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath

from lab.core.kernel.version import VersionSpec
from lab.core.plan import Cell, CellPlan, Variant, plan_cell, variants
from lab.core.render import by_hand
from lab.core.render.by_hand_paths import topology
from lab.core.render.load_words import load_in_words
from lab.core.render.markdown import block, code, prose, table
from lab.core.scenario import BACKEND_AXIS, DEFAULT_PATH, PATHS, RunStep, Scenario
from lab.core.scenario.condition import BACKEND_NEEDS, Condition, Requirement
from lab.core.scenario.expectation import AxisValue, Chosen, Expectation

MADE_BY = "scripts/write-docs"

_ANY_TARGET = "debian12"  # a plan needs one, and nothing on a page depends on it

# What a person reads off by hand, and what it shows; {all} is for kinds of load that tell.
_SHOWS: Mapping[str, str] = {
    "untracked": "`entries` does not rise, or conntrack is not in the kernel{all}",
    "tracked": "`entries` rises, `drop` does not{all}",
    "table-full": "`entries` is at the max, `drop` rises; `dmesg` says `table full`",
    "evicted": "`entries` is at the max or just below, `early_drop` rises, `drop` does not",
}
# the same, told only where a scenario expects it
_SHOWS_ELSE: Mapping[str, str] = {
    "other-loss": "connections are lost, and `drop` does not rise",
    "state-refused": "a command of the state fails{refused}",
}
_ALL: Mapping[str, str] = {
    "hold": "; all are accepted",
    "churn": "; all are opened",
    "udp": "; none is refused",
}


def scenario_page(scenario: Scenario) -> str:
    """A scenario's page as Markdown. Raises ScenarioError for one that cannot be planned."""
    plans = {variant: plan_cell(Cell(variant, _ANY_TARGET)) for variant in variants(scenario)}
    folder = "programs/" if PurePath(scenario.path).parent.name == "programs" else ""
    file = f"scenarios/{folder}{scenario.name}.toml"
    parts = [
        _made_from(file),
        f"# {scenario.name}",
        prose(scenario.summary),
        f"File: [{scenario.name}.toml](../../{file}). All scenarios: [index](README.md).",
        *_state(plans),
        *_machine(plans),
        *_expected(scenario),
        *_needed(plans),
        *_by_hand(scenario, plans),
        *_with_the_lab(scenario),
    ]
    return "\n\n".join(parts) + "\n"


def scenario_index(scenarios: Iterable[Scenario], *, matrix: bool = False) -> str:
    """The index of the pages as Markdown; `matrix`: whether there is a page of what a run found."""
    rows = [
        (f"[{scenario.name}]({scenario.name}.md)", prose(scenario.summary), _in_short(scenario.expectations))
        for scenario in sorted(scenarios, key=lambda scenario: scenario.name)
    ]
    parts = [
        _made_from("scenarios/"),
        "# The shipped scenarios",
        "Each page has the state as commands, what is expected where, and how to see it by hand.\n"
        "How a scenario file is written: [scenarios.md](../scenarios.md). "
        "What the findings mean: [findings.md](../findings.md)."
        + ("\nWhat a run of all of them found: [matrix.md](../matrix.md)." if matrix else ""),
        "Of the expectations the first that fits counts.",
        table(("scenario", "question", "expected"), rows),
    ]
    return "\n\n".join(parts) + "\n"


def condition_in_words(condition: Condition, axes: Chosen) -> str:
    """Where an expectation holds: `kernel < 4.14, iptables-nft`; empty when it holds everywhere."""
    parts = [f"kernel {_versions(condition.kernel)}"] if condition.kernel else []
    parts += [_axis(axis, value if isinstance(value, tuple) else (value,)) for axis, value in axes.items()]
    parts += [f"target {code(condition.target)}"] if condition.target else []
    programs = (("iptables", condition.iptables_version), ("nft", condition.nft_version))
    parts += [f"{name} {_versions(spec)}" for name, spec in programs if spec]
    for spec in condition.config:
        values = " or ".join("not set" if value == "n" else value for value in spec.values)
        parts.append(f"{code(f'CONFIG_{spec.name}')} {values}")
    return ", ".join(parts)


def _made_from(source: str) -> str:
    return f"<!-- Made by {MADE_BY} from {source}: change that, and run it again. -->"


def _state(plans: Mapping[Variant, CellPlan]) -> list[str]:
    parts = ["## State"]
    if not any(plan.steps for plan in plans.values()):
        return [*parts, "Nothing is done."]
    for name, text in _grouped(plans, lambda plan: _steps(plan) or "# nothing"):
        parts += [f"### {name}"] if name else []
        parts.append(block(text))
    return parts


def _steps(plan: CellPlan) -> str:
    return "\n".join(by_hand.commands(planned.step) for planned in plan.steps)


def _machine(plans: Mapping[Variant, CellPlan]) -> list[str]:
    plan = next(iter(plans.values()))
    machine = plan.machine
    lines = [f"- Machine: {machine.memory_mb} MB, {machine.vcpus} processors."]
    for name, text in _grouped(plans, lambda plan: " ".join(plan.machine.boot_args)):
        if text:
            lines.append(f"- Kernel command line{f', {name}' if name else ''}: {code(text)}.")
    if machine.packages:
        lines.append(f"- Packages beside the target's own: {', '.join(map(code, machine.packages))}.")
    lines.append(f"- Table: {_table(plan)}.")
    lines.append(f"- Load: {load_in_words(plan.load, plan.machine.path or DEFAULT_PATH)}.")
    lines += [f"- Meanwhile: {code(by_hand.commands(planned.step))}." for planned in plan.during]
    if plan.machine.path not in (None, DEFAULT_PATH):
        lines.append(f"- Stands for: {PATHS[plan.machine.path].stands_for}.")
    return ["## Machine, table, load", "\n".join(lines)]


def _table(plan: CellPlan) -> str:
    conntrack = plan.conntrack
    parts = [f"`nf_conntrack_max` {conntrack.max:,}" if conntrack.max else "the kernel's own `nf_conntrack_max`"]
    parts += [f"{conntrack.buckets:,} buckets"] if conntrack.buckets else []
    parts += [f"timeout {code(name)} {seconds:,} s" for name, seconds in conntrack.timeouts.items()]
    return "; ".join(parts)


def _expected(scenario: Scenario) -> list[str]:
    expectations = scenario.expectations
    if not expectations:
        return ["## Expected", "Nothing is expected: the finding is reported and not judged."]
    rows = [
        (_where(expected, first=index == 0), code(expected.finding), prose(expected.because))
        for index, expected in enumerate(expectations)
    ]
    parts = ["## Expected", table(("where", "[finding](../findings.md)", "because"), rows)]
    last = [] if expectations[-1].unconditional else ["Elsewhere nothing is expected."]
    first = ["The first line that fits counts."] if len(expectations) > 1 else []
    return [*parts, " ".join([*first, *last])] if first or last else parts


def _where(expectation: Expectation, *, first: bool) -> str:
    return condition_in_words(expectation.condition, expectation.axes) or ("everywhere" if first else "elsewhere")


def _in_short(expectations: Sequence[Expectation]) -> str:
    """The findings in the order in which they are looked at, each with its conditions."""
    parts = []
    for finding, group in itertools.groupby(expectations, key=lambda expectation: expectation.finding):
        conditions = [condition_in_words(expectation.condition, expectation.axes) for expectation in group]
        if all(conditions):
            parts.append(f"{code(finding)} ({'; '.join(conditions)})")
        else:
            parts.append(f"else {code(finding)}" if parts else code(finding))
    return ", ".join(parts) or "-"


def _needed(plans: Mapping[Variant, CellPlan]) -> list[str]:
    lines: list[str] = []
    for name, text in _grouped(plans, lambda plan: _requirement(plan.requires)):
        if text:
            lines.append(f"- {f'{name}: ' if name else ''}{text}.")
    least = ["Where a kernel lacks what it must have, the finding is `skipped`."] if lines else []
    programs = dict.fromkeys(program for plan in plans.values() for program in plan.programs)
    if programs:
        lines.append(f"- Programs: {', '.join(map(code, programs))}.")
    return ["## Needed", "\n".join(lines) or "Nothing special.", *least]


def _requirement(requires: Requirement) -> str:
    kernels: list[str] = []
    modules: dict[str, None] = {}
    for part in (*(BACKEND_NEEDS[backend] for backend in requires.backends), requires):
        kernels += filter(None, [condition_in_words(part.condition, {})])
        modules |= dict.fromkeys(part.modules)
    parts = list(dict.fromkeys(kernels))
    parts += [f"{', '.join(map(code, modules))} as a module or built in"] if modules else []
    parts += [f"{', '.join(map(code, requires.loadable))} as a module, not built in"] if requires.loadable else []
    return "; ".join(parts)


def _by_hand(scenario: Scenario, plans: Mapping[Variant, CellPlan]) -> list[str]:
    plan = next(iter(plans.values()))
    if not by_hand.covers(plan):
        return [
            "## By hand",
            "There is no script of this load: `lab shell` leads to a machine in the state, see below.",
        ]
    return [
        "## By hand",
        "\n".join(_advice(plans)),
        block("\n".join(_procedure(plan))),
        table(("what it shows", "finding"), _shows(scenario, plan)),
    ]


def _advice(plans: Mapping[Variant, CellPlan]) -> list[str]:
    plan = next(iter(plans.values()))
    lines = [
        "On a throwaway machine, freshly booted, as root, with Python 3.8 or newer.",
        "Use its console: a full table cuts SSH too.",
    ]
    if any(plan.machine.boot_args for plan in plans.values()):
        lines.append("Boot it with the kernel command line above.")
    ends = PATHS[plan.machine.path or DEFAULT_PATH].ends
    if "server" in ends and plan.machine.path != "bridge":
        lines.append("If it has an `eth0`, give the link to the server another name, in the state too.")
    if ends:
        whose = "both namespaces track" if len(ends) == 2 else "the namespace tracks"
        lines.append(f"Up to 4.13, and with `enable_hooks=1`, {whose} as well, in a table of its own.")
    small = by_hand.connections(plan)
    if small < plan.load.connections:
        lines.append(f"{small:,} connections show the same as {plan.load.connections:,}.")
    return lines


def _procedure(plan: CellPlan) -> list[str]:
    """The commands from a fresh machine to what is read of it."""
    lines = [routed, ""] if (routed := topology(plan)) else []
    lines += ["# the commands of the state, then:"] if plan.steps else []
    if settings := by_hand.settings(plan):
        lines += ["# a setting that does not exist: conntrack is not loaded, go on", settings]
    return [*lines, "python3 - << 'EOF'", by_hand.load_script(plan), "EOF", "dmesg | grep -m1 'table full'"]


def _shows(scenario: Scenario, plan: CellPlan) -> list[tuple[str, str]]:
    findings = dict.fromkeys((*_SHOWS, *(expectation.finding for expectation in scenario.expectations)))
    refused = any(isinstance(step, RunStep) and step.refused for step in scenario.state)
    words = {"all": _ALL.get(plan.load.kind, ""), "refused": ", or one that must fail does not" if refused else ""}
    shows = {**_SHOWS, **_SHOWS_ELSE}
    return [(shows[name].format(**words), code(name)) for name in findings if name in shows]


def _with_the_lab(scenario: Scenario) -> list[str]:
    first = variants(scenario)[0]
    chosen = "".join(f" --set {axis}={value}" for axis, value in first.axes.items())
    lines = (
        f"lab run {scenario.name}",
        f"lab run {scenario.name} --target '*'",
        f"lab shell {scenario.name}{chosen}",
    )
    return ["## With the lab", block("\n".join(lines))]


def _grouped(plans: Mapping[Variant, CellPlan], text_of: Callable[[CellPlan], str]) -> list[tuple[str, str]]:
    """Each different text once, with the variants that have it; no name where all have the same."""
    groups: dict[str, list[Variant]] = {}
    for variant, plan in plans.items():
        groups.setdefault(text_of(plan), []).append(variant)
    if len(groups) == 1:
        return [("", text) for text in groups]
    return [(_names(group), text) for text, group in groups.items()]


def _names(group: Sequence[Variant]) -> str:
    """The axes that tell these variants from the others."""
    matrix = group[0].scenario.matrix
    values = {axis: tuple(dict.fromkeys(variant.axes[axis] for variant in group)) for axis in matrix}
    if math.prod(map(len, values.values())) == len(group):
        return ", ".join(_axis(axis, found) for axis, found in values.items() if found != matrix[axis])
    return "; ".join(", ".join(_axis(axis, (value,)) for axis, value in variant.axes.items()) for variant in group)


def _axis(axis: str, values: Sequence[AxisValue]) -> str:
    if axis == BACKEND_AXIS:
        return " or ".join(f"iptables-{value}" for value in values)
    return f"{axis}={' or '.join(map(str, values))}"


def _versions(spec: VersionSpec) -> str:
    """`>= 4.16 and < 4.18`, `< 4.20 but not 4.9 or 4.14`; of `==` the number alone."""
    numbers = {clause: ".".join(map(str, clause.numbers)) for clause in spec.clauses}
    needed = [
        number if clause.operator == "==" else f"{clause.operator} {number}"
        for clause, number in numbers.items()
        if clause.operator != "!="
    ]
    unwanted = [number for clause, number in numbers.items() if clause.operator == "!="]
    parts = [" and ".join(needed)] if needed else []
    return " ".join([*parts, *([f"but not {' or '.join(unwanted)}"] if unwanted else [])])
