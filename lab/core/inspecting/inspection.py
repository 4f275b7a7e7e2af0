"""From a record to everything that `lab inspect` says, and its exit status."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.core.inspecting import cases
from lab.core.inspecting.attached import Attached, judge_namespace
from lab.core.inspecting.cases import Case
from lab.core.inspecting.conditions import Context
from lab.core.inspecting.contents import Contents, contents_of
from lab.core.inspecting.kernel_log import LogMessages, log_messages
from lab.core.inspecting.model import Namespace, Record
from lab.core.inspecting.rulesets import Rulesets, read_rulesets
from lab.core.inspecting.table import NEARLY, SOON_SECONDS, TableState, table_state
from lab.core.inspecting.use_counts import Uses, uses_of
from lab.core.kernel.conntrack import cache_objects, modules

_SHOWN = 3  # namespaces that are named of those with the same failure
EXIT_ROOM, EXIT_DROPS, EXIT_UNKNOWN = 0, 1, 3


@dataclass(frozen=True)
class Look:
    """One network namespace."""

    namespace: Namespace
    rulesets: Rulesets
    attached: Attached
    table: TableState
    contents: Contents | None
    cases: tuple[Case, ...]
    status: int
    verdict: str


@dataclass(frozen=True)
class Inspection:
    """A host."""

    record: Record
    looks: tuple[Look, ...]
    uses: tuple[Uses, ...] | None  # None: the use counts are not known
    messages: LogMessages | None
    problems: tuple[str, ...]
    status: int
    verdict: str


def inspect(record: Record) -> Inspection:
    """Judge what was recorded of a host."""
    entered = [one for one in record.namespaces if one.error is None]
    seen = [(namespace, read_rulesets(namespace.snapshot, record.facts)) for namespace in entered]
    uses = _uses(record, [rulesets for _, rulesets in seen])
    alone = (len(record.namespaces) == 1 and not record.problems) or _no_other_namespace(record)
    log = log_messages(record.host.texts.get("kmsg"), record.host.texts.get("uptime"))
    looks = tuple(_look(record, log, uses, alone, namespace, rulesets) for namespace, rulesets in seen)
    status, verdict = _whole(looks)
    return Inspection(record, looks, uses, log, tuple(_problems(record)), status, verdict)


def _no_other_namespace(record: Record) -> bool:
    """Whether the kernel has no network namespace but the first, which is no object of the cache that the others are of
    (init_net, net/core/net_namespace.c)."""
    text = next((one.snapshot.texts["slabinfo"] for one in record.namespaces if "slabinfo" in one.snapshot.texts), None)
    try:
        return text is not None and cache_objects(text, "net_namespace") == 0
    except ValueError:
        return False


def _uses(record: Record, seen: Sequence[Rulesets]) -> tuple[Uses, ...] | None:
    try:
        loaded = modules(record.host.texts["modules"]) if "modules" in record.host.texts else None
    except ValueError:
        loaded = None
    if loaded is None or (any(map(_translated, seen)) and "nft_compat" in {module.name for module in loaded}):
        return None
    return uses_of(loaded, [table for rulesets in seen for table in rulesets.tables])


def _translated(rulesets: Rulesets) -> bool:
    """Whether rules of iptables-nft may be there in the words of nft alone, which hide the modules that they use."""
    return (
        rulesets.recorded.nft_text is not None and rulesets.recorded.nft_json is rulesets.recorded.iptables_nft is None
    )


def _look(
    record: Record,
    log: LogMessages | None,
    uses: Sequence[Uses] | None,
    alone: bool,
    namespace: Namespace,
    rulesets: Rulesets,
) -> Look:
    table = table_state(namespace)
    rows = namespace.snapshot.texts.get("entries")
    contents = None
    if rows is not None:
        contents = contents_of(rows, table.timeouts_seconds, "entries" in namespace.snapshot.errors)
    attached = judge_namespace(namespace, rulesets, uses, alone, contents)
    context = Context(record, namespace, rulesets, attached, table, contents, log)
    status, verdict = _verdict(attached, table, contents)
    return Look(namespace, rulesets, attached, table, contents, cases.cases_of(context), status, verdict)


def _verdict(attached: Attached, table: TableState, contents: Contents | None) -> tuple[int, str]:
    """The exit status of one namespace, and the sentence that it stands on."""
    drops, share, full_in = table.drops_rise, table.share, table.full_in_seconds
    if drops:
        return EXIT_DROPS, f"it drops now: {drops:,} packets within {table.seconds or 0:.1f} s"
    if attached.answer is False:
        left = f"; {table.entries:,} entries are left from before" if table.entries else ""
        return EXIT_ROOM, f"new connections are not tracked{left}"
    if share is not None and share >= 1:
        return EXIT_DROPS, "the table is full: the next new connection is dropped, unless an entry can be evicted"
    if share is not None and share >= NEARLY:
        return EXIT_DROPS, f"the table is {share:.0%} full"
    if full_in is not None and full_in <= SOON_SECONDS:
        growth = f"{table.growth_per_second or 0:,.1f} entries more in a second"
        lasting = contents.lasting_seconds if contents is not None else None
        if lasting is not None and lasting < full_in:
            return EXIT_ROOM, f"the table has room: {share or 0:.1%} of it is used; {growth}, which last {lasting} s"
        return EXIT_DROPS, f"at {growth} the table is full in {full_in / 60:,.1f} minutes"
    if share is not None:
        return EXIT_ROOM, f"the table has room: {share:.1%} of it is used"
    if table.table_max == 0:
        return EXIT_ROOM, "the table has no limit: max is 0"
    return EXIT_UNKNOWN, "how full the table is was not recorded"


def _whole(looks: Sequence[Look]) -> tuple[int, str]:
    """The worst of all namespaces: drops before doubt before room."""
    for status in (EXIT_DROPS, EXIT_UNKNOWN, EXIT_ROOM):
        of_status = [look for look in looks if look.status == status]
        if of_status:
            first = of_status[0]
            more = f" (and {len(of_status) - 1} more namespaces)" if len(of_status) > 1 and status else ""
            return status, f"{first.namespace.label}: {first.verdict}{more}"
    return EXIT_UNKNOWN, "no namespace could be read"


def _problems(record: Record) -> Iterator[str]:
    yield from record.problems
    failed: dict[str, list[str]] = {}
    for one in record.namespaces:
        if one.error is not None:
            failed.setdefault(one.error, []).append(f"{one.label} (netns {one.inode})")
    for why, labels in failed.items():
        more = f" and {len(labels) - _SHOWN} more namespaces" if len(labels) > _SHOWN else ""
        yield f"{', '.join(labels[:_SHOWN])}{more}: {why}"
    texts = record.host.texts
    after = texts.get("modules_after")
    if after is not None and "modules" in texts:
        new = _names(after) - _names(texts["modules"])
        if new:
            yield f"modules that were loaded while the host was recorded, by whatever it was: {', '.join(sorted(new))}"
    if "pseudonyms" in texts:
        yield "addresses, which are pseudonyms in this record: a command that names one is not the host's (--addresses)"
    if texts.get("user", "0").strip() != "0":
        yield "it was not run as root: rules and other namespaces cannot be read then"


def _names(text: str) -> set[str]:
    return {line.split(" ", 1)[0] for line in text.splitlines() if line}
