"""What the kernel says about connection tracking in /proc and /sys: text in, value out.

Kernels differ, so a column is found by the name in the file's own header, never by its place; a name that a kernel
does not have is missing from the answer and never zero. Text that is not what the kernel writes raises `ValueError`
with what is wrong and where.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

# --- /proc/net/stat/nf_conntrack -------------------------------------------------------------------------------------

# A level, not a counter: nf_conntrack_count of the network namespace, repeated on the row of every CPU.
LEVEL_COLUMN: Final = "entries"

_COUNTER_RANGE: Final = 1 << 32  # `unsigned int` in struct ip_conntrack_stat, one per CPU, wraps silently

_HEX: Final = re.compile(r"[0-9a-fA-F]{1,16}")
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_UNSIGNED: Final = re.compile(r"[0-9]{1,20}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def stat_totals(text: str) -> Mapping[str, int]:
    """Add up /proc/net/stat/nf_conntrack (hex, one row per CPU); the keys are the header's own names.

    `entries` is the same number on every row and is taken from the last one, which the kernel filled in last.
    Raises `ValueError` for a header without rows, a repeated or impossible name, and a row that does not fit.
    """
    lines = list(_numbered(text))
    if not lines:
        raise ValueError("stat/nf_conntrack: empty")
    names = _column_names(lines[0][1].split())
    rows = [_hex_row(number, line, len(names)) for number, line in lines[1:]]
    if not rows:
        raise ValueError("stat/nf_conntrack: a header but no row of a CPU")
    totals = {name: sum(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    if LEVEL_COLUMN in totals:
        totals[LEVEL_COLUMN] = rows[-1][names.index(LEVEL_COLUMN)]
    return MappingProxyType(totals)


def counter_delta(before: Mapping[str, int], after: Mapping[str, int], name: str) -> int | None:
    """How far the counter `name` rose between two `stat_totals`; None when that cannot be known.

    Each CPU's counter is 32 bits wide and wraps by itself, which leaves their sum right modulo 2**32. A counter that
    seems to have gone back (a rise of half the range or more) was reset, for example by a reload of the module: None.
    Raises `ValueError` for `entries`, which is a level: compare two readings instead.
    """
    if name == LEVEL_COLUMN:
        raise ValueError(f"{name} is the number of entries now, not a counter")
    if name not in before or name not in after:
        return None
    rise = (after[name] - before[name]) % _COUNTER_RANGE
    return rise if rise < _COUNTER_RANGE // 2 else None


def _column_names(names: list[str]) -> list[str]:
    for name in names:
        if not _NAME.fullmatch(name) or _is_hex_row_value(name):
            raise ValueError(f"stat/nf_conntrack line 1: {name!r} is not a column name")
    if len(set(names)) != len(names):
        raise ValueError("stat/nf_conntrack line 1: a column name is there twice")
    return names


def _is_hex_row_value(name: str) -> bool:
    return len(name) == 8 and _HEX.fullmatch(name) is not None  # %08x: the header line is missing


def _hex_row(number: int, line: str, width: int) -> list[int]:
    fields = line.split()
    if len(fields) != width:
        raise ValueError(f"stat/nf_conntrack line {number}: {len(fields)} fields under {width} names")
    for field in fields:
        if not _HEX.fullmatch(field):
            raise ValueError(f"stat/nf_conntrack line {number}: {field!r} is not a hexadecimal number")
    return [int(field, 16) for field in fields]


# --- /proc/net/snmp, /proc/net/netstat, one integer ------------------------------------------------------------------


def mib(text: str) -> Mapping[str, int]:
    """Read /proc/net/snmp or /proc/net/netstat; keys are `Group.Name`, for example `TcpExt.ListenOverflows`.

    Both consist of pairs of lines: `Group: Name Name`, then `Group: value value`. A counter that this kernel lacks is
    missing from the answer. Raises `ValueError` when a line has no partner or the partners do not fit.
    """
    lines = list(_numbered(text))
    if not lines:
        raise ValueError("MIB: empty")
    values: dict[str, int] = {}
    for (number, header), (_, line) in _pairs(lines):
        group, names = _group(number, header)
        value_group, fields = _group(number + 1, line)
        if value_group != group or len(fields) != len(names):
            raise ValueError(
                f"MIB line {number}: {len(names)} names of {group} over {len(fields)} values of {value_group}"
            )
        for name, field in zip(names, fields, strict=True):
            key = f"{group}.{name}"
            if key in values:
                raise ValueError(f"MIB line {number}: {key} is there twice")
            values[key] = _integer(field, f"MIB line {number + 1}: {key}")
    return MappingProxyType(values)


def integer(text: str) -> int:
    """Read a file that holds one decimal integer, such as a sysctl or a module parameter. Raises `ValueError`."""
    return _integer(text.strip(), "integer")


def _pairs(lines: list[tuple[int, str]]) -> Iterator[tuple[tuple[int, str], tuple[int, str]]]:
    if len(lines) % 2:
        raise ValueError(f"MIB line {lines[-1][0]}: a header without values, the text was cut")
    return zip(lines[::2], lines[1::2], strict=True)


def _group(number: int, line: str) -> tuple[str, list[str]]:
    group, colon, rest = line.partition(":")
    if not colon or not _NAME.fullmatch(group):
        raise ValueError(f"line {number}: {line[:60]!r} does not begin with a group and a colon")
    return group, rest.split()


# --- /proc/modules ---------------------------------------------------------------------------------------------------

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
    return tuple(_module(number, line) for number, line in _numbered(text))


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
    count = None if uses == "-" else _integer(uses, f"{where}: use count")
    return Module(
        name=name,
        size_bytes=_integer(size, f"{where}: size"),
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


# --- /proc/slabinfo --------------------------------------------------------------------------------------------------

# One cache per network namespace up to 4.9 (named after an address, later after a number), one for all since 4.10.
# `nf_conntrack_expect` is another object and has letters that no hexadecimal number has.
_ENTRY_CACHE: Final = re.compile(r"(?:nf|ip)_conntrack(?:_[0-9a-f]+)?")
_SLAB_COLUMNS: Final = ("<active_objs>", "<num_objs>", "<objsize>")


@dataclass(frozen=True)
class Slab:
    """The memory of the entries (without the hash table and without extensions, which are allocated apart)."""

    active_objects: int  # in use; SLUB counts what a CPU keeps at hand as in use, so it may be a little high
    total_objects: int
    object_bytes: int
    total_bytes: int  # of all objects, in use or not


def slab(text: str) -> Slab | None:
    """Find the entries' cache in /proc/slabinfo, added up over network namespaces.

    None when there is none: nothing is loaded, or SLUB has merged it with a cache of the same size, so that its memory
    cannot be told. Raises `ValueError` when the text is not slabinfo.
    """
    columns: list[str] | None = None
    rows: list[tuple[int, int, int]] = []
    for number, line in _numbered(text):
        if line.startswith("# name"):
            columns = line[1:].split()
            if missing := [name for name in _SLAB_COLUMNS if name not in columns]:
                raise ValueError(f"slabinfo line {number}: no column {missing[0]}")
        elif columns and _ENTRY_CACHE.fullmatch(line.split()[0]):
            rows.append(_slab_row(number, line.split(), columns))
    if columns is None:
        raise ValueError("slabinfo: no line that names the columns")
    if not rows:
        return None
    return Slab(
        active_objects=sum(active for active, _, _ in rows),
        total_objects=sum(total for _, total, _ in rows),
        object_bytes=max(size for _, _, size in rows),
        total_bytes=sum(total * size for _, total, size in rows),
    )


def _slab_row(number: int, fields: list[str], columns: list[str]) -> tuple[int, int, int]:
    where = f"slabinfo line {number}"
    places = [columns.index(name) for name in _SLAB_COLUMNS]
    if len(fields) <= max(places):
        raise ValueError(f"{where}: cut after {len(fields)} fields")
    active, total, size = (_integer(fields[place], where) for place in places)
    return active, total, size


# --- /proc/net/nf_conntrack ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flow:
    """One direction of an entry. Ports are None where the protocol has none."""

    source: str
    destination: str
    source_port: int | None = None
    destination_port: int | None = None


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    family: str | None  # "ipv4" or "ipv6"; None where the text does not say (`conntrack -L`, /proc/net/ip_conntrack)
    protocol: str
    protocol_number: int
    expires_seconds: int | None  # None for an offloaded entry, whose timer stands still
    state: str | None  # of TCP, DCCP, SCTP: "ESTABLISHED"
    original: Flow
    reply: Flow
    assured: bool  # not to be evicted early
    unreplied: bool
    offloaded: bool
    mark: int | None


_FLAGS: Final = frozenset({"[ASSURED]", "[UNREPLIED]", "[OFFLOAD]", "[HW_OFFLOAD]"})
_STATE: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_FLOW_KEYS: Final = ("src", "dst", "sport", "dport")


def entries(text: str) -> tuple[Entry, ...]:
    """Read /proc/net/nf_conntrack, or what `conntrack -L` prints. Raises `ValueError` for a row it cannot read."""
    return tuple(_entry(number, line) for number, line in _numbered(text))


def _entry(number: int, line: str) -> Entry:
    where = f"nf_conntrack line {number}"
    fields = line.split()
    family = fields[0] if fields[0] in ("ipv4", "ipv6") else None
    head = fields[2:] if family else fields  # "ipv4 2 tcp 6 ...": name and number of both layers
    if len(head) < 2:
        raise ValueError(f"{where}: cut after {len(fields)} fields")
    values, flags, words = _sorted_fields(head[2:])
    return Entry(
        family=family,
        protocol=head[0],
        protocol_number=_integer(head[1], f"{where}: protocol number"),
        expires_seconds=next((int(word) for word in words if _UNSIGNED.fullmatch(word)), None),
        state=next((word for word in words if _STATE.fullmatch(word)), None),
        original=_flow(where, values, 0),
        reply=_flow(where, values, 1),
        assured="[ASSURED]" in flags,
        unreplied="[UNREPLIED]" in flags,
        offloaded=bool(flags & {"[OFFLOAD]", "[HW_OFFLOAD]"}),
        mark=_integer(values["mark"][0], f"{where}: mark") if "mark" in values else None,
    )


def _sorted_fields(fields: list[str]) -> tuple[dict[str, list[str]], set[str], list[str]]:
    """The row's `key=value` fields, flags and bare words; a key of both directions has two values."""
    values: dict[str, list[str]] = {}
    flags: set[str] = set()
    words: list[str] = []
    for field in fields:
        key, equals, value = field.partition("=")
        if equals:
            values.setdefault(key, []).append(value)
        elif field in _FLAGS:
            flags.add(field)
        else:
            words.append(field)
    return values, flags, words


def _flow(where: str, values: Mapping[str, list[str]], direction: int) -> Flow:
    source, destination, source_port, destination_port = (
        values[key][direction] if len(values.get(key, ())) > direction else None for key in _FLOW_KEYS
    )
    if source is None or destination is None:
        raise ValueError(f"{where}: no addresses of the {('original', 'reply')[direction]} direction")
    return Flow(
        source,
        destination,
        None if source_port is None else _integer(source_port, f"{where}: sport"),
        None if destination_port is None else _integer(destination_port, f"{where}: dport"),
    )


# --- shared ----------------------------------------------------------------------------------------------------------


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, each with its number in the text."""
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _integer(text: str, where: str) -> int:
    # int() alone would take "1_000", " 7" and digits of other scripts, none of which a kernel writes
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{where}: {text[:40]!r} is not an integer")
    return int(text)
