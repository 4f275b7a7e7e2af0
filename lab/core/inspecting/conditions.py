"""The conditions of the known cases: each gives the evidence where it holds, as a sentence, and None where not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lab.core.holders.model import IPTABLES_NFT, KERNEL, LEGACY, NFT, Holder
from lab.core.inspecting.attached import Attached
from lab.core.inspecting.contents import Contents
from lab.core.inspecting.kernel_log import LogMessages
from lab.core.inspecting.model import Namespace, Record
from lab.core.inspecting.rulesets import Rulesets
from lab.core.inspecting.table import NEARLY, TableState

_NAT: Final = frozenset(
    {"-j SNAT", "-j DNAT", "-j MASQUERADE", "-j REDIRECT", "-j NETMAP", "snat", "dnat", "masquerade", "redirect"}
)
_MOSTLY: Final = 0.5


@dataclass(frozen=True)
class Context:
    """What the conditions look at."""

    record: Record
    namespace: Namespace
    rulesets: Rulesets
    attached: Attached
    table: TableState
    contents: Contents | None
    log: LogMessages | None

    @property
    def rules(self) -> tuple[Holder, ...]:
        """The holders that are rules or objects of a ruleset."""
        return tuple(one for one in self.attached.holders if one.backend in (LEGACY, IPTABLES_NFT, NFT))


def other_namespace(context: Context) -> str | None:
    """That the kernel logged a full table, and it is not this one."""
    log, table = context.log, context.table
    if log is None or not log.count or not context.namespace.own:
        return None
    drops = table.counters.get("drop")
    if drops != 0:
        return None
    named = ", ".join(f"netns {inode}" for inode in log.netns_inodes)
    return f"the kernel logged a full table, and drop is 0 here: another namespace's{f' ({named})' if named else ''}"


def option(context: Context) -> str | None:
    """The option that attaches the hooks whenever the module is loaded."""
    return next((f"`{one.rule}`" for one in context.attached.holders if one.kind == "option"), None)


def classic(context: Context) -> str | None:
    """Before 4.14, without a rule: the modules that stay attached."""
    by_module = [one.rule for one in context.attached.holders if one.kind == "module" and one.backend == KERNEL]
    found = [name for name in by_module if name.startswith("nf_conntrack_ipv")]
    if not found or any(one.certain for one in context.rules):
        return None
    return f"no rule needs conntrack, and {' and '.join(found)} is loaded, which tracks by itself before 4.14"


def switch(context: Context) -> str | None:
    """Open vSwitch, which holds by being loaded."""
    loaded = [one for one in context.attached.holders if one.kind == "module" and one.rule == "openvswitch"]
    return "the module openvswitch is loaded, which tracks in every namespace from 4.18 to 6.11" if loaded else None


def without_hooks(context: Context) -> str | None:
    """A filter of tc or a flow, which tracks by itself."""
    found = [one for one in context.attached.holders if not one.hooks]
    return f"`{found[0].rule[:80]}` of {found[0].backend} tracks what passes it" if found else None


def owned(context: Context) -> str | None:
    """A table that nobody but its owner may change."""
    found = next((one for one in context.rules if one.owner is not None), None)
    return None if found is None else f"table {found.family} {found.table} belongs to {found.owner}"


def wrong_backend(context: Context) -> str | None:
    """Rules of the backend that the plain `iptables` does not show."""
    path = (context.record.host.texts.get("iptables.program") or "").strip()
    if not context.namespace.own:
        return None
    if path.endswith("xtables-nft-multi"):
        hidden = [one for one in context.rules if one.backend == LEGACY]
        program = "iptables-legacy"
    elif path.endswith("xtables-legacy-multi"):
        hidden = [one for one in context.rules if one.backend == IPTABLES_NFT]
        program = "iptables-nft"
    else:
        return None
    if not hidden:
        return None
    return f"`{hidden[0].rule[:80]}` is a rule of {program}, which `iptables` ({path}) does not show"


def orphans(context: Context) -> str | None:
    """Rules that hold, all of them where no packet comes."""
    rules = [one for one in context.rules if one.kind == "rule" and one.certain]
    if not rules or len(rules) != len([one for one in context.rules if one.certain]):
        return None
    if any(one.reachable is not False for one in rules):
        return None
    return f"no packet reaches `{rules[0].rule[:80]}` in chain {rules[0].chain}, and it holds conntrack all the same"


def kept_out(context: Context) -> str | None:
    """Rules with notrack."""
    return next((one.evidence for one in context.attached.proofs if one.source == "notrack"), None)


def nat(context: Context) -> str | None:
    """A rule that rewrites addresses."""
    found = [one for one in context.rules if one.certain and not _NAT.isdisjoint(one.depends_on)]
    return f"`{found[0].rule[:80]}` rewrites addresses" if found else None


def stateful(context: Context) -> str | None:
    """A rule that needs conntrack without rewriting addresses."""
    found = [one for one in context.rules if one.certain and _NAT.isdisjoint(one.depends_on)]
    return f"`{found[0].rule[:80]}` needs {found[0].depends_on[0]}" if found else None


def foreign(context: Context) -> str | None:
    """A rule of a module from outside the kernel's tree."""
    found = [one for one in context.rules if not one.certain]
    return f"`{found[0].rule[:80]}`: {found[0].depends_on[0]} is from outside the kernel's tree" if found else None


def left_over(context: Context) -> str | None:
    """Entries although nothing tracks."""
    entries = context.table.entries
    if context.attached.answer is not False or not entries:
        return None
    return f"nothing tracks, and {entries:,} entries are there"


def module_only(context: Context) -> str | None:
    """The module without anything that attaches it."""
    known = (context.namespace.snapshot.texts.get("sys_module") or "").split()
    if context.attached.answer is not False or context.table.entries or "nf_conntrack" not in known:
        return None
    return "nf_conntrack is there, and nothing has attached it"


def nothing(context: Context) -> str | None:
    """Not even the module."""
    known = context.namespace.snapshot.texts.get("sys_module")
    if context.attached.answer is not False or known is None or "nf_conntrack" in known.split():
        return None
    return "nf_conntrack is not loaded"


def chains(context: Context) -> str | None:
    """Insertions that failed for a long hash chain."""
    rise = context.table.rises.get("chainlength", 0)
    return f"{rise:,} insertions failed for a hash chain that is too long" if rise else None


def evicting(context: Context) -> str | None:
    """Entries that were evicted, and no packet dropped."""
    rise = context.table.rises.get("early_drop", 0)
    if not rise or context.table.drops_rise:
        return None
    return f"{rise:,} entries were evicted, and no packet was dropped for a full table"


def waiting(context: Context) -> str | None:
    """Mostly connections that have ended."""
    if context.contents is None or not context.contents.rows:
        return None
    waiting = sum(
        rows for protocol, state, rows in context.contents.states if (protocol, state) == ("tcp", "TIME_WAIT")
    )
    share = waiting / context.contents.rows
    return f"{share:.0%} of the entries are connections that have ended (TIME_WAIT)" if share >= _MOSTLY else None


def full(context: Context) -> str | None:
    """A table that drops, or has next to no room."""
    if context.attached.answer is False:
        return None
    if context.table.drops_rise:
        return f"{context.table.drops_rise:,} packets were dropped for a full table between the two looks"
    if (context.table.share or 0) >= NEARLY:
        return f"{context.table.share or 0:.0%} of max is used"
    return None
