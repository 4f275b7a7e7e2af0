"""What keeps connection tracking attached: the rules, objects and module options that hold its hooks.

From the recorded texts of one machine to a tuple of `Holder`s, in the order in which they can be removed. Since 4.14
the kernel registers the hooks of a family while something in the network namespace needs them (4d3a57f23dec
"netfilter: conntrack: do not enable connection tracking unless needed"). What needs them says so when it is created
and no longer when it is destroyed: whether packets ever reach it plays no part. So a rule in a chain that nothing
jumps to holds the hooks as well as any other, and an empty nat table does not.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from lab.core.conntrack import Module, conntrack_module, modules

LEGACY: Final = "iptables-legacy"
IPTABLES_NFT: Final = "iptables-nft"
NFT: Final = "nft"
KERNEL: Final = "kernel"

# --- what depends on conntrack: every caller of nf_ct_netns_get() in 4.19 to 6.12 -----------------------------------

# xtables matches (`-m`) and targets (`-j`), by the name in a rule; both families, both backends.
MATCHES: Final = frozenset(
    {"conntrack", "state", "connmark", "connbytes", "connlabel", "connlimit", "helper", "cluster"}
)
TARGETS: Final = frozenset(
    {"CONNMARK", "CONNSECMARK", "CT", "SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP", "CLUSTERIP", "SYNPROXY"}
)  # CT only without --notrack: xt_ct_tg_check() takes no reference then; NOTRACK is that in short

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
# modprobe nf_conntrack enable_hooks=1 brings that back (ba3fbe663635 "provide modparam to always register hooks").
ENABLE_HOOKS_SINCE: Final = (5, 1)


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


def holders(recorded: Recorded) -> tuple[Holder, ...]:
    """Everything that holds conntrack, in the order in which it can be removed.

    A rule of iptables-nft is in the nftables ruleset, too; it is named once, as what the user knows it by. The empty
    answer means that the recorded texts hold nothing: hooks that are attached nevertheless are a finding in itself.
    Raises `ValueError` for a text that is not what its program writes.
    """
    nft = _nft_tables(recorded)
    legacy = [
        *_saved_tables(recorded.iptables_legacy, LEGACY, "ip"),
        *_saved_tables(recorded.ip6tables_legacy, LEGACY, "ip6"),
    ]
    saved = [
        *_saved_tables(recorded.iptables_nft, IPTABLES_NFT, "ip"),
        *_saved_tables(recorded.ip6tables_nft, IPTABLES_NFT, "ip6"),
    ]
    tables = [*legacy, *_named_once(saved, nft)]
    found = [holder for table in tables for holder in _table_holders(table)]
    loaded = None if recorded.modules is None else modules(recorded.modules)
    by_module = [*_option_holders(recorded, loaded), *_module_holders(recorded.kernel, loaded or ())]
    chains = [holder for table in nft for holder in _nat_chain_holders(table)] if by_module else []
    return (*found, *chains, *by_module)


def held_families(found: Iterable[Holder]) -> frozenset[str]:
    """The families whose hooks these holders keep attached."""
    return frozenset(family for holder in found for family in holder.families)


# --- a ruleset, whichever program printed it ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Dependency:
    what: str
    family: str | None = None  # where it names one of its own: `dnat ip to` in a table of inet


@dataclass(frozen=True)
class _Rule:
    chain: str
    text: str
    depends_on: tuple[_Dependency, ...]
    leads_to: frozenset[str]  # chains, and "@name" for the sets and maps it looks into
    handle: int | None = None
    number: int | None = None
    spec: tuple[str, ...] = ()  # iptables: the rule's words, to delete it by
    from_xtables: bool = False


@dataclass(frozen=True)
class _Object:
    kind: str  # one of OBJECTS, or set, map
    name: str
    text: str
    depends_on: tuple[_Dependency, ...]
    handle: int | None = None
    values: str = ""  # a map's: the kind of object that its elements name


@dataclass(frozen=True)
class _Table:
    backend: str
    family: str
    name: str
    dormant: bool = False
    hooked: frozenset[str] = frozenset()  # the chains that packets enter by themselves
    rules: tuple[_Rule, ...] = ()
    objects: tuple[_Object, ...] = ()
    nat_chains: tuple[str, ...] = ()  # nftables: those of type nat
    maps: Mapping[str, frozenset[str]] = field(default_factory=dict)  # name -> the chains its verdicts lead to

    @property
    def key(self) -> tuple[str, str]:
        return self.family, self.name


@dataclass(frozen=True)
class _Line:
    """One statement of the text: lines joined where a bracket was left open."""

    number: int
    text: str
    bare: str  # without what stands in quotes, which may hold anything
    handle: int | None


def _reachable_chains(table: _Table) -> frozenset[str]:
    """The chains that a packet can come to: those with a hook, and what they lead to; none in a dormant table."""
    if table.dormant:
        return frozenset()
    leads_to: dict[str, set[str]] = {}
    for rule in table.rules:
        chains = {name for name in rule.leads_to if not name.startswith("@")}
        looked_up = (table.maps.get(name[1:], frozenset()) for name in rule.leads_to if name.startswith("@"))
        leads_to.setdefault(rule.chain, set()).update(chains, *looked_up)
    reached: set[str] = set()
    waiting = list(table.hooked)
    while waiting:
        chain = waiting.pop()
        if chain not in reached:
            reached.add(chain)
            waiting.extend(leads_to.get(chain, ()))
    return frozenset(reached)


def _table_holders(table: _Table) -> Iterator[Holder]:
    reachable = _reachable_chains(table)
    for rule in _in_order_of_removal(table.rules):
        if rule.depends_on:
            yield Holder(
                kind="rule",
                backend=IPTABLES_NFT if rule.from_xtables else table.backend,
                family=table.family,
                table=table.name,
                chain=rule.chain,
                handle=rule.handle,
                number=rule.number,
                rule=rule.text,
                depends_on=_words(rule.depends_on),
                reachable=rule.chain in reachable,
                families=_families(table.family, rule.depends_on),
                remove=_removal(table, rule),
            )
    gone: set[tuple[str, ...]] = set()
    for item in table.objects:
        if item.depends_on:
            yield Holder(
                kind="object",
                backend=table.backend,
                family=table.family,
                table=table.name,
                chain="",
                handle=item.handle,
                number=None,
                rule=item.text,
                depends_on=_words(item.depends_on),
                reachable=None,
                families=_families(table.family, item.depends_on),
                remove=_object_removal(table, item, gone),
            )


def _nat_chain_holders(table: _Table) -> Iterator[Holder]:
    """Where the modules hold the hooks: the chains that keep the module of NAT in use, and so all of them loaded.

    They hold no hook themselves, so they are of no family. Rules that are left in such a chain go with it.
    """
    for name in table.nat_chains:
        left = any(rule.chain == name and not rule.depends_on for rule in table.rules)
        flush = ("flush", "chain", table.family, table.name, name, ";") if left else ()
        yield Holder(
            kind="object",
            backend=NFT,
            family=table.family,
            table=table.name,
            chain=name,
            handle=None,
            number=None,
            rule=f"chain {name}",
            depends_on=("type nat",),
            reachable=None,
            families=(),
            remove=("nft", *flush, "delete", "chain", table.family, table.name, name),
        )


def _words(depends_on: Iterable[_Dependency]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(dependency.what for dependency in depends_on))


def _families(family: str, depends_on: Iterable[_Dependency]) -> tuple[str, ...]:
    hooked = {name for dependency in depends_on for name in HOOKED_FAMILIES.get(dependency.family or family, ())}
    return tuple(name for name in HOOKED_FAMILIES["bridge"] if name in hooked)


_PROGRAMS: Final = {
    (LEGACY, "ip"): "iptables-legacy",
    (LEGACY, "ip6"): "ip6tables-legacy",
    (IPTABLES_NFT, "ip"): "iptables-nft",
    (IPTABLES_NFT, "ip6"): "ip6tables-nft",
}


# iptables -D does not find a rule with one of these again by its words (seen with 1.8.9 and 1.8.11, both backends).
_REMOVED_BY_NUMBER: Final = frozenset({"-m connlimit"})


def _by_number(rule: _Rule) -> bool:
    return any(dependency.what in _REMOVED_BY_NUMBER for dependency in rule.depends_on)


def _removal(table: _Table, rule: _Rule) -> tuple[str, ...]:
    if rule.number is not None:  # by its words where possible: numbers shift with every rule that goes
        which = (str(rule.number),) if _by_number(rule) else rule.spec
        return (_PROGRAMS[table.backend, table.family], "-t", table.name, "-D", rule.chain, *which)
    if rule.handle is None:
        return ()
    return ("nft", "delete", "rule", table.family, table.name, rule.chain, "handle", str(rule.handle))


def _in_order_of_removal(rules: Sequence[_Rule]) -> list[_Rule]:
    """Those that go by their number first, the last of them before the others, so that the numbers stay right."""
    return sorted(rules, key=lambda rule: -(rule.number or 0) if _by_number(rule) and rule.spec else 1)


def _object_removal(table: _Table, item: _Object, gone: set[tuple[str, ...]]) -> tuple[str, ...]:
    """An object goes with what uses it, in one transaction; the rules that hold conntrack are gone by then.

    A set is used by rules, an object by the maps that name it. `gone` is what earlier commands took along: nothing can
    be deleted twice. It is added to.
    """
    rules = [rule for rule in table.rules if f"@{item.name}" in rule.leads_to and not rule.depends_on]
    if any(rule.handle is None for rule in rules):
        return ()
    maps = [one for one in table.objects if one.values == item.kind]
    users = [
        *(_removal(table, rule)[1:] for rule in rules),
        *(("delete", "map", table.family, table.name, one.name) for one in maps),
    ]
    users = [user for user in users if user not in gone]
    gone.update(users)
    delete = ("delete", *item.kind.split(), table.family, table.name, item.name)
    return ("nft", *(word for user in users for word in (*user, ";")), *delete)


def _named_once(saved: Sequence[_Table], nft: Sequence[_Table]) -> Iterator[_Table]:
    """The tables of both views, each once: as iptables-nft-save prints it, if that shows all that holds conntrack.

    It leaves out a table that nft has put expressions into which iptables does not know, and has been seen to leave
    out single rules: then the view of nft counts.
    """
    by_nft = {table.key: table for table in nft}
    complete: set[tuple[str, str]] = set()
    for table in saved:
        native = by_nft.get(table.key)
        if native is None or _dependents(native) <= _dependents(table):
            complete.add(table.key)
            yield replace(table, dormant=native is not None and native.dormant)
    yield from (table for table in nft if table.key not in complete)


def _dependents(table: _Table) -> int:
    # what a CT target does cannot be seen in the view of nft: --notrack holds nothing
    return sum(any(dependency.what != "-j CT" for dependency in rule.depends_on) for rule in table.rules)


# --- iptables-save --------------------------------------------------------------------------------------------------

_SAVED_CHAIN: Final = re.compile(r":(?P<name>\S+) (?P<policy>[A-Z]+|-)(?: \[\d+:\d+\])?")
_SAVED_RULE: Final = re.compile(r"(?:\[\d+:\d+\] )?-A (?P<chain>\S+)(?: (?P<spec>.*))?")

# The word after these is the user's own and may look like an option.
_FREE_TEXT: Final = frozenset({"--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix", "--string"})


def _saved_tables(text: str | None, backend: str, family: str) -> Iterator[_Table]:
    """The tables in what iptables-save and its kin print, for both backends and both families."""
    name: str | None = None
    hooked: set[str] = set()
    rules: list[_Rule] = []
    places: Counter[str] = Counter()
    for number, line in enumerate((text or "").split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if name is None and line.startswith("*"):
            name, hooked, rules, places = line[1:], set(), [], Counter()
        elif name is not None and line == "COMMIT":
            yield _Table(backend, family, name, hooked=frozenset(hooked), rules=tuple(rules))
            name = None
        elif name is not None and (match := _SAVED_CHAIN.fullmatch(line)):
            if match["policy"] != "-":
                hooked.add(match["name"])
        elif name is not None and (match := _SAVED_RULE.fullmatch(line)):
            places[match["chain"]] += 1
            rules.append(_saved_rule(match["chain"], match["spec"] or "", places[match["chain"]]))
        else:
            raise ValueError(f"{backend} {family} line {number}: {line[:60]!r} is not of iptables-save")
    if name is not None:
        raise ValueError(f"{backend} {family}: table {name} has no COMMIT, the text was cut")


def _saved_rule(chain: str, text: str, number: int) -> _Rule:
    spec = _shell_words(text)
    return _Rule(
        chain=chain,
        text=f"-A {chain} {text}".rstrip(),
        depends_on=tuple(_Dependency(what) for what in _xtables_dependencies(spec)),
        leads_to=frozenset(value for option, value in _options(spec) if option in ("-j", "-g")),
        number=number,
        spec=spec,
    )


def _xtables_dependencies(spec: Sequence[str]) -> Iterator[str]:
    for option, value in _options(spec):
        if option == "-m" and value in MATCHES:
            yield f"-m {value}"
        elif option == "-j" and value in TARGETS and not (value == "CT" and "--notrack" in spec):
            yield f"-j {value}"


def _options(spec: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The pairs of `-m`, `-j`, `-g` and their value."""
    previous = ""
    free = False
    for word in spec:
        if previous in ("-m", "-j", "-g") and not free:
            yield previous, word
        free = previous in _FREE_TEXT and not free  # this word was somebody's text
        previous = "" if free else word


_SHELL_WORD: Final = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>\S+)')


def _shell_words(text: str) -> tuple[str, ...]:
    """Split as iptables-restore does; its quotes escape more than a shell's (xtables_save_string())."""
    return tuple(
        match["bare"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
        for match in _SHELL_WORD.finditer(text)
    )


# --- nft list ruleset -----------------------------------------------------------------------------------------------


def _nft_tables(recorded: Recorded) -> tuple[_Table, ...]:
    """The nftables ruleset, from the JSON and the plain text together; either alone will do.

    JSON is the safer to read, but is silent about what nft had not learnt to put there: extensions of xtables and
    what a rule does with the elements of a set (both before 1.0). The text has all of it.
    """
    if recorded.nft_json is None:
        return _text_tables(recorded.nft_text or "")
    try:
        by_text = _text_tables(recorded.nft_text or "")
    except ValueError:  # a comment of iptables with a quotation mark is printed without escaping it
        by_text = ()
    return tuple(_json_tables(recorded.nft_json, {table.key: table for table in by_text}))


# JSON (libnftables-json(5)): a flat list of objects, each with its table


def _json_tables(text: str, by_text: Mapping[tuple[str, str], _Table]) -> Iterator[_Table]:
    items = _json_items(text)
    for item in items:
        if (found := item.get("table")) is None:
            continue
        family, name = _string(found, "family"), _string(found, "name")
        mine = [
            (kind, body)
            for other in items
            for kind, body in other.items()
            if isinstance(body, dict) and body.get("family") == family and body.get("table") == name
        ]
        printed = by_text.get((family, name), _Table(NFT, family, name))
        rules = {(rule.chain, rule.handle): rule for rule in printed.rules}
        objects = {(one.kind, one.name): one for one in printed.objects}
        yield _Table(
            backend=NFT,
            family=family,
            name=name,
            dormant=printed.dormant or _json_dormant(found),
            hooked=frozenset(_string(body, "name") for kind, body in mine if kind == "chain" and "hook" in body),
            rules=tuple(
                _json_rule(body, rules.get((_string(body, "chain"), _handle(body))))
                for kind, body in mine
                if kind == "rule"
            ),
            objects=tuple(
                _json_object(kind, body, objects.get((kind, _string(body, "name"))))
                for kind, body in mine
                if kind in (*OBJECTS, "set", "map")
            ),
            nat_chains=tuple(
                _string(body, "name") for kind, body in mine if kind == "chain" and body.get("type") == "nat"
            ),
            maps={_string(body, "name"): frozenset(_json_jumps(body)) for kind, body in mine if kind == "map"},
        )


def _json_dormant(table: Mapping[str, Any]) -> bool:
    flags = table.get("flags")  # a string in some versions, a list in others
    return "dormant" in (flags if isinstance(flags, list) else [flags])


def _json_items(text: str) -> list[dict[str, Any]]:
    # nft writes warnings before it: "# Warning: table ip nat is managed by iptables-nft", "warning: stmt ops chain ..."
    start = re.search(r"^\{", text, re.MULTILINE)
    try:
        items = json.loads(text[start.start() :] if start else text)["nftables"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"nft JSON: not a ruleset: {error}") from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError("nft JSON: not a list of objects")
    return items


def _string(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise ValueError(f"nft JSON: {key} is {value!r}, not a name")
    return value


def _xtables_dependency(kind: object, name: object) -> Iterator[_Dependency]:
    """The same for an extension of xtables inside of a rule of nftables, whose arguments nft does not show."""
    if isinstance(name, str) and kind == "match" and name in MATCHES:
        yield _Dependency(f"-m {name}")
    elif isinstance(name, str) and kind == "target" and name in TARGETS:
        yield _Dependency(f"-j {name}")


def _handle(body: Mapping[str, Any]) -> int | None:
    value = body.get("handle")
    return value if isinstance(value, int) else None


def _json_rule(body: Mapping[str, Any], printed: _Rule | None) -> _Rule:
    """A rule; `printed` is the same one in the plain text, where that was recorded."""
    expressions = body.get("expr", [])
    extensions = [value for key, value in _json_walk(expressions) if key == "xt"]
    depends_on = [*_json_dependencies(expressions)]
    leads_to = {*_json_jumps(expressions)}
    for line in _json_text(expressions):
        depends_on += _text_dependencies(line)
        leads_to |= {*_text_jumps(line)}
    if printed is not None:
        if not any(extensions):  # the text has other words for an extension that JSON names
            known = {found.what for found in depends_on}
            depends_on += [found for found in printed.depends_on if found.what not in known]
        if _TEXT_NOTRACK.search(printed.text):  # JSON names CT, but not what it is to do
            depends_on = [found for found in depends_on if found.what != "-j CT"]
        leads_to |= printed.leads_to
    return _Rule(
        chain=_string(body, "chain"),
        text=_compact(expressions) if printed is None else printed.text,
        depends_on=tuple(depends_on),
        leads_to=frozenset(leads_to),
        handle=_handle(body),
        from_xtables=bool(extensions),
    )


def _compact(expressions: object) -> str:
    try:
        return json.dumps(expressions, separators=(",", ":"))
    except RecursionError as error:
        raise ValueError("nft JSON: a rule nested too deep") from error


def _json_text(expressions: object) -> Iterator[_Line]:
    """What nft has no JSON for it puts there as a string of plain text, for example `jump { ... }`."""
    for item in expressions if isinstance(expressions, list) else ():
        if isinstance(item, str):
            yield _Line(0, item, _QUOTED.sub('""', item), None)


def _json_object(kind: str, body: Mapping[str, Any], printed: _Object | None) -> _Object:
    name = _string(body, "name")
    depends_on: tuple[_Dependency, ...] = (_Dependency(f"{kind} object"),)
    values = ""
    if kind not in OBJECTS:  # a set holds conntrack when its elements count connections
        depends_on = tuple(_json_dependencies([body.get("stmt"), body.get("elem")]))
        depends_on = depends_on or (() if printed is None else printed.depends_on)
        values = str(body.get("map", ""))
    return _Object(kind, name, f"{kind} {name}", depends_on, _handle(body), values)


def _json_walk(value: object) -> Iterator[tuple[str, object]]:
    """Every key and its value, at any depth, in the order of the text."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            yield from current.items()
            waiting.extend(reversed(list(current.values())))
        elif isinstance(current, list):
            waiting.extend(reversed(current))


def _json_dependencies(expressions: object) -> Iterator[_Dependency]:
    for key, value in _json_walk(expressions):
        body = value if isinstance(value, dict) else {}
        if key == "ct":
            yield _Dependency(f"ct {body.get('key', '')}".strip())
        elif key == "xt":
            yield from _xtables_dependency(body.get("type"), body.get("name"))
        elif key in STATEMENTS:
            family = body.get("family") if key in ("snat", "dnat") else None
            yield _Dependency(STATEMENTS[key], family if family in ("ip", "ip6") else None)


def _json_jumps(value: object) -> Iterator[str]:
    """The chains that a verdict in here leads to, and the sets and maps that are looked into, as "@name"."""
    for key, inner in _json_walk(value):
        if key in ("jump", "goto") and isinstance(inner, dict) and isinstance(inner.get("target"), str):
            yield inner["target"]
        elif isinstance(inner, str) and inner.startswith("@"):
            yield inner


# Plain text: blocks by their brackets, at most three deep

_TEXT_TABLE: Final = re.compile(r"table (?P<family>[a-z0-9]+) (?P<name>\S+) \{")
_TEXT_BLOCK: Final = re.compile(r"(?P<kind>ct [a-z]+|[a-z]+) (?P<name>\S+) \{")
_TEXT_OPENINGS: Final = (_TEXT_TABLE, _TEXT_BLOCK)  # by level; deeper, brackets belong to a statement
_TEXT_VALUES: Final = re.compile(r"type(?:of)? .* : (?P<values>.+)")  # of a map
_TEXT_HANDLE: Final = re.compile(r"\s*# handle (?P<handle>\d+)$")
_QUOTED: Final = re.compile(r'"[^"]*"')
_TEXT_HOOK: Final = re.compile(r"type \w+ hook ")
_TEXT_JUMP: Final = re.compile(r"\b(?:jump|goto) (?P<chain>[^\s,;{}]+)")
_TEXT_SET: Final = re.compile(r"(?<=\s)@[^\s,;{}]+")
_NOT_A_NAME: Final = r"(?<![-@\w.])(?<!jump )(?<!goto )"
_TEXT_CT: Final = re.compile(rf"{_NOT_A_NAME}ct (?:(?:original|reply) )?(?P<key>(?:ip6? )?[a-z][a-z0-9-]*)")
_TEXT_STATEMENT: Final = re.compile(
    rf"{_NOT_A_NAME}(?<!type )(?<!type != )(?<!# TPROXY )"  # `icmp type redirect` is a value
    r"(?P<what>masquerade|redirect|snat|dnat|synproxy|flow(?= (?:add|offload) ))(?![-\w])(?: (?P<family>ip6?)(?= ))?"
)
_TEXT_NOTRACK: Final = re.compile(r"\bnotrack$")
_TEXT_XTABLES: Final = re.compile(r'\bxt (?P<type>match|target) "(?P<name>\w+)"')


def _text_tables(text: str) -> tuple[_Table, ...]:
    found: list[_Table] = []
    table: _Table | None = None
    block: tuple[str, str, int | None] | None = None  # kind, name, handle
    body: list[_Line] = []
    for line in _text_lines(text):
        if block is not None and line.bare == "}" and table is not None:
            table, block = _with_block(table, block, body), None
        elif block is not None:
            body.append(line)
        elif table is not None and line.bare == "}":
            found.append(table)
            table = None
        elif table is None and (match := _TEXT_TABLE.fullmatch(line.bare)):
            table = _Table(NFT, match["family"], match["name"])
        elif table is not None and (match := _TEXT_BLOCK.fullmatch(line.bare)):
            block, body = (match["kind"], match["name"], line.handle), []
        elif table is not None and re.match(r"(?:flags|comment) ", line.bare):
            table = replace(table, dormant=table.dormant or re.match(r"flags .*\bdormant\b", line.bare) is not None)
        else:
            raise ValueError(f"nft line {line.number}: {line.text[:60]!r} is not part of a ruleset")
    if table is not None:
        raise ValueError(f"nft: table {table.family} {table.name} does not end, the text was cut")
    return tuple(found)


def _text_lines(text: str) -> Iterator[_Line]:
    """The text's statements; a line that opens a table, or a block inside of one, is one by itself."""
    parts: list[str] = []
    first = depth = level = 0
    handle: int | None = None
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or (line.startswith("#") and not parts):  # blank, or a warning about iptables-nft
            continue
        # the same length without quotes, so that a place in it is a place in the line
        if match := _TEXT_HANDLE.search(_QUOTED.sub(lambda quoted: "q" * len(quoted[0]), line)):
            handle = int(match["handle"])
            line = line[: match.start()]
        first = first if parts else number
        bare = _QUOTED.sub('""', line)
        parts.append(line)
        depth += bare.count("{") - bare.count("}")
        opens = depth == 1 and len(parts) == 1 and level < len(_TEXT_OPENINGS) and _TEXT_OPENINGS[level].fullmatch(bare)
        if depth <= 0 or opens:
            joined = " ".join(parts)
            yield _Line(first, joined, _QUOTED.sub('""', joined), handle)
            parts, level, depth, handle = [], level + depth, 0, None
    if parts:
        raise ValueError(f"nft line {first}: a bracket is not closed, the text was cut")


def _with_block(table: _Table, block: tuple[str, str, int | None], body: Sequence[_Line]) -> _Table:
    kind, name, handle = block
    if kind == "chain":
        hooked = any(_TEXT_HOOK.match(line.bare) for line in body)
        rules = tuple(_text_rule(name, line) for line in body if _is_rule(line))
        nat = any(line.bare.startswith("type nat hook ") for line in body)
        return replace(
            table,
            hooked=table.hooked | ({name} if hooked else set()),
            rules=(*table.rules, *rules),
            nat_chains=(*table.nat_chains, *((name,) if nat else ())),
        )
    if kind in OBJECTS:
        item = _Object(kind, name, f"{kind} {name}", (_Dependency(f"{kind} object"),), handle)
        return replace(table, objects=(*table.objects, item))
    if kind in ("set", "map"):
        depends_on = tuple(found for line in body if not line.bare.startswith("type") for found in _text_cts(line))
        values = next((found["values"] for line in body if (found := _TEXT_VALUES.fullmatch(line.bare))), "")
        item = _Object(kind, name, f"{kind} {name}", depends_on, handle, values)
        jumps = frozenset(name for line in body for name in _text_jumps(line))
        return replace(table, objects=(*table.objects, item), maps={**table.maps, name: jumps})
    return table  # counter, quota, limit, secmark, flowtable


def _is_rule(line: _Line) -> bool:
    return not _TEXT_HOOK.match(line.bare) and not re.match(r'(?:comment ""$|policy )', line.bare)


def _text_rule(chain: str, line: _Line) -> _Rule:
    depends_on = _text_dependencies(line)
    return _Rule(
        chain=chain,
        text=line.text,
        depends_on=depends_on,
        leads_to=frozenset(_text_jumps(line)),
        handle=line.handle,
        from_xtables=any(dependency.what.startswith("-") for dependency in depends_on),
    )


def _text_jumps(line: _Line) -> Iterator[str]:
    yield from (match["chain"] for match in _TEXT_JUMP.finditer(line.bare))
    yield from _TEXT_SET.findall(line.bare)


def _text_dependencies(line: _Line) -> tuple[_Dependency, ...]:
    xtables = (
        found
        for match in _TEXT_XTABLES.finditer(line.text)
        for found in _xtables_dependency(match["type"], match["name"])
    )
    return (*_text_cts(line), *_text_statements(line), *xtables)


def _text_cts(line: _Line) -> Iterator[_Dependency]:
    return (_Dependency(f"ct {match['key']}") for match in _TEXT_CT.finditer(line.bare))


def _text_statements(line: _Line) -> Iterator[_Dependency]:
    bare = _outside_braces(line.bare)  # values in sets share words with statements
    bare = _TEXT_CT.sub("", re.sub(r"\bct status (?:!= )?\S+", "", bare))
    return (_Dependency(match["what"], match["family"]) for match in _TEXT_STATEMENT.finditer(bare))


def _outside_braces(text: str) -> str:
    kept: list[str] = []
    depth = 0
    for part in re.split(r"([{}])", text):
        if part in ("{", "}"):
            depth += 1 if part == "{" else -1
        elif depth == 0:
            kept.append(part)
    return "".join(kept)


# --- the module itself ----------------------------------------------------------------------------------------------

_TRUE: Final = frozenset({"", "1", "y", "Y", "on", "true"})  # kstrtobool(); a bool parameter without value is true


def _option_holders(recorded: Recorded, loaded: tuple[Module, ...] | None) -> Iterator[Holder]:
    """The option that attaches the hooks whenever the module is loaded. It cannot be read back (mode 0000), so this
    is what the configuration says; it counts when the module is there."""
    present = loaded is None or any(module.name == "nf_conntrack" for module in loaded)
    if recorded.kernel < ENABLE_HOOKS_SINCE or not present:
        return
    # the order of libkmod: the command line first, then the files; the kernel lets the last one win
    settings = [*_command_line_settings(recorded.kernel_command_line), *_modprobe_settings(recorded.modprobe_conf)]
    if settings and settings[-1][1] in _TRUE:
        yield Holder(
            kind="option",
            backend=KERNEL,
            family="",
            table="",
            chain="",
            handle=None,
            number=None,
            rule=settings[-1][0],
            depends_on=("enable_hooks",),
            reachable=None,
            families=HOOKED_FAMILIES["inet"],
            remove=_unload(loaded or ()),
        )


def _modprobe_settings(text: str | None) -> Iterator[tuple[str, str]]:
    """`options nf_conntrack enable_hooks=1` of modprobe.d: the line and the value."""
    for line in re.sub(r"\\\n", " ", text or "").split("\n"):
        words = line.split()
        if len(words) > 2 and words[0] == "options" and words[1].replace("-", "_") == "nf_conntrack":
            yield from _settings(line.strip(), words[2:], "enable_hooks")


def _command_line_settings(text: str | None) -> Iterator[tuple[str, str]]:
    for word in (text or "").split():
        yield from _settings(word, [word.replace("-", "_")], "nf_conntrack.enable_hooks")


def _settings(shown: str, words: Iterable[str], name: str) -> Iterator[tuple[str, str]]:
    for word in words:
        key, _, value = word.strip('"').partition("=")
        if key == name:
            yield shown, value.strip('"')


def _module_holders(kernel: tuple[int, ...], loaded: tuple[Module, ...]) -> Iterator[Holder]:
    """Before 4.14: whatever loaded the l3 module, it holds the hooks until it is unloaded."""
    if kernel >= ON_DEMAND_SINCE:
        return
    for module in loaded:
        if module.name in ALWAYS_ON_MODULES:
            yield Holder(
                kind="module",
                backend=KERNEL,
                family="",
                table="",
                chain="",
                handle=None,
                number=None,
                rule=module.name,
                depends_on=(module.name,),
                reachable=None,
                families=ALWAYS_ON_MODULES[module.name],
                remove=_unload(loaded),
            )


# What to unload first among modules that do not name each other. The l3 modules are held by NAT and by the matches
# through a count alone, which /proc/modules does not explain, so the roles have to.
_UNLOAD_ORDER: Final = (
    "helper", "user", "netlink", "match", "target", "nft", "nat", "protocol", "l3", "core", "defrag",
)  # fmt: skip


def _unload(loaded: Sequence[Module]) -> tuple[str, ...]:
    """The `modprobe -r` that removes all of connection tracking: every module after the modules that use it."""
    by_name = {module.name: module for module in loaded}
    wanted = {name for name in by_name if conntrack_module(name) is not None}
    waiting = list(wanted)
    while waiting:  # and whatever else uses one of those
        users = set(by_name[waiting.pop()].users) & by_name.keys() - wanted
        wanted |= users
        waiting.extend(users)
    if any(_stays(by_name[name]) for name in wanted):
        return ()
    order: list[str] = []
    while remaining := [name for name in by_name if name in wanted and name not in order]:
        free = [name for name in remaining if not set(by_name[name].users) & set(remaining)]
        if not free:  # modules that use each other in a ring cannot be unloaded
            return ()
        order.append(min(free, key=_unload_rank))
    return ("modprobe", "-r", *order) if order else ()


def _stays(module: Module) -> bool:
    """Whether nothing can unload it: it has no exit function, or the kernel unloads none."""
    return module.permanent or (module.use_count is None and module.state != "Unloading")


def _unload_rank(name: str) -> int:
    fact = conntrack_module(name)
    return -1 if fact is None else _UNLOAD_ORDER.index(fact.role)
