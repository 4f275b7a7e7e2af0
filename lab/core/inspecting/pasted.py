"""A record from pasted texts: files by their names, or one text. What was not pasted is unknown."""

from __future__ import annotations

from collections.abc import Mapping

from lab.core.errors import ScenarioError
from lab.core.evidence import Snapshot
from lab.core.inspecting.forms import FORMS, Item, items_of, merged, sections
from lab.core.inspecting.model import Namespace, Record

_HOST = frozenset({"uname", "modules", "cmdline", "modprobe.d", "kmsg", "sys_module", "uptime"})
# files whose name says what is in them, whatever the text looks like: an empty one too
_BY_NAME: Mapping[str, str] = {
    "iptables-save": "iptables-legacy-save",
    "ip6tables-save": "ip6tables-legacy-save",
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
    for name, text in sorted(texts.items()):
        found = _items(name, text)
        if not found:
            problems.append(f"{name or 'the text'}: is nothing that is known, and was passed over")
        for item in found:
            items[item.name] = merged(items, item)
            problems += [item.note] if item.note else []
    if not items:
        raise ScenarioError(f"{origin}: nothing in it is known", hint=f"known are {', '.join(FORMS)}")
    problems.append("pasted texts: of other namespaces, and of what was not pasted, nothing is known")
    return record_of_items(items, origin, tuple(problems))


def record_of_items(items: Mapping[str, str], origin: str, problems: tuple[str, ...]) -> Record:
    """A record of one namespace from its items, and those of its host."""
    inferred = _not_loaded(items)
    host = Snapshot({name: text for name, text in items.items() if name in _HOST})
    namespace = Namespace(Snapshot(dict(items), inferred))
    return Record(origin, host, (namespace,), problems)


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
