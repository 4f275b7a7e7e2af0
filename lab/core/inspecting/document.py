"""What `lab inspect --format json` prints; lab/schemas/inspect.schema.json describes it. Unknown is null."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from lab.core.holders.groups import groups
from lab.core.holders.model import Holder
from lab.core.holders.programs import program_of
from lab.core.inspecting.contents import Contents
from lab.core.inspecting.inspection import Inspection, Look
from lab.core.inspecting.rulesets import rule_count
from lab.core.inspecting.table import TableState
from lab.core.inspecting.use_counts import Uses

SCHEMA_VERSION: Final = 1


def document(inspection: Inspection) -> dict[str, Any]:
    """The inspection as JSON."""
    record, log = inspection.record, inspection.messages
    return {
        "schema_version": SCHEMA_VERSION,
        "origin": record.origin,
        "kernel_release": record.facts.kernel_release,
        "status": inspection.status,
        "verdict": inspection.verdict,
        "namespaces": [_namespace(look) for look in inspection.looks],
        "not_read": list(inspection.problems),
        "module_uses": None if inspection.uses is None else [_uses(one) for one in inspection.uses],
        "kernel_log": None if log is None else {**asdict(log), "netns_inodes": list(log.netns_inodes)},
    }


def _uses(uses: Uses) -> dict[str, Any]:
    rules = list(uses.words)
    return {
        "modules": list(uses.modules),
        "uses": uses.uses,
        "seen": uses.seen,
        "rules": rules,
        "certain": uses.certain,
    }


def _namespace(look: Look) -> dict[str, Any]:
    namespace, attached = look.namespace, look.attached
    return {
        "label": namespace.label,
        "inode": namespace.inode,
        "names": list(namespace.names),
        "processes": list(namespace.processes),
        "process_count": namespace.process_count,
        "tracked": attached.answer,
        "families": list(attached.families),
        "proofs": [asdict(proof) for proof in attached.proofs],
        "disagreement": attached.disagreement or None,
        "kept_out": list(attached.kept_out),
        "read": list(look.rulesets.read),
        "rules": rule_count(look.rulesets.tables),
        "not_read": [{"what": gap.what, "why": gap.why} for gap in attached.gaps],
        "holders": [_holder(one) for one in attached.holders],
        "holder_groups": [
            {"place": one.place, "count": one.count, "chains": one.chains, "remove": list(one.remove or one.remove_all)}
            for one in groups(attached.holders)
        ],
        "table": _table(look.table),
        "contents": None if look.contents is None else _contents(look.contents),
        "cases": [asdict(case) for case in look.cases],
        "status": look.status,
        "verdict": look.verdict,
    }


def _holder(holder: Holder) -> dict[str, Any]:
    program = program_of(holder)
    lists = {name: list(value) for name, value in vars(holder).items() if isinstance(value, tuple)}
    return {**vars(holder), **lists, "program": None if program is None else asdict(program)}


def _table(table: TableState) -> dict[str, Any]:
    return {
        "entries": table.entries,
        "entries_later": table.entries_later,
        "max": table.table_max,
        "buckets": table.buckets,
        "entry_bytes": table.entry_bytes,
        "entries_bytes": table.entries_bytes,
        "hash_bytes": table.hash_bytes,
        "counters": dict(table.counters),
        "rises": dict(table.rises),
        "seconds": table.seconds,
        "table_full_drops": table.drops_rise,
        "growth_per_second": table.growth_per_second,
        "full_in_seconds": table.full_in_seconds,
        "opened_per_second": table.opened_per_second,
        "steady_entries": table.steady_entries,
    }


def _contents(contents: Contents) -> dict[str, Any]:
    return {
        "rows": contents.rows,
        "cut": contents.cut,
        "unreadable": contents.unreadable,
        "assured": contents.assured,
        "unreplied": contents.unreplied,
        "offloaded": contents.offloaded,
        "states": [{"protocol": name, "state": state, "rows": count} for name, state, count in contents.states],
        "ports": [{"protocol": name, "port": port, "rows": count} for name, port, count in contents.ports],
        "sources": [{"address": address, "rows": count} for address, count in contents.sources],
        "zones": [{"zone": zone, "rows": count} for zone, count in contents.zones.items()],
        "inflows": [{**asdict(one), "steady": one.steady} for one in contents.inflows],
    }
