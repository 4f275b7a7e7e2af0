"""The values: the recorded texts, what holds conntrack, and a ruleset, whichever program printed it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LEGACY: Final = "iptables-legacy"
IPTABLES_NFT: Final = "iptables-nft"
NFT: Final = "nft"
KERNEL: Final = "kernel"


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


@dataclass(frozen=True)
class Holder:
    """One thing that keeps the hooks of `families` attached."""

    kind: str  # rule, object (a named one of nftables, a set, a chain), option (of the module), module
    backend: str  # iptables-legacy, iptables-nft, nft, kernel
    family: str  # as the backend says: ip, ip6, inet, bridge; "" for the kernel's own
    table: str
    chain: str  # "" where it is in none; an object's own name is in `rule`
    handle: int | None  # nftables: its handle, where it was recorded
    number: int | None  # iptables: its place in the chain, from 1
    rule: str  # as the program prints it
    depends_on: tuple[str, ...]  # what in it needs conntrack: "-m state", "-j MASQUERADE", "ct state", "masquerade"
    reachable: bool | None  # whether any packet can come to it; None where that means nothing
    families: tuple[str, ...]  # whose packets are tracked because of it: ip, ip6, bridge; () for what holds a module
    remove: tuple[str, ...]  # argv that removes it, once the holders before it are gone; () when nothing does


@dataclass(frozen=True)
class Dependency:
    what: str
    family: str | None = None  # where it names one of its own: `dnat ip to` in a table of inet


@dataclass(frozen=True)
class Rule:
    chain: str
    text: str
    depends_on: tuple[Dependency, ...]
    leads_to: frozenset[str]  # chains, and "@name" for the sets and maps it looks into
    handle: int | None = None
    number: int | None = None
    spec: tuple[str, ...] = ()  # iptables: the rule's words, to delete it by
    from_xtables: bool = False


@dataclass(frozen=True)
class NamedObject:
    kind: str  # one of OBJECTS, or set, map
    name: str
    text: str
    depends_on: tuple[Dependency, ...]
    handle: int | None = None
    values: str = ""  # a map's: the kind of object that its elements name


@dataclass(frozen=True)
class Table:
    backend: str
    family: str
    name: str
    dormant: bool = False
    hooked: frozenset[str] = frozenset()  # the chains that packets enter by themselves
    rules: tuple[Rule, ...] = ()
    objects: tuple[NamedObject, ...] = ()
    nat_chains: tuple[str, ...] = ()  # nftables: those of type nat
    maps: Mapping[str, frozenset[str]] = field(default_factory=dict)  # name -> the chains its verdicts lead to

    @property
    def key(self) -> tuple[str, str]:
        return self.family, self.name
