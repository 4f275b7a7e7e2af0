"""The values: the recorded texts, what holds conntrack, and a ruleset, whichever program printed it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from lab.core.holders.base_chains import Place

LEGACY: Final = "iptables-legacy"
IPTABLES_NFT: Final = "iptables-nft"
NFT: Final = "nft"
KERNEL: Final = "kernel"
IPVS: Final = "ipvs"
TC: Final = "tc"
OPENVSWITCH: Final = "openvswitch"


@dataclass(frozen=True)
class Recorded:
    """The texts that were recorded in the machine; None for what was not, or could not be."""

    kernel: tuple[int, ...]  # (6, 12, 107): of `uname -r`
    iptables_legacy: str | None = None  # iptables-legacy-save
    ip6tables_legacy: str | None = None
    iptables_nft: str | None = None  # iptables-nft-save
    ip6tables_nft: str | None = None
    nft_json: str | None = None  # nft -j list ruleset
    nft_text: str | None = None  # nft -a list ruleset
    modprobe_conf: str | None = None  # the *.conf of /etc/modprobe.d, one after the other
    kernel_command_line: str | None = None  # /proc/cmdline
    modules: str | None = None  # /proc/modules
    known_modules: str | None = None  # names in /sys/module, those that are built in among them
    ip_vs: str | None = None  # /proc/net/ip_vs
    tc_filters: str | None = None  # `tc filter show` of each device, see lab.core.holders.without_hooks
    ovs_flows: str | None = None  # the flows in the kernel's datapaths of Open vSwitch


# What people are told of a holder that is part of a firewall.
PART_OF_FIREWALL: Final = "part of a firewall: removing it cuts replies to this host's own connections"
# The same of one that is not certain.
MAY_HOLD: Final = "may hold: module from outside the kernel's tree"


@dataclass(frozen=True)
class Holder:
    """One thing that keeps the hooks of `families` attached, or tracks their packets without hooks."""

    kind: str  # rule, object (a named one of nftables, a set, a chain), option (of the module), module, service (IPVS),
    # filter (tc), flow (Open vSwitch)
    backend: str  # iptables-legacy, iptables-nft, nft, kernel, ipvs, tc, openvswitch
    family: str  # as the backend says: ip, ip6, inet, bridge; "" for the kernel's own
    table: str  # tc: the device
    chain: str  # "" where it is in none; an object's own name is in `rule`; tc: ingress or egress
    handle: int | None  # nftables: its handle, where it was recorded
    number: int | None  # iptables: its place in the chain, from 1
    rule: str  # as the program prints it
    depends_on: tuple[str, ...]  # what in it needs conntrack: "-m state", "-j MASQUERADE", "ct state", "masquerade"
    reachable: bool | None  # whether any packet can come to it; None where that means nothing
    families: tuple[str, ...]  # whose packets are tracked because of it: ip, ip6, bridge; () for what holds a module
    remove: tuple[str, ...]  # argv that removes it, once the holders before it are gone; () when nothing does
    owner: str | None = None  # the program that owns its nftables table: nobody else may change it
    certain: bool = True  # False: it may hold, the lab cannot know; it proves nothing
    hooks: bool = True  # whether it attaches hooks; False: it hands packets to the tracker by itself
    part_of_firewall: bool = False  # it accepts what would be dropped without it
    advice: str = ""  # what to do where no command removes it; "" when there is nothing to say


@dataclass(frozen=True)
class Dependency:
    """A word of a rule that needs conntrack."""

    what: str
    family: str | None = None  # where it names one of its own: `dnat ip to` in a table of inet
    certain: bool = True


@dataclass(frozen=True)
class Rule:
    """A rule of either backend."""

    chain: str
    text: str
    depends_on: tuple[Dependency, ...]
    leads_to: frozenset[str]  # chains
    looks_into: frozenset[str] = frozenset()  # sets and maps of nftables
    accepts: bool = False
    drops: bool = False  # or rejects
    handle: int | None = None
    number: int | None = None
    spec: tuple[str, ...] = ()  # iptables: the rule's words, to delete it by
    from_xtables: bool = False


@dataclass(frozen=True)
class NamedObject:
    """A named object of nftables: of OBJECTS, a set or a map."""

    kind: str
    name: str
    text: str
    depends_on: tuple[Dependency, ...]
    handle: int | None = None
    values: str = ""  # a map's: the kind of object that its elements name


@dataclass(frozen=True)
class Table:
    """A table of a ruleset, whichever program printed it."""

    backend: str
    family: str
    name: str
    dormant: bool = False
    owner: str | None = None
    hooked: frozenset[str] = frozenset()  # the chains that packets enter by themselves
    dropping: frozenset[str] = frozenset()  # those of them whose policy is to drop
    places: Mapping[str, Place] = field(default_factory=dict)  # nftables: where they are, as far as that can be read
    rules: tuple[Rule, ...] = ()
    objects: tuple[NamedObject, ...] = ()
    nat_chains: tuple[str, ...] = ()  # nftables: those of type nat
    maps: Mapping[str, frozenset[str]] = field(default_factory=dict)  # name -> the chains its verdicts lead to

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others of the same program."""
        return self.family, self.name
