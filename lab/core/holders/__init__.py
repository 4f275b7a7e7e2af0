"""What keeps connection tracking attached: the rules, objects and module options that hold its hooks.

From the recorded texts of one machine to a tuple of `Holder`s, in the order in which they can be removed. Since 4.14
the kernel registers the hooks of a family while something in the network namespace needs them (4d3a57f23dec
"netfilter: conntrack: do not enable connection tracking unless needed"). What needs them says so when it is created
and no longer when it is destroyed: whether packets ever reach it plays no part. So a rule in a chain that nothing
jumps to holds the hooks as well as any other, and an empty nat table does not.
"""

from lab.core.holders.dependents import HOOKED_FAMILIES, MATCHES, OBJECTS, STATEMENTS, TARGETS
from lab.core.holders.find import held_families, holders, tables_and_holders
from lab.core.holders.groups import MOST_GROUPS, Group, groups
from lab.core.holders.model import (
    IPTABLES_NFT,
    IPVS,
    KERNEL,
    LEGACY,
    MAY_HOLD,
    NFT,
    OPENVSWITCH,
    PART_OF_FIREWALL,
    TC,
    Holder,
    Recorded,
    Table,
)

__all__ = [
    "HOOKED_FAMILIES",
    "IPTABLES_NFT",
    "IPVS",
    "KERNEL",
    "LEGACY",
    "MATCHES",
    "MAY_HOLD",
    "MOST_GROUPS",
    "NFT",
    "OBJECTS",
    "OPENVSWITCH",
    "PART_OF_FIREWALL",
    "STATEMENTS",
    "TARGETS",
    "TC",
    "Group",
    "Holder",
    "Recorded",
    "Table",
    "groups",
    "held_families",
    "holders",
    "tables_and_holders",
]
