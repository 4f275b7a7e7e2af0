"""What depends on conntrack: every caller of nf_ct_netns_get() in 4.19 to 6.12, and what attaches without one."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from lab.core.holders.model import Dependency

# xtables matches (`-m`) and targets (`-j`), by the name in a rule; both families, both backends.
MATCHES: Final = frozenset(
    {"conntrack", "state", "connmark", "connbytes", "connlabel", "connlimit", "helper", "cluster"}
)
TARGETS: Final = frozenset(
    {"CONNMARK", "CONNSECMARK", "CT", "SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP", "CLUSTERIP", "SYNPROXY"}
)  # CT only without --notrack: xt_ct_tg_check() takes no reference then; NOTRACK is that in short

# Modules from outside the kernel's tree: some versions of them take a reference, some do not.
FOREIGN_MATCHES: Final = frozenset({"ndpi"})
FOREIGN_TARGETS: Final = frozenset({"FULLCONENAT", "NDPI"})
FOREIGN_STATEMENTS: Final = frozenset({"fullcone"})

# nftables: keys of `nft -j` (expressions and statements), to the words of `nft list ruleset`. `ct` is apart: it has
# keys of its own. Not here: notrack (nft_notrack_ops has no init), tproxy, socket, fib, and chains of type nat.
STATEMENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "masquerade": "masquerade",
        "redirect": "redirect",
        "snat": "snat",
        "dnat": "dnat",
        "synproxy": "synproxy",
        "flow": "flow",
        "ct count": "ct count",
        "ct helper": "ct helper",
        "ct timeout": "ct timeout",
        "ct expectation": "ct expectation",
    }
)
OBJECTS: Final = (
    "ct helper",
    "ct timeout",
    "ct expectation",
    "synproxy",
)  # named, and holding before any rule uses them

# A reference of these families attaches the hooks of those: NFPROTO_INET both, NFPROTO_BRIDGE also the bridge's own.
HOOKED_FAMILIES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"ip": ("ip",), "ip6": ("ip6",), "inet": ("ip", "ip6"), "bridge": ("ip", "ip6", "bridge")}
)

# Before this the l3 modules attach their family's hooks in every network namespace, from load to unload: until 4.9
# unconditionally, in 4.10 to 4.13 by the sysctl nf_conntrack_default_on=1 (481fa3734769).
ON_DEMAND_SINCE: Final = (4, 14)
ALWAYS_ON_MODULES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"nf_conntrack_ipv4": ("ip",), "nf_conntrack_ipv6": ("ip6",)}
)
# A module that holds both families in every network namespace by being loaded: from 4.18, when its limits for
# connections began to call nf_conncount_init(), until that no longer took a reference (d5283b47e225, 6.12).
OPENVSWITCH_SINCE: Final = (4, 18)
OPENVSWITCH_UNTIL: Final = (6, 12)
# modprobe nf_conntrack enable_hooks=1 brings that back (ba3fbe663635 "provide modparam to always register hooks").
ENABLE_HOOKS_SINCE: Final = (5, 1)


_EXTENSIONS: Final = MappingProxyType(
    {
        **{("match", name): Dependency(f"-m {name}") for name in sorted(MATCHES)},
        **{("target", name): Dependency(f"-j {name}") for name in sorted(TARGETS)},
        **{("match", name): Dependency(f"-m {name}", certain=False) for name in sorted(FOREIGN_MATCHES)},
        **{("target", name): Dependency(f"-j {name}", certain=False) for name in sorted(FOREIGN_TARGETS)},
    }
)


def xtables_dependency(kind: object, name: object) -> Dependency | None:
    """What an extension of xtables (kind match or target) needs of conntrack, whatever its arguments; None: nothing."""
    return _EXTENSIONS.get((kind, name)) if isinstance(kind, str) and isinstance(name, str) else None
