"""Which known case a namespace is: each with the evidence, the page, the fix with its risk, and the scenario of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from lab.core.inspecting import conditions
from lab.core.inspecting.conditions import Context


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


_HOLDER_RISK = "what these rules do is gone: nat, or answers to this host's own connections under a policy of drop"
# name, condition, scenario, page, fix, risk
CASES: Final[tuple[tuple[str, Condition, str, str, str, str], ...]] = (
    (
        "another namespace's table is full",
        conditions.other_namespace,
        "",
        "table-full.md#3-whose-table-is-it",
        "raise nf_conntrack_max, which is one for all namespaces; or remove what tracks in that one",
        "each entry takes memory of the host",
    ),
    (
        "max is too small for what is tracked",
        conditions.full,
        "max-raised",
        "scenarios/max-raised.md",
        "sysctl -w net.netfilter.nf_conntrack_max=N, and as many buckets; or notrack for what needs no tracking",
        "256 to 320 bytes for each entry, 8 for each bucket; a max that a program writes is written again",
    ),
    (
        "the hash table is too small",
        conditions.chains,
        "buckets-raised",
        "scenarios/buckets-raised.md",
        "echo N > /sys/module/nf_conntrack/parameters/hashsize, as many as max",
        "8 bytes for each bucket",
    ),
    (
        "unreplied entries are evicted to make room",
        conditions.evicting,
        "unreplied-evicted",
        "scenarios/unreplied-evicted.md",
        "raise max, or drop in raw what scans or floods",
        "none by itself: assured entries stay",
    ),
    (
        "ended connections fill the table",
        conditions.waiting,
        "timeouts-lowered",
        "scenarios/timeouts-lowered.md",
        "sysctl -w net.netfilter.nf_conntrack_tcp_timeout_time_wait=30",
        "late segments of an ended connection count as invalid",
    ),
    (
        "the option that tracks always",
        conditions.option,
        "nat-flushed-always-on",
        "scenarios/nat-flushed-always-on.md",
        "take enable_hooks out of modprobe.d or of the kernel's command line, and load the module again",
        "none: rules that need conntrack attach it themselves",
    ),
    (
        "the classic: modules that stay attached",
        conditions.classic,
        "nat-flushed",
        "scenarios/nat-flushed.md",
        "unload them: the holder's command",
        "a rule that needs nat or state loads them again",
    ),
    (
        "Open vSwitch attaches conntrack by being loaded",
        conditions.switch,
        "",
        "kernels.md",
        "unload openvswitch where no bridge needs it, or a kernel of 6.12 or newer",
        "its bridges are gone",
    ),
    (
        "tracked without hooks",
        conditions.without_hooks,
        "",
        "findings.md#each-finding-by-hand",
        "remove that filter or flow",
        "what it does is gone",
    ),
    (
        "rules in the backend that `iptables` does not show",
        conditions.wrong_backend,
        "wrong-backend-flushed",
        "scenarios/wrong-backend-flushed.md",
        "remove the rules with the program of their backend",
        _HOLDER_RISK,
    ),
    (
        "a table that its owner keeps",
        conditions.owned,
        "",
        "table-full.md#4-what-holds-conntrack",
        "stop its owner: nobody else may change it",
        "the host has no firewall then",
    ),
    (
        "rules that no packet reaches",
        conditions.orphans,
        "orphan-chain",
        "scenarios/orphan-chain.md",
        "remove the rules",
        "none: no packet reaches them",
    ),
    (
        "rules with notrack",
        conditions.kept_out,
        "nat-notrack",
        "scenarios/nat-notrack.md",
        "nothing to do where all packets are meant",
        "what is kept out has no nat, and no state to match",
    ),
    ("nat rules", conditions.nat, "nat-present", "scenarios/nat-present.md", "remove them, or raise max", _HOLDER_RISK),
    (
        "rules that match the state",
        conditions.stateful,
        "stateful-present",
        "scenarios/stateful-present.md",
        "replace them by rules without state, or notrack what needs none, or raise max",
        _HOLDER_RISK,
    ),
    (
        "a rule of which nobody can know",
        conditions.foreign,
        "",
        "table-full.md#4-what-holds-conntrack",
        "look at the entries: do they rise with a new connection?",
        "",
    ),
    (
        "entries that outlived their rules",
        conditions.left_over,
        "orphaned-entries",
        "scenarios/orphaned-entries.md",
        "conntrack -F, or wait for their timeouts",
        "none: nothing looks at them any more",
    ),
    (
        "loaded, and not attached",
        conditions.module_only,
        "module-only",
        "scenarios/module-only.md",
        "nothing to do",
        "",
    ),
    ("nothing at all", conditions.nothing, "pristine", "scenarios/pristine.md", "nothing to do", ""),
)
