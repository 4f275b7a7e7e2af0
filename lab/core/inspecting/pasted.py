"""A record from pasted texts: files by their names, or one text. What was not pasted is unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lab.core.errors import ScenarioError
from lab.core.evidence import Snapshot
from lab.core.inspecting.forms import FORMS, Item, items_of, merged, sections
from lab.core.inspecting.model import Namespace, Record

_HOST = frozenset({"uname", "modules", "cmdline", "modprobe.d", "kmsg", "sys_module", "uptime"})
_RULE = re.compile(r"^(?:\[\d+:\d+\] )?-A |^ *(?:\d\S* +){0,3}\S* +(?:all|\d+|[a-z]+) +(?:--|-f|!f) ", re.MULTILINE)
_SHOWN = 3  # files that are named of those that are nothing known
# files whose name says what is in them, whatever the text looks like: an empty one too
_BY_NAME: Mapping[str, str] = {
    "iptables-save": "iptables-save",
    "ip6tables-save": "ip6tables-save",
    "iptables-legacy-save": "iptables-legacy-save",
    "ip6tables-legacy-save": "ip6tables-legacy-save",
    "iptables-nft-save": "iptables-nft-save",
    "ip6tables-nft-save": "ip6tables-nft-save",
    "nft-list-ruleset": "ruleset.nft",
    "lsmod": "modules",
    "dmesg": "kmsg",
}


def pasted_record(texts: Mapping[str, str], origin: str) -> Record:
    """The record in these texts, each by its file's name. Raises ScenarioError where none of them is known."""
    items: dict[str, str] = {}
    problems: list[str] = []
    unknown: list[str] = []
    for name, text in sorted(texts.items()):
        found = _items(name, text)
        if not found:
            unknown.append(name or "the text")
        for item in found:
            items[item.name] = merged(items, item)
    if not items:
        raise ScenarioError(f"{origin}: nothing in it is known", hint=f"known are {', '.join(FORMS)}")
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        problems.append(f"{', '.join(unknown[:_SHOWN])}{more}: nothing that is known, and passed over")
    items, notes = with_backends(items)
    problems += notes
    problems.append("pasted texts: of other namespaces, and of what was not pasted, nothing is known")
    return record_of_items(items, origin, tuple(problems))


def record_of_items(items: Mapping[str, str], origin: str, problems: tuple[str, ...]) -> Record:
    """A record of one namespace from its items, and those of its host."""
    inferred = _not_loaded(items)
    host = Snapshot({name: text for name, text in items.items() if name in _HOST})
    namespace = Namespace(Snapshot(dict(items), inferred))
    return Record(origin, host, (namespace,), problems)


def with_backends(items: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The items with a backend for rules that do not say theirs, and what was assumed.

    `iptables` leads to either. A list without rules says nothing of the backend that it is not of: so it is taken as
    of nft, unless there is no nft, and never proves that there are no legacy rules.
    """
    known = dict(items)
    notes = []
    for program, family, module in (("iptables", "ip", "ip_tables"), ("ip6tables", "ip6", "ip6_tables")):
        text = known.pop(f"{program}-save", None)
        if text is not None:
            backend, why = _backend(text, known, family, module)
            known.setdefault(f"{program}-{backend}-save", text)
            notes.append(f"which backend `{program}` asked is not said: taken as {backend}, as {why}")
    return known, notes


def _backend(text: str, items: Mapping[str, str], family: str, module: str) -> tuple[str, str]:
    loaded = {line.split(" ", 1)[0] for line in (items.get("modules") or "").splitlines()}
    if loaded and module not in loaded:
        return "nft", f"{module} is not loaded"
    if loaded and "nf_tables" not in loaded:
        return "legacy", "nf_tables is not loaded"
    if re.search(rf"^table {family} (?:filter|nat|mangle|raw) ", items.get("ruleset.nft") or "", re.MULTILINE):
        return "nft", "the ruleset of nft has its tables"
    if _RULE.search(text):
        return "legacy", "it has rules, and the ruleset of nft has not"
    return "nft", "it has no rules, and proves nothing of legacy ones"


def _items(name: str, text: str) -> tuple[Item, ...]:
    stem = name.rpartition("/")[2].removesuffix(".txt").replace("_", "-").replace(" ", "-")
    if not text.strip():
        return (Item(_BY_NAME[stem], ""),) if stem in _BY_NAME else ()
    return tuple(item for command, part in sections(text) for item in items_of(part, command or stem))


# what is certainly not there when these modules are not: kernels of distributions build none of them in
_NEEDS = (
    ("iptables-legacy-save", "ip_tables"),
    ("ip6tables-legacy-save", "ip6_tables"),
    ("ruleset.nft", "nf_tables"),
    ("tc.filters", "act_ct"),
    ("ovs.flows", "openvswitch"),
)


def _not_loaded(items: Mapping[str, str]) -> dict[str, str]:
    """Which texts are not missing, for the list of modules says that there is nothing to show."""
    if not (items.get("modules") or "").strip():
        return {}
    loaded = {line.split(" ", 1)[0] for line in items["modules"].splitlines()}
    return {
        name: f"{module} is not loaded, says the list of modules"
        for name, module in _NEEDS
        if name not in items and module not in loaded
    }
