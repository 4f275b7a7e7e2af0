"""The modules that are loaded (/proc/modules), and what each is to connection tracking."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from lab.core.kernel.lines import numbered, whole_number

MODULE_STATES: Final = ("Live", "Loading", "Unloading")


@dataclass(frozen=True)
class Module:
    """A row of /proc/modules: a loaded module."""

    name: str
    size_bytes: int
    use_count: int | None  # None: this kernel cannot unload modules, or this one is on its way out
    users: tuple[str, ...]  # modules that depend on it; the kernel's own uses are only in the count
    state: str  # one of MODULE_STATES
    permanent: bool = False  # it has no exit function: it can never be removed


def modules(text: str) -> tuple[Module, ...]:
    """Read /proc/modules, in its order (newest first); empty text means that nothing is loaded.

    Raises `ValueError` for a row that is not `name size uses users state address [taints]`.
    """
    return tuple(_module(number, line) for number, line in numbered(text))


def _module(number: int, line: str) -> Module:
    where = f"modules line {number}"
    fields = line.split()
    if len(fields) < 5:
        raise ValueError(f"{where}: {len(fields)} fields, at least 5 belong there")
    name, size, uses, users, state = fields[:5]
    if state not in MODULE_STATES:
        raise ValueError(f"{where}: {state!r} is not a state of a module")
    # kernel/module/procfs.c print_unload_info(): "-" for no users; "- -" when modules cannot be unloaded at all
    named = () if users == "-" else tuple(user for user in users.split(",") if user)
    count = None if uses == "-" else whole_number(uses, f"{where}: use count")
    return Module(
        name=name,
        size_bytes=whole_number(size, f"{where}: size"),
        use_count=None if count is None or count < 0 else count,
        users=tuple(user for user in named if user != "[permanent]"),
        state=state,
        permanent="[permanent]" in named,
    )


@dataclass(frozen=True)
class ModuleFact:
    """What a module is to connection tracking."""

    role: str  # core | l3 | defrag | protocol | nat | match | target | nft | netlink | helper | user
    kernels: str = ""  # where it exists, as a scenario's kernel condition; "" = not pinned to a version


# Every module that belongs to connection tracking or NAT, or cannot be loaded without it, from 2.6.32 to 7.x.
# The versions inform a reader and decide nothing. Those of the l3 modules (merged into nf_conntrack by a0ae2562c6c4),
# of nf_nat_ipv4/_ipv6, of nft_chain_nat* and of *_MASQUERADE were seen in kernel sources; the rest is what is known.
# `role` says how to read a module list:
#   core      the table itself          l3       attaches the hooks of one family, at load up to 4.13
#   defrag    comes with the hooks      protocol an L4 tracker, or one of NAT
#   nat       rewrites addresses        match/target  an xtables extension that takes a reference of conntrack
#   nft       an nftables expression that does the same, or that needs the NAT core
#   netlink   `conntrack -L`            helper   follows a protocol's related connections (FTP, SIP, ...)
#   user      calls into the tracker on its own path, without any hook
CONNTRACK_MODULES: Final[Mapping[str, ModuleFact]] = MappingProxyType(
    {
        "nf_conntrack": ModuleFact("core"),
        "ip_conntrack": ModuleFact("core", "<2.6.22"),
        "nf_conntrack_ipv4": ModuleFact("l3", "<4.19"),
        "nf_conntrack_ipv6": ModuleFact("l3", "<4.19"),
        "nf_conntrack_l3proto_generic": ModuleFact("l3", "<2.6.32"),
        "nf_conntrack_bridge": ModuleFact("l3", ">=5.3"),
        "nf_defrag_ipv4": ModuleFact("defrag"),
        "nf_defrag_ipv6": ModuleFact("defrag"),
        "nf_conntrack_proto_dccp": ModuleFact("protocol", "<4.19"),
        "nf_conntrack_proto_gre": ModuleFact("protocol", "<5.1"),
        "nf_conntrack_proto_sctp": ModuleFact("protocol", "<4.19"),
        "nf_conntrack_proto_udplite": ModuleFact("protocol", "<4.19"),
        "nf_nat": ModuleFact("nat"),
        "ip_nat": ModuleFact("nat", "<2.6.22"),
        "nf_nat_ipv4": ModuleFact("nat", ">=3.7,<5.1"),
        "nf_nat_ipv6": ModuleFact("nat", ">=3.7,<5.1"),
        "nf_nat_masquerade_ipv4": ModuleFact("nat", ">=3.17,<5.1"),
        "nf_nat_masquerade_ipv6": ModuleFact("nat", ">=3.17,<5.1"),
        "nf_nat_redirect": ModuleFact("nat", ">=3.19,<5.1"),
        "nf_nat_redirect_ipv4": ModuleFact("nat", "<5.1"),
        "nf_nat_redirect_ipv6": ModuleFact("nat", "<5.1"),
        "nf_nat_proto_dccp": ModuleFact("protocol", "<5.1"),
        "nf_nat_proto_gre": ModuleFact("protocol", "<5.1"),
        "nf_nat_proto_sctp": ModuleFact("protocol", "<5.1"),
        "nf_nat_proto_udplite": ModuleFact("protocol", "<5.1"),
        "iptable_nat": ModuleFact("nat"),
        "ip6table_nat": ModuleFact("nat", ">=3.7"),
        "nft_chain_nat": ModuleFact("nat", ">=5.1"),
        "nft_chain_nat_ipv4": ModuleFact("nat", ">=3.13,<5.1"),
        "nft_chain_nat_ipv6": ModuleFact("nat", ">=3.13,<5.1"),
        "xt_conntrack": ModuleFact("match"),
        "xt_state": ModuleFact("match"),
        "xt_connbytes": ModuleFact("match"),
        "xt_connlabel": ModuleFact("match", ">=3.9"),
        "xt_connlimit": ModuleFact("match"),
        "xt_connmark": ModuleFact("match"),  # the CONNMARK target lives in it too
        "xt_helper": ModuleFact("match"),
        "xt_cluster": ModuleFact("match"),
        "ipt_conntrack": ModuleFact("match", "<2.6.24"),
        "xt_CT": ModuleFact("target"),
        "xt_NOTRACK": ModuleFact("target", "<3.8"),
        "xt_CONNMARK": ModuleFact("target", "<2.6.35"),
        "xt_CONNSECMARK": ModuleFact("target"),
        "xt_nat": ModuleFact("target", ">=3.7"),  # SNAT and DNAT
        "xt_MASQUERADE": ModuleFact("target", ">=5.2"),
        "xt_NETMAP": ModuleFact("target", ">=3.7"),
        "xt_REDIRECT": ModuleFact("target", ">=3.7"),
        "ipt_MASQUERADE": ModuleFact("target", "<5.2"),
        "ip6t_MASQUERADE": ModuleFact("target", ">=3.7,<5.2"),
        "ipt_NETMAP": ModuleFact("target", "<3.7"),
        "ipt_REDIRECT": ModuleFact("target", "<3.7"),
        "ipt_CLUSTERIP": ModuleFact("target"),
        "ipt_SYNPROXY": ModuleFact("target", ">=3.12"),
        "ip6t_SYNPROXY": ModuleFact("target", ">=3.12"),
        "nf_synproxy_core": ModuleFact("target", ">=3.12"),
        "nf_conncount": ModuleFact("match", ">=4.16"),
        "nft_ct": ModuleFact("nft", ">=3.13"),
        "nft_nat": ModuleFact("nft", ">=3.13"),
        "nft_masq": ModuleFact("nft", ">=3.18"),
        "nft_masq_ipv4": ModuleFact("nft", ">=3.18,<5.2"),
        "nft_masq_ipv6": ModuleFact("nft", ">=3.18,<5.2"),
        "nft_redir": ModuleFact("nft", ">=3.19"),
        "nft_redir_ipv4": ModuleFact("nft", ">=3.19,<5.2"),
        "nft_redir_ipv6": ModuleFact("nft", ">=3.19,<5.2"),
        "nft_connlimit": ModuleFact("nft", ">=4.18"),
        "nft_synproxy": ModuleFact("nft", ">=5.3"),
        "nft_flow_offload": ModuleFact("nft", ">=4.16"),
        "nf_flow_table": ModuleFact("nft", ">=4.16"),
        "nf_flow_table_inet": ModuleFact("nft", ">=4.16"),
        "nf_flow_table_ipv4": ModuleFact("nft", ">=4.16"),
        "nf_flow_table_ipv6": ModuleFact("nft", ">=4.16"),
        "nf_conntrack_netlink": ModuleFact("netlink"),
        "nfnetlink_cttimeout": ModuleFact("netlink", ">=3.4"),
        "nfnetlink_cthelper": ModuleFact("netlink", ">=3.6"),
        "openvswitch": ModuleFact("user", ">=4.3"),
        "act_ct": ModuleFact("user", ">=5.3"),
        "act_ctinfo": ModuleFact("user", ">=5.3"),
        "act_connmark": ModuleFact("user", ">=4.0"),
        "em_ipt": ModuleFact("user"),
        "ip_vs": ModuleFact("user"),  # links to the tracker, attaches its hooks only for an FTP service with NAT
        "ip_vs_ftp": ModuleFact("user"),
    }
)

# A helper is named nf_conntrack_<protocol>, and its companion for NAT nf_nat_<protocol>.
_HELPER: Final = re.compile(
    r"nf_(conntrack|nat)_(amanda|broadcast|ftp|h323|irc|netbios_ns|pptp|sane|sip|snmp(_basic)?|tftp)"
)


def conntrack_module(name: str) -> ModuleFact | None:
    """What the module `name` is to connection tracking, or None when it has nothing to do with it."""
    known = CONNTRACK_MODULES.get(name)
    if known is None and _HELPER.fullmatch(name):
        return ModuleFact("helper")
    return known


def conntrack_modules(loaded: Iterable[Module]) -> tuple[Module, ...]:
    """Those of the loaded modules that belong to connection tracking, in their order."""
    return tuple(module for module in loaded if conntrack_module(module.name) is not None)
