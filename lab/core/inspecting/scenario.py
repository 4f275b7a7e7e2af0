"""A scenario's text from a carried state: what is loaded on it, what is expected, and what could not be carried."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from lab.core.errors import ScenarioError
from lab.core.inspecting.carrying import State, Step, carried_state, loaded_look
from lab.core.inspecting.inspection import Inspection, Look
from lab.core.inspecting.scaling import Scale, scale_of
from lab.core.kernel.version import parse_release
from lab.core.scenario import TIMEOUT_SYSCTLS

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# of the states that fill most of a table, the load that makes them
_LOADS: Final[Mapping[tuple[str, str], str]] = {
    ("udp", "UNREPLIED"): 'kind = "udp"',
    ("tcp", "SYN_SENT"): 'kind = "half-open"\nrate_per_second = 300',
    ("tcp", "TIME_WAIT"): 'kind = "churn"\nrate_per_second = 300',
    ("tcp", "CLOSE"): 'kind = "churn"\nrate_per_second = 300\nclose = "reset"',
}
_HOLD: Final = 'kind = "hold"'
# the kernel's own, which are not written: 5.10 to 7.3
_DEFAULTS: Final = {
    "generic": 600, "icmp": 30, "icmpv6": 30, "udp": 30, "udp_stream": 120, "tcp_syn_sent": 120, "tcp_syn_recv": 60,
    "tcp_established": 432000, "tcp_fin_wait": 120, "tcp_close_wait": 60, "tcp_last_ack": 30, "tcp_time_wait": 120,
    "tcp_close": 10, "tcp_max_retrans": 300, "tcp_unacknowledged": 300,
}  # fmt: skip


@dataclass(frozen=True)
class Carried:
    """A scenario, the files beside it, by their names, what is not in it, and how its table's size came about."""

    toml: str
    files: Mapping[str, str]
    missing: tuple[str, ...]
    size: str


def scenario_of(
    inspection: Inspection, name: str, folder: str, targets: Mapping[str, str], fill: bool = False
) -> Carried:
    """The scenario `name`, whose files are in `folder` beside it; `targets` are the releases of kernels, by target.
    With `fill` its load fills the table, also where the host has room.

    Raises ScenarioError for a name that a scenario cannot have, and a record of nothing.
    """
    if not _NAME.fullmatch(name):
        raise ScenarioError(
            f"{name!r} is no scenario's name", hint="small letters, digits and -, as in --output mine.toml"
        )
    if not inspection.looks:
        raise ScenarioError(f"{inspection.record.origin}: no namespace was read", hint="record the host as root")
    state = carried_state(inspection.record, inspection.looks)
    look = loaded_look(inspection.looks)
    scale = scale_of(inspection, look, fill)
    lines = [
        *_head(inspection, name, state, targets),
        *_steps(state, folder),
        *_table(look, scale),
        *_load(look, scale),
        *_expect(look, scale),
    ]
    return Carried("".join(f"{line}\n" for line in lines), dict(state.files), tuple(state.missing), scale.why)


def _head(inspection: Inspection, name: str, state: State, targets: Mapping[str, str]) -> Iterator[str]:
    record = inspection.record
    release = record.facts.kernel_release
    yield f"# Made by lab scenario from {_comment(record.origin)}: Linux {_comment(release or 'of an unknown release')}"
    yield f"# lab run ./{name}.toml --mitigate --target {_nearest(release, targets)}"
    yield "# Not carried over:"
    yield from (f"#   {_comment(one)}" for one in state.missing)
    yield "version = 1"
    yield f"name = {_quoted(name)}"
    yield 'summary = "The state of a recorded host. Is it tracked, and what holds it?"'
    path = any(step.end for step in state.steps)
    if path or state.boot_args:
        yield "\n[machine]"
    if path:
        yield 'path = "forward"'
    if state.boot_args:
        yield f"boot_args = [{', '.join(map(_quoted, state.boot_args))}]"
    if state.backends:
        yield "\n[requires]"
        yield f"backends = [{', '.join(map(_quoted, sorted(state.backends)))}]"


def _steps(state: State, folder: str) -> Iterator[str]:
    yield from (f"\n[[state]]\n{_step(step, folder)}" for step in state.steps)


def _step(step: Step, folder: str) -> str:
    if step.source:
        source = f"./{folder}/{step.source}"
        return f"file = {{ path = {_quoted(step.path)}, source = {_quoted(source)} }}"
    end = f"in = {_quoted(step.end)}\n" if step.end else ""
    return f"{end}run = [{', '.join(_quoted(_escaped(word)) for word in step.argv)}]"


def _table(look: Look, scale: Scale) -> Iterator[str]:
    table = look.table
    yield "\n[conntrack]"
    known = "unknown" if table.table_max is None else f"{table.table_max:,}"
    entries = "unknown" if table.entries is None else f"{table.entries:,}"
    yield f"# the host's max is {known}, with {entries} entries. This table is {_comment(scale.why)}"
    if scale.finding == "tracked" and look.attached.answer is not False:
        yield "# to see it full: record the host while it has its load, or lab scenario --fill"
    if scale.table_max is not None:
        yield f"max = {scale.table_max}"
    if scale.buckets is not None:
        yield f"buckets = {scale.buckets}"
    timeouts = {
        short: table.timeouts_seconds[key]
        for short, sysctl in TIMEOUT_SYSCTLS.items()
        if (key := sysctl.rpartition(".nf_conntrack_")[2]) in table.timeouts_seconds
        and table.timeouts_seconds[key] != _DEFAULTS.get(short)
    }
    if timeouts:
        yield f"timeouts = {{ {', '.join(f'{name} = {value}' for name, value in timeouts.items())} }}"


def _load(look: Look, scale: Scale) -> Iterator[str]:
    yield "\n[load]"
    contents = look.contents
    if contents is None or not contents.states:
        yield "# what fills the host's table was not recorded (--entries)"
        yield _HOLD
    else:
        protocol, state, rows = contents.states[0]
        shown = f"{_comment(protocol)} {_comment(state)}: {rows:,} of {contents.rows:,} entries"
        yield f"# most of the host's table is {shown}; {contents.assured / contents.rows:.0%} are assured"
        yield _load_kind(look)
    if _only_ipv6(look):
        yield 'family = "ipv6"'
    yield f"connections = {scale.connections}"


def _expect(look: Look, scale: Scale) -> Iterator[str]:
    answer = look.attached.answer
    if answer and look.attached.families and "ip" not in look.attached.families:
        answer = _only_ipv6(look)
    if answer and _protocol(look) in look.attached.kept_out:
        answer = False
    # how much of another load a full table evicts or drops depends on when it comes
    if answer and not any(one.hooks for one in look.attached.holders):
        return  # what tracks was not read, so that it is not carried
    if answer is None or (answer and scale.finding != "tracked" and _load_kind(look) != _HOLD):
        return
    yield "\n[[expect]]"
    yield f"finding = {_quoted(scale.finding if answer else 'untracked')}"
    yield f"because = {_quoted('as lab inspect says of the host')}"


def _load_kind(look: Look) -> str:
    """The load that fills the table as the recorded rows do."""
    states = look.contents.states if look.contents is not None else ()
    return _LOADS.get(states[0][:2], _HOLD) if states else _HOLD


def _protocol(look: Look) -> str:
    return "udp" if '"udp"' in _load_kind(look) else "tcp"


def _only_ipv6(look: Look) -> bool:
    """Whether IPv6 is tracked, and IPv4 is not."""
    return bool(look.attached.answer) and "ip6" in look.attached.families and "ip" not in look.attached.families


def _nearest(release: str | None, targets: Mapping[str, str]) -> str:
    """The target whose kernel is next to a release: the newest that is no newer, else the oldest."""
    parsed = {name: parse_release(text) for name, text in targets.items()}
    try:
        wanted = parse_release(release or "")
    except ValueError:
        return next(iter(targets), "debian12")
    older = {name: one for name, one in parsed.items() if one[:2] <= wanted[:2]}
    if older:
        return max(older, key=lambda name: older[name])
    return min(parsed, key=lambda name: parsed[name]) if parsed else "debian12"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's, but for DEL and what stands for half a character."""
    safe = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(safe, ensure_ascii=False).replace("\x7f", "\\u007f")


def _escaped(word: str) -> str:
    """A word of a step, in which a name in braces would be an axis."""
    return word.replace("{", "{{").replace("}", "}}")


def _comment(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:200]
