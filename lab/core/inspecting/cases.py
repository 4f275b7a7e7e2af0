"""Which known case a namespace is: each with the evidence, the page, the fix with its risk, and the scenario of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from lab.core.holders import IPTABLES_NFT, KERNEL, LEGACY, NFT, Holder
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


@dataclass(frozen=True)
class Case:
    """A case as it was found."""

    name: str
    evidence: str
    page: str  # in docs/
    fix: str
    risk: str
    scenario: str  # a shipped one that shows it; "" where there is none


Condition = Callable[[Context], str | None]


def cases_of(context: Context) -> tuple[Case, ...]:
    """The cases whose conditions hold, in the order of the table."""
    return tuple(_found(context))


def _found(context: Context) -> Iterator[Case]:
    for name, condition, scenario, page, fix, risk in CASES:
        evidence = condition(context)
        if evidence is not None:
            yield Case(name, evidence, page, fix, risk, scenario)


def _other_namespace(context: Context) -> str | None:
    log, table = context.log, context.table
    if log is None or not log.count or not context.namespace.own:
        return None
    drops = table.counters.get("drop")
    if drops != 0:
        return None
    named = ", ".join(f"netns {inode}" for inode in log.netns_inodes)
    return f"the kernel logged a full table, and drop is 0 here: another namespace's{f' ({named})' if named else ''}"


def _option(context: Context) -> str | None:
    return next((f"`{one.rule}`" for one in context.attached.holders if one.kind == "option"), None)


def _classic(context: Context) -> str | None:
    by_module = [one.rule for one in context.attached.holders if one.kind == "module" and one.backend == KERNEL]
    found = [name for name in by_module if name.startswith("nf_conntrack_ipv")]
    if not found or any(one.certain for one in context.rules):
        return None
    return f"no rule needs conntrack, and {' and '.join(found)} is loaded, which tracks by itself before 4.14"


def _switch(context: Context) -> str | None:
    loaded = [one for one in context.attached.holders if one.kind == "module" and one.rule == "openvswitch"]
    return "the module openvswitch is loaded, which tracks in every namespace from 4.18 to 6.11" if loaded else None


def _without_hooks(context: Context) -> str | None:
    found = [one for one in context.attached.holders if not one.hooks]
    return f"`{found[0].rule[:80]}` of {found[0].backend} tracks what passes it" if found else None


def _owned(context: Context) -> str | None:
    found = next((one for one in context.rules if one.owner is not None), None)
    return None if found is None else f"table {found.family} {found.table} belongs to {found.owner}"


def _wrong_backend(context: Context) -> str | None:
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


def _orphans(context: Context) -> str | None:
    rules = [one for one in context.rules if one.kind == "rule" and one.certain]
    if not rules or len(rules) != len([one for one in context.rules if one.certain]):
        return None
    if any(one.reachable is not False for one in rules):
        return None
    return f"no packet reaches `{rules[0].rule[:80]}` in chain {rules[0].chain}, and it holds conntrack all the same"


def _kept_out(context: Context) -> str | None:
    return next((one.evidence for one in context.attached.proofs if one.source == "notrack"), None)


def _nat(context: Context) -> str | None:
    found = [one for one in context.rules if one.certain and not _NAT.isdisjoint(one.depends_on)]
    return f"`{found[0].rule[:80]}` rewrites addresses" if found else None


def _stateful(context: Context) -> str | None:
    found = [one for one in context.rules if one.certain and _NAT.isdisjoint(one.depends_on)]
    return f"`{found[0].rule[:80]}` needs {found[0].depends_on[0]}" if found else None


def _foreign(context: Context) -> str | None:
    found = [one for one in context.rules if not one.certain]
    return f"`{found[0].rule[:80]}`: {found[0].depends_on[0]} is from outside the kernel's tree" if found else None


def _left_over(context: Context) -> str | None:
    entries = context.table.entries
    if context.attached.answer is not False or not entries:
        return None
    return f"nothing tracks, and {entries:,} entries are there"


def _module_only(context: Context) -> str | None:
    known = (context.namespace.snapshot.texts.get("sys_module") or "").split()
    if context.attached.answer is not False or context.table.entries or "nf_conntrack" not in known:
        return None
    return "nf_conntrack is there, and nothing has attached it"


def _nothing(context: Context) -> str | None:
    known = context.namespace.snapshot.texts.get("sys_module")
    if context.attached.answer is not False or known is None or "nf_conntrack" in known.split():
        return None
    return "nf_conntrack is not loaded"


def _chains(context: Context) -> str | None:
    rise = context.table.rises.get("chainlength", 0)
    return f"{rise:,} insertions failed for a hash chain that is too long" if rise else None


def _evicting(context: Context) -> str | None:
    rise = context.table.rises.get("early_drop", 0)
    if not rise or context.table.drops_rise:
        return None
    return f"{rise:,} entries were evicted, and no packet was dropped for a full table"


def _waiting(context: Context) -> str | None:
    if context.contents is None or not context.contents.rows:
        return None
    waiting = sum(
        rows for protocol, state, rows in context.contents.states if (protocol, state) == ("tcp", "TIME_WAIT")
    )
    share = waiting / context.contents.rows
    return f"{share:.0%} of the entries are connections that have ended (TIME_WAIT)" if share >= _MOSTLY else None


def _full(context: Context) -> str | None:
    if context.attached.answer is False:
        return None
    if context.table.drops_rise:
        return f"{context.table.drops_rise:,} packets were dropped for a full table between the two looks"
    if (context.table.share or 0) >= NEARLY:
        return f"{context.table.share or 0:.0%} of max is used"
    return None


_HOLDER_RISK = "what these rules do is gone: nat, or answers to this host's own connections under a policy of drop"
# name, condition, scenario, page, fix, risk
CASES: Final[tuple[tuple[str, Condition, str, str, str, str], ...]] = (
    (
        "another namespace's table is full",
        _other_namespace,
        "",
        "table-full.md#3-whose-table-is-it",
        "raise nf_conntrack_max, which is one for all namespaces; or remove what tracks in that one",
        "each entry takes memory of the host",
    ),
    (
        "max is too small for what is tracked",
        _full,
        "max-raised",
        "scenarios/max-raised.md",
        "sysctl -w net.netfilter.nf_conntrack_max=N, and as many buckets; or notrack for what needs no tracking",
        "256 to 320 bytes for each entry, 8 for each bucket; a max that a program writes is written again",
    ),
    (
        "the hash table is too small",
        _chains,
        "buckets-raised",
        "scenarios/buckets-raised.md",
        "echo N > /sys/module/nf_conntrack/parameters/hashsize, as many as max",
        "8 bytes for each bucket",
    ),
    (
        "unreplied entries are evicted to make room",
        _evicting,
        "unreplied-evicted",
        "scenarios/unreplied-evicted.md",
        "raise max, or drop in raw what scans or floods",
        "none by itself: assured entries stay",
    ),
    (
        "ended connections fill the table",
        _waiting,
        "timeouts-lowered",
        "scenarios/timeouts-lowered.md",
        "sysctl -w net.netfilter.nf_conntrack_tcp_timeout_time_wait=30",
        "late segments of an ended connection count as invalid",
    ),
    (
        "the option that tracks always",
        _option,
        "nat-flushed-always-on",
        "scenarios/nat-flushed-always-on.md",
        "take enable_hooks out of modprobe.d or of the kernel's command line, and load the module again",
        "none: rules that need conntrack attach it themselves",
    ),
    (
        "the classic: modules that stay attached",
        _classic,
        "nat-flushed",
        "scenarios/nat-flushed.md",
        "unload them: the holder's command",
        "a rule that needs nat or state loads them again",
    ),
    (
        "Open vSwitch attaches conntrack by being loaded",
        _switch,
        "",
        "kernels.md",
        "unload openvswitch where no bridge needs it, or a kernel of 6.12 or newer",
        "its bridges are gone",
    ),
    (
        "tracked without hooks",
        _without_hooks,
        "",
        "findings.md#each-finding-by-hand",
        "remove that filter or flow",
        "what it does is gone",
    ),
    (
        "rules in the backend that `iptables` does not show",
        _wrong_backend,
        "wrong-backend-flushed",
        "scenarios/wrong-backend-flushed.md",
        "remove the rules with the program of their backend",
        _HOLDER_RISK,
    ),
    (
        "a table that its owner keeps",
        _owned,
        "",
        "table-full.md#4-what-holds-conntrack",
        "stop its owner: nobody else may change it",
        "the host has no firewall then",
    ),
    (
        "rules that no packet reaches",
        _orphans,
        "orphan-chain",
        "scenarios/orphan-chain.md",
        "remove the rules",
        "none: no packet reaches them",
    ),
    (
        "rules with notrack",
        _kept_out,
        "nat-notrack",
        "scenarios/nat-notrack.md",
        "nothing to do where all packets are meant",
        "what is kept out has no nat, and no state to match",
    ),
    ("nat rules", _nat, "nat-present", "scenarios/nat-present.md", "remove them, or raise max", _HOLDER_RISK),
    (
        "rules that match the state",
        _stateful,
        "stateful-present",
        "scenarios/stateful-present.md",
        "replace them by rules without state, or notrack what needs none, or raise max",
        _HOLDER_RISK,
    ),
    (
        "a rule of which nobody can know",
        _foreign,
        "",
        "table-full.md#4-what-holds-conntrack",
        "look at the entries: do they rise with a new connection?",
        "",
    ),
    (
        "entries that outlived their rules",
        _left_over,
        "orphaned-entries",
        "scenarios/orphaned-entries.md",
        "conntrack -F, or wait for their timeouts",
        "none: nothing looks at them any more",
    ),
    ("loaded, and not attached", _module_only, "module-only", "scenarios/module-only.md", "nothing to do", ""),
    ("nothing at all", _nothing, "pristine", "scenarios/pristine.md", "nothing to do", ""),
)
