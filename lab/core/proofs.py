"""Is conntrack attached? Three proofs side by side: the kernel's list of hooks, what holds them, and what happened.

They are independent: the list comes from the kernel's netfilter, the holders from the rulesets, and the behaviour from
connections. Where they disagree, that is said, for it is either a gap in what the lab knows or news about the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lab.core.evidence import Evidence, Snapshot
from lab.core.facts import Facts
from lab.core.finding import Finding
from lab.core.holders import Holder, Recorded, held_families, holders
from lab.core.hooks import hooks, tracked_families

# the load of the scenarios runs over IPv4
LOAD_FAMILY = "ip"

# A text that was not recorded because its module is not loaded says that there are no such rules; any other absence
# says nothing.
_RULESETS = ("iptables-legacy-save", "iptables-nft-save", "ruleset.nft", "ruleset.json")
_NOT_LOADED = "is not loaded"
_NOTRACK = re.compile(r"--notrack\b|-j NOTRACK\b|\bnotrack(?: #|$)|\"notrack\"", re.MULTILINE)

_BEHAVIOUR: Mapping[str, bool] = {"untracked": False, "tracked": True, "table-full": True, "evicted": True}


@dataclass(frozen=True)
class Proofs:
    """What each of the three says of the family that the load used; None where it cannot say."""

    hooks: bool | None
    holders: bool | None
    behaviour: bool | None
    held_by: tuple[Holder, ...] = ()
    notrack: bool = False  # rules keep some packets out: then nothing may be tracked although the hooks are attached
    disagreement: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As in a result's `proofs`; the holders have a key of their own."""
        return {
            "hooks": self.hooks,
            "holders": self.holders,
            "behaviour": self.behaviour,
            "notrack": self.notrack,
            "disagreement": self.disagreement,
        }

    def holders_json(self) -> list[dict[str, Any]]:
        """As in a result's `holders`."""
        return [asdict(holder) for holder in self.held_by]


def prove(evidence: Evidence, finding: Finding) -> Proofs:
    """The proofs of a cell. A recorded text that cannot be read is a proof that cannot say."""
    snapshot = evidence.after or evidence.before
    listed = _hooks_attached(snapshot)
    found = found_holders(evidence, snapshot)
    held = None if found is None else LOAD_FAMILY in held_families(found)
    behaviour = _BEHAVIOUR.get(finding.name)
    notrack = _has_notrack(snapshot)
    # what notrack explains is no contradiction: attached, and passed by
    compared = None if notrack and behaviour is False else behaviour
    return Proofs(listed, held, behaviour, found or (), notrack, _disagreement(listed, held, compared))


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


def _has_notrack(snapshot: Snapshot | None) -> bool:
    """Whether a rule says notrack, in whichever backend: `-j CT --notrack`, `-j NOTRACK`, or nft's statement."""
    texts = (snapshot.texts.get(name) or "" for name in _RULESETS) if snapshot is not None else ()
    return any(_NOTRACK.search(text) for text in texts)


def _hooks_attached(snapshot: Snapshot | None) -> bool | None:
    text = snapshot.texts.get("hooks.nft") if snapshot is not None else None
    if text is None:
        return None
    try:
        families = tracked_families(hooks(text))
    except ValueError:
        return None
    return None if families is None else LOAD_FAMILY in families


def found_holders(evidence: Evidence, snapshot: Snapshot | None) -> tuple[Holder, ...] | None:
    """What held conntrack in one of the evidence's states; None where its rulesets were not recorded."""
    if snapshot is None or evidence.kernel_release is None:
        return None
    known = (name in snapshot.texts or _NOT_LOADED in snapshot.errors.get(name, "") for name in _RULESETS)
    if not all(known) or "modules" not in snapshot.texts:
        return None
    try:
        return holders(recorded(snapshot, evidence.facts))
    except ValueError:
        return None


def _disagreement(listed: bool | None, held: bool | None, behaviour: bool | None) -> str | None:
    said = {"the kernel's hooks": listed, "the rulesets": held, "the connections": behaviour}
    yes = [name for name, answer in said.items() if answer is True]
    no = [name for name, answer in said.items() if answer is False]
    if not (yes and no):
        return None
    return f"{' and '.join(yes)} say that conntrack is attached, {' and '.join(no)} that it is not"
