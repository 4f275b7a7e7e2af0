"""What `lab inspect` found, as lines for people and as Markdown for tickets."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from lab.core.holders.groups import Group, groups, notes
from lab.core.holders.model import Holder
from lab.core.holders.programs import program_of
from lab.core.inspecting.cases import Case
from lab.core.inspecting.contents import Contents
from lab.core.inspecting.inspection import Inspection, Look
from lab.core.inspecting.rulesets import rule_count
from lab.core.inspecting.table import COUNTERS, TableState
from lab.core.render.markdown import code
from lab.core.text import aligned, plural, printable

_MAX_RULE = 160
_ANSWERS = {True: "yes", False: "no", None: "?"}


def human(inspection: Inspection) -> str:
    """Lines for a terminal; everything that a record said is made safe to show."""
    return "\n".join(printable(line) for line in _lines(inspection))


def markdown(inspection: Inspection) -> str:
    """The same for a ticket."""
    lines = [f"**{code(printable(inspection.verdict))}**", ""]
    lines += ["```text", *(printable(line).replace("```", "'''") for line in _lines(inspection)), "```"]
    return "\n".join(lines)


def _lines(inspection: Inspection) -> Iterator[str]:
    record = inspection.record
    release = record.facts.kernel_release or "of an unknown release"
    yield f"{record.origin}: Linux {release}, {plural(len(record.namespaces), 'network namespace')}"
    quiet = [look for look in inspection.looks if _says_nothing(look)]
    for look in inspection.looks:
        if look not in quiet:
            yield from _look(look)
    if quiet:
        yield ""
        yield f"{plural(len(quiet), 'namespace')} more: not tracked, no entries: {_names(quiet)}"
    yield ""
    yield from _messages(inspection)
    yield from (f"modules: {one}" for one in inspection.uses or () if one.elsewhere)
    yield from (f"not read: {problem}" for problem in inspection.problems)
    yield f"answer: {inspection.verdict}"
    yield from _prove(inspection)


def _says_nothing(look: Look) -> bool:
    return not look.namespace.own and look.attached.answer is False and not look.table.entries and not look.status


def _names(looks: Sequence[Look]) -> str:
    shown = ", ".join(look.namespace.label for look in looks[:5])
    return shown + (", ..." if len(looks) > 5 else "")


def _look(look: Look) -> Iterator[str]:
    namespace, attached = look.namespace, look.attached
    families = f" ({', '.join(attached.families)})" if attached.families else ""
    inode = "" if namespace.inode is None else f" (netns {namespace.inode})"
    yield ""
    yield f"{namespace.label}{inode}: tracked {attached.word}{families}"
    rows = [(f"  {proof.source}", _ANSWERS[proof.attached], proof.evidence) for proof in attached.proofs]
    yield from aligned(rows)
    if attached.disagreement:
        yield f"  they disagree: {attached.disagreement}"
    yield from _holders(attached.holders)
    read = look.rulesets.read
    if read:
        yield f"  read: {', '.join(read)}; {plural(rule_count(look.rulesets.tables), 'rule')}"
    yield from (f"  not read: {gap}" for gap in attached.gaps)
    yield from _table(look.table)
    if look.contents is not None:
        yield from _contents(look.contents)
    yield from (line for case in look.cases for line in _case(case))
    yield f"  {look.verdict}"


def _holders(found: Sequence[Holder]) -> Iterator[str]:
    if not found:
        return
    yield "  held by"
    for group in groups(found):
        yield from _group(group)
    programs = dict.fromkeys(program for holder in found if (program := program_of(holder)) is not None)
    for program in programs:
        yield f"    {program.name} writes its rules again: {program.stop} ({program.risk})"


def _group(group: Group) -> Iterator[str]:
    example = group.example
    size = f" ({group.size}, such as)" if group.size else ""
    program = program_of(example)
    made = "" if program is None else f" [{program.name}]"
    yield f"    {group.place}{size}: {example.rule[:_MAX_RULE]}{made}"
    if group.remove:
        yield f"      remove: {shlex.join(group.remove)}"
    elif group.remove_all:
        yield f"      remove, with all else that is in there: {shlex.join(group.remove_all)}"
    yield from (f"      {note}" for note in notes(example, elsewhere=False))


def _table(table: TableState) -> Iterator[str]:
    if table.entries is None and table.table_max is None and not table.counters:
        yield "  table: not recorded, or not there"
        return
    entries, most, buckets = (_number(value) for value in (table.entries, table.table_max, table.buckets))
    size = "" if table.entry_bytes is None else f", {table.entry_bytes} bytes for an entry"
    yield f"  table: {entries} of {most} entries, {buckets} buckets{size}"
    if table.counters:
        counted = [
            f"{name} {table.counters[name]:,}{_rise(table, name)}" for name in COUNTERS if name in table.counters
        ]
        since = f" (and in {table.seconds:.1f} s)" if table.rises and table.seconds else ""
        yield f"  counters since boot{since}: {', '.join(counted)}"
    if table.growth_per_second:
        yield f"  entries: {table.growth_per_second:+,.1f} a second{_full_in(table)}"
    if table.steady_entries:
        rate = f"{table.opened_per_second or 0:,.1f} TCP connections a second of this host"
        yield f"  forecast: {rate} come to {table.steady_entries:,} entries in TIME_WAIT"


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _rise(table: TableState, name: str) -> str:
    return f" (+{table.rises[name]:,})" if table.rises.get(name) else ""


def _full_in(table: TableState) -> str:
    seconds = table.full_in_seconds
    return "" if seconds is None else f", full in {seconds / 60:,.1f} minutes at that rate"


def _contents(contents: Contents) -> Iterator[str]:
    rows = contents.rows or 1
    cut = ", the first of more" if contents.cut else ""
    yield (
        f"  {plural(contents.rows, 'entry', 'entries')} read{cut}: {contents.assured / rows:.0%} assured, "
        f"{contents.unreplied / rows:.0%} unreplied, {contents.offloaded / rows:.0%} offloaded"
    )
    yield from aligned([("   ", f"{count:,}", name, state) for name, state, count in contents.states])
    yield from aligned([("   ", f"{count:,}", f"{name} to port {port}") for name, port, count in contents.ports])
    yield from aligned([("   ", f"{count:,}", f"from {source}") for source, count in contents.sources])
    if contents.zones:
        yield "    zones: " + ", ".join(f"{zone} ({count:,})" for zone, count in contents.zones.items())
    for one in contents.inflows:
        what = f"{one.per_second:,.1f} a second of {one.protocol} {one.state}, each for {one.timeout_seconds} s"
        yield f"    forecast: {what}: {one.steady:,} entries"
    if contents.unreadable:
        yield f"    {plural(contents.unreadable, 'line')} could not be read"


def _case(case: Case) -> Iterator[str]:
    yield f"  case: {case.name}: {case.evidence}"
    risk = f"; risk: {case.risk}" if case.risk else ""
    yield f"    fix: {case.fix}{risk}"
    shown = f"; shown by: lab run {case.scenario}" if case.scenario else ""
    yield f"    page: docs/{case.page}{shown}"


def _messages(inspection: Inspection) -> Iterator[str]:
    log = inspection.messages
    if log is None:
        yield "kernel log: not read: " + inspection.record.host.errors.get("kmsg", "not recorded")
        return
    if not log.count:
        yield "kernel log: no message of a full table (what is older may be overwritten)"
        return
    ago = "" if log.last_seconds_ago is None else f", the last one {log.last_seconds_ago:,.0f} s ago"
    yield f"kernel log: {plural(log.count, 'message')} of a full table{ago}: {log.last}"
    labels = {one.inode: one.label for one in inspection.record.namespaces}
    for inode in log.netns_inodes:
        yield f"  netns {inode} is {labels.get(inode, 'none that is known here, or it is gone')}"


def _prove(inspection: Inspection) -> Iterator[str]:
    if not any(look.attached.holders for look in inspection.looks):
        return
    origin = inspection.record.origin
    if origin == "this host":
        yield "prove it in a VM: lab inspect --save FILE.tar.gz && lab scenario --from FILE.tar.gz --output mine.toml"
    else:
        source = shlex.quote(origin) if origin != "standard input" else "- (and the same text)"
        yield f"prove it in a VM: lab scenario --from {source} --output mine.toml"
    yield "                  lab run ./mine.toml --mitigate"
