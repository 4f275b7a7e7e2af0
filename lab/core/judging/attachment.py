"""Is conntrack attached? What the kernel's list of hooks and the recorded rulesets say, each by itself."""

from __future__ import annotations

import re

from lab.core.evidence import Evidence, Snapshot
from lab.core.facts import Facts
from lab.core.holders import Holder, Recorded, held_families, holders
from lab.core.hooks import hooks, tracked_families

# the load of the scenarios runs over IPv4
LOAD_FAMILY = "ip"
_OTHER_FAMILY = "ip6"

# A text that was not recorded because its module is not loaded says that there are no such rules; any other absence
# says nothing.
_RULESETS = ("iptables-legacy-save", "iptables-nft-save", "ruleset.nft", "ruleset.json")
_NOT_LOADED = "is not loaded"
_NOTRACK = re.compile(r"--notrack\b|-j NOTRACK\b|\bnotrack(?: #|$)|\"notrack\"", re.MULTILINE)
_MAX_RULE = 120  # characters of a holder in a sentence


def recorded(snapshot: Snapshot, facts: Facts) -> Recorded:
    """The texts that the holders are read from. Raises ValueError where the kernel's release is unknown."""
    text = snapshot.texts.get
    conf = text("modprobe.d")
    return Recorded(
        kernel=facts.release.numbers,
        iptables_legacy=text("iptables-legacy-save"),
        ip6tables_legacy=text("ip6tables-legacy-save"),
        iptables_nft=text("iptables-nft-save"),
        ip6tables_nft=text("ip6tables-nft-save"),
        nft_json=text("ruleset.json"),
        nft_text=text("ruleset.nft"),
        # recorded as "path: line"
        modprobe_conf=None if conf is None else "".join(f"{line.partition(': ')[2]}\n" for line in conf.splitlines()),
        kernel_command_line=text("cmdline"),
        modules=text("modules"),
    )


def has_notrack(snapshot: Snapshot | None) -> bool:
    """Whether a rule says notrack, in whichever backend: `-j CT --notrack`, `-j NOTRACK`, or nft's statement."""
    texts = (snapshot.texts.get(name) or "" for name in _RULESETS) if snapshot is not None else ()
    return any(_NOTRACK.search(text) for text in texts)


def hooks_attached(snapshot: Snapshot | None) -> bool | None:
    text = snapshot.texts.get("hooks.nft") if snapshot is not None else None
    if text is None:
        return None
    try:
        families = tracked_families(hooks(text))
    except ValueError:
        return None
    return None if families is None else LOAD_FAMILY in families


def found_holders(evidence: Evidence, snapshot: Snapshot | None) -> tuple[Holder, ...] | None:
    if snapshot is None or evidence.kernel_release is None:
        return None
    known = (name in snapshot.texts or _NOT_LOADED in snapshot.errors.get(name, "") for name in _RULESETS)
    if not all(known) or "modules" not in snapshot.texts:
        return None
    try:
        return holders(recorded(snapshot, evidence.facts))
    except ValueError:
        return None


def contradiction(evidence: Evidence) -> str | None:
    """What says that the load must have been tracked: the state, before the load and after it, or the kernel's hooks.

    None where nothing says so, or where rules with notrack explain that nothing was. Hooks that came only during the
    load are no contradiction.
    """
    if any(has_notrack(snapshot) for snapshot in (evidence.before, evidence.after)):
        return None
    states = [found_holders(evidence, snapshot) for snapshot in (evidence.before, evidence.after)]
    held = [None if found is None else LOAD_FAMILY in held_families(found) for found in states]
    if all(held):
        return "the rulesets before and after the load hold conntrack, which would track it"
    if hooks_attached(evidence.after) and held[0] is not False:
        return "the kernel's list of hooks says that conntrack is attached, which would track it"
    return None


def other_family(evidence: Evidence) -> str:
    """That IPv6 is tracked although IPv4, which the load uses, is not; empty where that is not known."""
    found = found_holders(evidence, evidence.after or evidence.before) or ()
    families = held_families(found)
    if LOAD_FAMILY in families or _OTHER_FAMILY not in families:
        return ""
    holder = next(holder for holder in found if _OTHER_FAMILY in holder.families)
    return f"; this is IPv4, but IPv6 is tracked: `{holder.rule[:_MAX_RULE]}` of {holder.backend} holds it"
