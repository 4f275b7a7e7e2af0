"""Use counts of modules against the rules that were seen: do they explain each other?

A rule takes a reference on the module of each of its matches and targets (xt_check_match(), nf_tables_newrule()), in
whichever namespace and backend it is. So a count that is higher than the rules seen says that there are rules
elsewhere, and counts of 0 say that there are none, also where no program could be asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from lab.core.holders.model import NFT, Table
from lab.core.kernel.conntrack import Module, conntrack_module

# the words of rules (Dependency.what), and the modules of which each takes one reference, whichever this kernel has
USES: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (("-m conntrack", "-m state"), ("xt_conntrack", "xt_state", "ipt_conntrack")),
    (("-m connmark", "-j CONNMARK"), ("xt_connmark", "xt_CONNMARK")),
    (("-m connbytes",), ("xt_connbytes",)),
    (("-m connlabel",), ("xt_connlabel",)),
    (("-m connlimit",), ("xt_connlimit",)),
    (("-m helper",), ("xt_helper",)),
    (("-m cluster",), ("xt_cluster",)),
    (("-j CT",), ("xt_CT", "xt_NOTRACK")),
    (("-j CONNSECMARK",), ("xt_CONNSECMARK",)),
    (("-j SNAT", "-j DNAT"), ("xt_nat",)),
    (("-j MASQUERADE",), ("xt_MASQUERADE", "ipt_MASQUERADE", "ip6t_MASQUERADE")),
    (("-j REDIRECT",), ("xt_REDIRECT", "ipt_REDIRECT")),
    (("-j NETMAP",), ("xt_NETMAP", "ipt_NETMAP")),
    (("-j CLUSTERIP",), ("ipt_CLUSTERIP",)),
    (("-j SYNPROXY",), ("ipt_SYNPROXY", "ip6t_SYNPROXY")),
    (("ct",), ("nft_ct",)),
    (("snat", "dnat"), ("nft_nat",)),
    (("masquerade",), ("nft_masq", "nft_masq_ipv4", "nft_masq_ipv6")),
    (("redirect",), ("nft_redir", "nft_redir_ipv4", "nft_redir_ipv6")),
    (("ct count",), ("nft_connlimit",)),
    (("synproxy",), ("nft_synproxy",)),
    (("flow",), ("nft_flow_offload",)),
)
# those that are no `ct` of nft_ct although they begin so
_OWN_MODULE: Final = frozenset({"ct count"})
# nft_notrack_type is nft_ct's, and holds nothing; a rule that names an object has nft_objref, and the object nft_ct
_NFT_OBJECT: Final = re.compile(r'\bct (?:helper|timeout|expectation) set |\{"ct (?:helper|timeout|expectation)":"')
_NFT_NOTRACK: Final = re.compile(r'\bnotrack(?: comment "[^"]*")?$|\{"notrack":null\}')  # as text, and as JSON
_NOTRACK: Final = frozenset({"CT", "NOTRACK"})
_MAY_BE_NOTRACK: Final = (("-j CT",), ("ct",))
_CORE: Final = ("nf_conntrack", "nf_nat")  # whose users from outside the tree are not known


@dataclass(frozen=True)
class Uses:
    """The modules of one kind of rule."""

    words: tuple[str, ...]
    modules: tuple[str, ...]  # those that are loaded
    uses: int | None  # by rules; None where a count is not known
    seen: int
    certain: bool = True  # False: a module from outside the kernel's tree, whose uses may hold conntrack or not

    @property
    def backend(self) -> str:
        """Whose rules these are: xtables have two backends, nftables is one."""
        return "xtables" if self.modules[0].startswith(("xt_", "ipt_", "ip6t_")) else "nft"

    @property
    def hidden(self) -> int:
        """How many uses no rule explains that was seen."""
        return 0 if self.uses is None else max(0, self.uses - self.seen)

    @property
    def elsewhere(self) -> bool:
        """Whether rules are somewhere that were not seen; CT with --notrack is shown by nft without its module."""
        return self.certain and self.hidden > 0 and self.words != ("-j CT",)

    @property
    def may_keep_out(self) -> bool:
        """Whether rules that were not seen may be such as keep packets out of conntrack, which hold nothing."""
        return self.hidden > 0 and self.words in _MAY_BE_NOTRACK

    def __str__(self) -> str:
        uses = "an unknown number of uses" if self.uses is None else f"{self.uses} use{'s' if self.uses != 1 else ''}"
        return f"{'/'.join(self.modules)} has {uses}, {self.seen} of them seen in rules"


def uses_of(loaded: Sequence[Module], tables: Iterable[Table]) -> tuple[Uses, ...]:
    """For each kind of rule whose module is loaded: how often that is in use, and how often rules were seen to use it.

    `tables` are those of all namespaces.
    """
    by_name = {module.name: module for module in loaded}
    seen = _seen(tables)
    found = []
    for words, names in USES:
        modules = tuple(name for name in names if name in by_name)
        if modules:
            counts = [_own_uses(by_name[name]) for name in modules]
            known = [count for count in counts if count is not None]
            uses = sum(known) if len(known) == len(counts) else None
            found.append(Uses(words, modules, uses, sum(seen[word] for word in words)))
    users = sorted({user for core in _CORE if core in by_name for user in by_name[core].users if user in by_name})
    foreign = [name for name in users if conntrack_module(name) is None]
    return (*found, *(Uses((), (name,), _own_uses(by_name[name]), 0, certain=False) for name in foreign))


def nothing_uses(uses: Sequence[Uses], backend: str) -> bool:
    """Whether use counts prove that no rule of a backend (legacy, nft) is there beyond those that were seen.

    Rules of iptables, of either backend, use the modules of xtables; those of nftables these and its own.
    """
    kinds = ("xtables",) if backend == "legacy" else ("xtables", "nft")
    return all(one.uses is not None and one.hidden == 0 for one in uses if one.backend in kinds)


def _own_uses(module: Module) -> int | None:
    """The uses that are no other module's: each of those counts once."""
    return None if module.use_count is None else max(0, module.use_count - len(set(module.users)))


def _seen(tables: Iterable[Table]) -> Counter[str]:
    seen: Counter[str] = Counter()
    for table in tables:
        for rule in table.rules:
            seen.update(_key(dependency.what) for dependency in rule.depends_on)
            if not rule.depends_on and not _NOTRACK.isdisjoint(rule.leads_to):
                seen["-j CT"] += 1  # --notrack: it holds nothing, and uses the module
            if table.backend == NFT:
                seen["ct"] += len(_NFT_NOTRACK.findall(rule.text)) - len(_NFT_OBJECT.findall(rule.text))
        for item in table.objects:
            seen.update(_key(dependency.what) for dependency in item.depends_on)
    return seen


def _key(what: str) -> str:
    return "ct" if what.startswith("ct ") and what not in _OWN_MODULE else what
