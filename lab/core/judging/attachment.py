"""Is conntrack attached? What the kernel's list of hooks and the recorded rulesets say, each by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lab.core.evidence import Evidence, Snapshot
from lab.core.facts import Facts
from lab.core.holders.find import held_families, holders
from lab.core.holders.model import Holder, Recorded
from lab.core.kernel.conntrack import modules
from lab.core.kernel.hooks import hooks, tracked_families

# a family of the load, as hooks and rulesets call it
HOOK_FAMILIES: Mapping[str, str] = {"ipv4": "ip", "ipv6": "ip6"}
NAMES: Mapping[str, str] = {"ip": "IPv4", "ip6": "IPv6"}

# A text that was not recorded because its module is not loaded says that there are no such rules; any other absence
# says nothing.
_RULESETS = ("iptables-legacy-save", "iptables-nft-save", "ruleset.nft", "ruleset.json")
_NOT_LOADED = "is not loaded"
_NOTRACK = re.compile(r"-j CT --notrack\b|-j NOTRACK\b|\bnotrack(?: #|$)|\"notrack\"", re.MULTILINE)
# What holds beside rulesets, and the module without which there is none. Older runs did not record these texts.
_MORE_TEXTS: Mapping[str, str] = {"ip_vs": "ip_vs", "tc.filters": "act_ct", "ovs.flows": "openvswitch"}
WITHOUT_HOOKS = frozenset({"tc.filters", "ovs.flows"})
# The router's end of the path from the client: as the port of a bridge, what it takes in passes as a frame.
_BRIDGED = re.compile(r"^/sys/class/net/lab-[\w.-]+/brport/", re.MULTILINE)
# as the port of a datapath of Open vSwitch, in `ovs-dpctl show`
_SWITCHED = re.compile(r"^ {1,8}port \d{1,10}: lab-", re.MULTILINE)
_BRIDGE_SYSCTLS = "/proc/sys/net/bridge/"  # br_netfilter's
_NF_CALL: Mapping[str, re.Pattern[str]] = {
    family: re.compile(
        rf"^(?:{_BRIDGE_SYSCTLS}bridge-nf-call|/sys/class/net/[^/\n]+/bridge/nf_call)[-_]{family}tables: 1$",
        re.MULTILINE,
    )
    for family in ("ip", "ip6")
}
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
        known_modules=text("sys_module"),
        ip_vs=text("ip_vs"),
        tc_filters=text("tc.filters"),
        ovs_flows=text("ovs.flows"),
    )


def load_family(evidence: Evidence) -> str:
    """The family that the load went over, as hooks have it: ip, or ip6. What older recordings have is ip."""
    return HOOK_FAMILIES.get(str((evidence.load or {}).get("family", "ipv4")), "ip")


def load_held(found: tuple[Holder, ...], unseen: frozenset[str], family: str) -> bool | None:
    """Whether something holds the hooks of the load's family; None where only something that may, or that tracks what
    passes it without hooks, or where a text is missing."""
    if family in held_families(found):
        return True
    return None if unseen or any(family in one.families for one in found) else False


def unseen_texts(snapshot: Snapshot | None) -> frozenset[str]:
    """The further texts that were not recorded although their module is in use, by something other than a module."""
    try:
        loaded = {one.name: one for one in modules((snapshot and snapshot.texts.get("modules")) or "")}
    except ValueError:
        loaded = {}
    built_in = set(((snapshot and snapshot.texts.get("sys_module")) or "").split()) - loaded.keys()

    def in_use(name: str) -> bool:
        module = loaded.get(name)
        if module is None:
            return name in built_in
        return module.use_count is None or module.use_count > len(module.users)

    texts = snapshot.texts if snapshot is not None else {}
    return frozenset(item for item, module in _MORE_TEXTS.items() if item not in texts and in_use(module))


def passed_by(snapshot: Snapshot | None, family: str) -> bool:
    """Whether the load's packets cross a bridge, whose frames do not pass the hooks of ip.

    Those of Open vSwitch never do: netdev_frame_hook() takes a frame before the stack (net/openvswitch/vport-netdev.c).
    """
    texts = snapshot.texts if snapshot is not None else {}
    if _SWITCHED.search(texts.get("ovs.datapaths") or ""):
        return True
    text = texts.get("bridge") or ""
    return _BRIDGED.search(text) is not None and not frames_pass(text, family)


def frames_pass(text: str, family: str) -> bool:
    """Whether frames that a bridge forwards pass the hooks of ip or ip6, by these settings: br_netfilter is loaded, and
    its sysctl or an attribute of a bridge is 1 (br_nf_pre_routing(), net/bridge/br_netfilter_hooks.c).
    """
    return _BRIDGE_SYSCTLS in text and _NF_CALL[family].search(text) is not None


def has_notrack(snapshot: Snapshot | None) -> bool:
    """Whether a rule says notrack, in whichever backend: `-j CT --notrack`, `-j NOTRACK`, or nft's statement."""
    texts = (snapshot.texts.get(name) or "" for name in _RULESETS) if snapshot is not None else ()
    return any(_NOTRACK.search(text) for text in texts)


def hooked_families(snapshot: Snapshot | None) -> frozenset[str] | None:
    """The families whose hooks the kernel lists as attached; None where it does not say."""
    text = snapshot.texts.get("hooks.nft") if snapshot is not None else None
    if text is None:
        return None
    try:
        return tracked_families(hooks(text))
    except ValueError:
        return None


def hooks_attached(snapshot: Snapshot | None, family: str) -> bool | None:
    families = hooked_families(snapshot)
    return None if families is None else family in families


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

    None where nothing says so, or where rules with notrack, or a bridge, explain that. Hooks that came only during the
    load are no contradiction.
    """
    snapshots, family = (evidence.before, evidence.after), load_family(evidence)
    if any(has_notrack(snapshot) or passed_by(snapshot, family) for snapshot in snapshots):
        return None
    states = [(found_holders(evidence, snapshot), unseen_texts(snapshot)) for snapshot in snapshots]
    held = [None if found is None else load_held(found, unseen, family) for found, unseen in states]
    if all(held):
        return "the rulesets before and after the load hold conntrack, which would track it"
    if hooks_attached(evidence.after, family) and held[0] is not False:
        return "the kernel's list of hooks says that conntrack is attached, which would track it"
    return None


def end_holder(evidence: Evidence, role: str) -> str:
    """What holds conntrack in the namespace of an end; empty where that is not known."""
    found = found_holders(evidence, evidence.ends.get(role)) or ()
    holder = next((one for one in found if load_family(evidence) in one.families), None)
    return "" if holder is None else f", held there by `{holder.rule[:_MAX_RULE]}` of {holder.backend}"


def other_family(evidence: Evidence) -> str:
    """That the other family is tracked although the load's is not; empty where that is not known."""
    family = load_family(evidence)
    other = "ip6" if family == "ip" else "ip"
    found = found_holders(evidence, evidence.after or evidence.before) or ()
    families = held_families(found)
    if family in families or other not in families:
        return ""
    holder = next(holder for holder in found if other in holder.families)
    held = f"`{holder.rule[:_MAX_RULE]}` of {holder.backend} holds it"
    return f"; this is {NAMES[family]}, but {NAMES[other]} is tracked: {held}"
