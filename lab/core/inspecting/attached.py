"""Is conntrack attached in a namespace? The proofs of lab.core.judging, each with the sentence that it stands on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lab.core.evidence import Snapshot
from lab.core.holders.find import held_families
from lab.core.holders.model import Holder
from lab.core.inspecting.contents import NEW_SECONDS, Contents
from lab.core.inspecting.model import Namespace
from lab.core.inspecting.notrack import kept_out
from lab.core.inspecting.rulesets import Gap, Rulesets
from lab.core.inspecting.use_counts import Uses, nothing_uses
from lab.core.judging.attachment import frames_pass, has_notrack, hooked_families, unseen_texts

FAMILIES = ("ip", "ip6", "bridge")
_PORT: Final = re.compile(r"^/sys/class/net/(?P<name>[^/]+)/brport/port_no: ", re.MULTILINE)
_SWITCHED: Final = re.compile(r"^ {1,8}port \d{1,10}: (?P<name>\S+)(?: \((?!internal).*)?$", re.MULTILINE)
_CONNTRACK: Final = re.compile(r"^(?:nf|ip)_conntrack\b", re.MULTILINE)
_SHOWN_PORTS: Final = 3
_MAX_RULE = 120


@dataclass(frozen=True)
class Proof:
    """What one source says: whether conntrack is attached, None where it cannot say, and by which evidence."""

    source: str  # hooks, holders, uses, behaviour, bridge, notrack
    attached: bool | None
    evidence: str


@dataclass(frozen=True)
class Attached:
    """The answer for one namespace."""

    answer: bool | None
    families: tuple[str, ...]  # those that are attached for certain
    proofs: tuple[Proof, ...]
    holders: tuple[Holder, ...]
    gaps: tuple[Gap, ...]  # what could change the answer, and was not read
    disagreement: str = ""
    kept_out: tuple[str, ...] = ()  # the protocols of which no packet is tracked all the same

    @property
    def word(self) -> str:
        """yes, no or unknown."""
        return {True: "yes", False: "no", None: "unknown"}[self.answer]


def judge_namespace(
    namespace: Namespace,
    seen: Rulesets,
    uses: Sequence[Uses] | None,
    alone: bool,
    contents: Contents | None = None,
) -> Attached:
    """Put the proofs of a namespace together. `uses` are the host's, None where they are not known; `alone`: no other
    namespace can explain them; `contents` are the rows of its table, where they were recorded."""
    gaps = _gaps(namespace, seen, uses)
    proofs = [
        _by_hooks(namespace.snapshot),
        _by_holders(seen, gaps, namespace.snapshot),
        _by_uses(uses, alone),
        _by_behaviour(namespace, contents if gaps else None),
    ]
    answer, disagreement = _together(proofs, seen.holders)
    families = {*(hooked_families(namespace.snapshot) or ()), *held_families(seen.holders)}
    bridged = _by_bridge(namespace, families) if answer else None
    proofs += [bridged] if bridged is not None else []
    out = kept_out(seen.tables)
    protocols = out.protocols(families) if families else ()
    if answer and families and families <= out.whole | out.doubtful:
        answer = _kept_out(families <= out.whole, proofs, gaps)
        proofs.append(Proof("notrack", answer, "it is attached, and a rule without conditions keeps every packet out"))
    elif has_notrack(namespace.snapshot):
        what = f"every packet of {' and '.join(protocols)}" if protocols else "some packets"
        proofs.append(Proof("notrack", None, f"rules with notrack keep {what} out"))
    return Attached(
        answer=answer,
        families=tuple(name for name in FAMILIES if name in families - out.whole),
        proofs=tuple(proofs),
        holders=seen.holders,
        gaps=gaps,
        disagreement=disagreement,
        kept_out=protocols,
    )


def _kept_out(whole: bool, proofs: Sequence[Proof], gaps: Sequence[Gap]) -> bool | None:
    """The answer where rules keep every packet of the families out that are known to be attached: no, unless others may
    be attached too, or entries come all the same."""
    more = any(proof.attached for proof in proofs if proof.source in ("uses", "behaviour"))
    return False if whole and not more and not gaps else None


def _together(proofs: Sequence[Proof], found: Sequence[Holder]) -> tuple[bool | None, str]:
    """The answer, and where proofs contradict each other, which: then there is none."""
    said = {proof.source: proof.attached for proof in proofs}
    if said["hooks"] is False and said["holders"] is not True and any(not one.hooks for one in found):
        said["hooks"] = None  # these track what passes them, without any hook
    yes = [source for source, attached in said.items() if attached is True]
    no = [source for source, attached in said.items() if attached is False]
    if yes and no:
        return None, f"{' and '.join(yes)} say yes, {' and '.join(no)} say no"
    return (True if yes else False if no else None), ""


def _gaps(namespace: Namespace, seen: Rulesets, uses: Sequence[Uses] | None) -> tuple[Gap, ...]:
    """What is missing and matters: rules that use counts prove absent do not."""
    counted = uses if _counts_are_whole(namespace.snapshot) else None
    absent = _is_absent(namespace.snapshot)
    gaps = [
        gap
        for gap in seen.gaps
        if not (gap.backend and (absent or (counted is not None and nothing_uses(counted, gap.backend))))
    ]
    gaps += [Gap(name, "its module is in use, and it was not recorded") for name in sorted(_unseen(namespace))]
    if "modules" not in namespace.snapshot.texts and namespace.snapshot.errors.get("modules") != "ENOENT":
        gaps.append(Gap("modules", namespace.snapshot.errors.get("modules", "not recorded")))
    if not (namespace.snapshot.texts.get("uname") or "").strip():
        gaps.append(Gap("the kernel's release", "not recorded; before 4.14 loaded modules hold by themselves"))
    return tuple(gaps)


def _is_absent(snapshot: Snapshot) -> bool:
    """Whether conntrack is neither loaded nor built in, so that no rule that needs it is there: that would load it.

    Built in, it is in /sys/module all the same, for it has parameters.
    """
    known = snapshot.texts.get("sys_module")
    loaded = snapshot.texts.get("modules")
    return bool(known and loaded and not _CONNTRACK.search(known) and not _CONNTRACK.search(loaded))


def _counts_are_whole(snapshot: Snapshot) -> bool:
    """Whether what rules need would show in /proc/modules: it is not built into the kernel.

    Nothing that needs conntrack is where conntrack itself is a module (`depends on`, net/netfilter/Kconfig).
    """
    if _CONNTRACK.search(snapshot.texts.get("modules") or ""):
        return True
    built_in = snapshot.texts.get("modules.builtin")
    return built_in is not None and not any(
        name.startswith(("xt_", "nft_ct", "nft_nat", "nft_masq", "nft_redir")) for name in built_in.split()
    )


def _unseen(namespace: Namespace) -> frozenset[str]:
    return unseen_texts(namespace.snapshot)


def _by_hooks(snapshot: Snapshot) -> Proof:
    families = hooked_families(snapshot)
    if families is None:
        why = snapshot.errors.get("hooks.nft", "no hook is listed, as by kernels that cannot list them")
        if "hooks.nft" not in snapshot.texts and "hooks.nft" not in snapshot.errors:
            why = "not recorded"
        return Proof("hooks", None, f"the kernel's list of hooks: {why}")
    if families:
        return Proof("hooks", True, f"`nft list hooks` shows conntrack's own, for {_listed(families)}")
    return Proof("hooks", False, "`nft list hooks` shows others' hooks, and none of conntrack")


def _by_holders(seen: Rulesets, gaps: Sequence[Gap], snapshot: Snapshot) -> Proof:
    found = seen.holders
    certain = [one for one in found if one.certain and one.hooks and one.families]
    if certain:
        rest = f" and {len(certain) - 1:,} more" if len(certain) > 1 else ""
        return Proof(
            "holders",
            True,
            f"`{certain[0].rule[:_MAX_RULE]}` of {certain[0].backend}{rest} hold{'s' if not rest else ''} it",
        )
    perhaps = [one for one in found if one.families]
    if perhaps:
        why = "may hold it" if not perhaps[0].certain else "tracks what passes it, without hooks"
        return Proof("holders", None, f"`{perhaps[0].rule[:_MAX_RULE]}` of {perhaps[0].backend} {why}")
    if gaps:
        return Proof("holders", None, f"nothing that was read holds it; not read: {'; '.join(map(str, gaps))}")
    by_hand = "; an option that was given to modprobe by hand cannot be read back"
    loaded = "nf_conntrack" in (snapshot.texts.get("sys_module") or "").split()
    read = "every ruleset was read" if not seen.gaps else f"no module is in use for {seen.gaps[0].what}"
    read = "conntrack is neither loaded nor built in" if seen.gaps and _is_absent(snapshot) else read
    return Proof("holders", False, f"{read}, and nothing holds it{by_hand if loaded else ''}")


def _by_uses(uses: Sequence[Uses] | None, alone: bool) -> Proof:
    if uses is None:
        return Proof("uses", None, "the modules' use counts are not known, or nft shows rules without their modules")
    hidden = [one for one in uses if one.elsewhere]
    holding = [one for one in hidden if not one.may_keep_out]
    doubtful = [one for one in uses if one.may_keep_out]
    if holding and alone:
        here = f"{holding[0]}: rules that were not read hold it here, the only namespace"
        if not doubtful:
            return Proof("uses", True, here)
        return Proof("uses", None, f"{here}, and others may keep packets out: {doubtful[0]}")
    if hidden:
        return Proof("uses", None, f"{hidden[0]}: there are rules elsewhere")
    return Proof("uses", None, "no module is used more often than the rules that were read say")


def _by_behaviour(namespace: Namespace, contents: Contents | None) -> Proof:
    """By entries that came between two looks, or, given `contents`, just before the one look.

    They say nothing where every ruleset was read: they may be from before a removal.
    """
    first, later = (entry_count(one) for one in (namespace.snapshot, namespace.later))
    if contents is not None and contents.recent:
        what = f"{contents.recent:,} of {contents.rows:,} entries"
        return Proof("behaviour", True, f"packets made or renewed {what} within {NEW_SECONDS} s before they were read")
    if first is None or later is None:
        return Proof("behaviour", None, "the number of entries was not read twice")
    if later > first:
        return Proof(
            "behaviour", True, f"entries rose from {first:,} to {later:,} within {namespace.seconds or 0:.1f} s"
        )
    return Proof("behaviour", None, f"entries did not rise ({first:,}, then {later:,}), which says nothing")


def _by_bridge(namespace: Namespace, families: set[str]) -> Proof | None:
    """That frames of a bridge with ports pass by the hooks of ip; None where they do not, or that is not known.

    br_netfilter hands frames to these hooks (frames_pass()); conntrack of bridges has its own. Open vSwitch takes its
    frames before both (netdev_frame_hook(), net/openvswitch/vport-netdev.c).
    """
    texts = namespace.snapshot.texts
    by = [one for one in ("ip", "ip6") if one in families or not families]  # not known: attached by what it does
    ports = _SWITCHED.findall(texts.get("ovs.datapaths") or "")
    if not ports and namespace.own and "bridge" not in families:
        ports = _PORT.findall(texts.get("bridge_ports") or "")
        by = [family for family in by if not frames_pass(texts.get("bridge") or "", family)]
    if not ports or not by:
        return None
    more = f" and {len(ports) - _SHOWN_PORTS} more" if len(ports) > _SHOWN_PORTS else ""
    names = f"{', '.join(ports[:_SHOWN_PORTS])}{more}"
    return Proof("bridge", None, f"frames that a bridge forwards ({names}) pass by the hooks of {', '.join(by)}")


def entry_count(snapshot: Snapshot | None) -> int | None:
    """nf_conntrack_count of a snapshot; None where it was not read."""
    for line in (snapshot.texts.get("sysctl") or "" if snapshot else "").splitlines():
        path, _, value = line.partition(": ")
        if path.endswith("/nf_conntrack_count") and value.strip().isdecimal():
            return int(value)
    return None


def _listed(families: frozenset[str]) -> str:
    return ", ".join(name for name in FAMILIES if name in families)
