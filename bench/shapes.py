"""Texts that are long in one way, for every parser of what a guest recorded. Each is made to about a given size."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.texts import both, named, repeated, rule, ruleset
from lab.core import evidence, facts
from lab.core.facts import Facts
from lab.core.holders.find import holders
from lab.core.holders.groups import groups
from lab.core.holders.model import Recorded
from lab.core.judging import proofs
from lab.core.judging.finding import Finding
from lab.core.kernel import conntrack, hooks, kmsg
from lab.core.mitigation.removal import steps

KERNEL = (6, 1, 0)
Parser = Callable[[str], object]


@dataclass(frozen=True)
class Shape:
    """A text of about so many bytes, and what reads it. A ValueError is an answer, too."""

    make: Callable[[int], str]
    parse: Parser

    def read(self, text: str) -> None:
        """Parse the text."""
        try:
            self.parse(text)
        except ValueError:
            pass


def recorded(**texts: str) -> Recorded:
    return Recorded(KERNEL, **texts)


def nft_text(text: str) -> object:
    return holders(recorded(nft_text=text))


def nft_json(text: str) -> object:
    return holders(recorded(nft_json=text))


def saved(text: str) -> object:
    found = holders(recorded(iptables_nft=text))
    return groups(found), tuple(steps(found, ()))


def modules(text: str) -> object:
    conf = "options nf_conntrack enable_hooks=1\n"
    return holders(recorded(modules=text, modprobe_conf=conf)), holders(Recorded((3, 10), modules=text))


def proven(name: str) -> Parser:
    texts = {"modules": ""}

    def prove(text: str) -> object:
        after = evidence.Snapshot({**texts, name: text})
        return proofs.prove(evidence.Evidence(after=after, facts=Facts("t", "6.1.0")), Finding("untracked", ""))

    return prove


def table_full(text: str) -> object:
    return kmsg.table_full(kmsg.records(text))


CHAIN = ("table ip x {\n chain y {\n type filter hook input priority 0; policy drop;\n ", "\n }\n}\n")
TABLE = ("table ip x {\n", "}\n")
NAT = ("*nat\n:P DROP [0:0]\n", "COMMIT\n")
STATE = "-m conntrack --ctstate NEW -j ACCEPT\n"

NFT_TEXT = {
    "blanks": repeated(" ", CHAIN[0] + "a", "b" + CHAIN[1]),
    "helpers": repeated(" ct helper h{i} {\n }\n", *TABLE),
    "maps": repeated(" map m{i} {\n }\n", *TABLE),
    "chains": repeated(" chain m{i} {\n ct state new\n }\n", *TABLE),
    "nat-chains": repeated(" chain m{i} {\n type nat hook input priority 0; policy accept;\n accept\n }\n", *TABLE),
    "tables": repeated("table ip x{i} {\n chain y {\n ct state new\n }\n}\n"),
    "rules": repeated(" ct state established accept # handle {i}\n", *CHAIN),
    "jumps": repeated(" ct state new jump c{i}\n", *CHAIN),
    "map-and-rules": both(
        " map m {\n elements = { 1 : jump c{i} }\n }\n", " chain c{i} {\n ct state new @m\n }\n", *TABLE
    ),
    "open-lines": repeated("\n b,", CHAIN[0] + "a {", "}" + CHAIN[1]),
    "quotes": repeated('"', *CHAIN),
    "open-quotes": repeated('" ', CHAIN[0], '"' + CHAIN[1]),
    "quoted-lines": repeated('"a\nb" ', *CHAIN),
    "ct-words": repeated("ct ip ", *CHAIN),
    "status-words": repeated("ct status != ", *CHAIN),
    "dashes": repeated("a-", CHAIN[0] + "ct ", CHAIN[1]),
    "jump-words": repeated("jump ", *CHAIN),
    "handle-words": repeated("# handle 1", *CHAIN),
    "xt-words": repeated("# xt_conntrack ", *CHAIN),
    "sets-in-a-rule": repeated("@s{i} ", *CHAIN),
    "braces": repeated("{ b } ", CHAIN[0] + "a ", CHAIN[1]),
    "open-braces": repeated("{", CHAIN[0]),
    "types": repeated(": ", "table ip x {\n map y {\n type ", "\n }\n}\n"),
    "flags": repeated("dormant,", "table ip x {\n flags ", "\n}\n"),
    "owner": repeated("x ", "table ip x { # progname ", "\n}\n"),
    "comments": repeated('# "x\n'),
}
NFT_JSON = {
    "tables": lambda size: json.dumps(
        {"nftables": [{"table": {"family": "ip", "name": str(i)}} for i in range(size // 50)]}
    ),
    "same-tables": ruleset(lambda i: {"table": {"family": "ip", "name": "t"}}, rule({"counter": None})),
    "objects-and-rules": ruleset(named("ct helper"), rule({"lookup": "@n1"})),
    "sets-and-rules": ruleset(named("set", stmt=[{"ct count": 1}]), rule({"lookup": "@n1"})),
    "objects-and-maps": ruleset(named("ct helper"), named("map", map="ct helper")),
    "jumps": ruleset(named("chain"), rule({"jump": {"target": "n1"}})),
    "state": ruleset(rule({"ct": {"key": "state"}})),
    "deep": lambda size: '{"nftables":[' + "[" * (size // 2) + "]" * (size // 2) + "]}",
    "warnings": repeated("# w\n"),
    "numbers": repeated("1", '{"nftables":[', "]}"),
}
SAVED = {
    "rules": repeated(f"-A P {STATE}", *NAT),
    "drops": repeated(f"-A P {STATE}-A P -j DROP\n", *NAT),
    "chains": repeated(f"-A P -j C{{i}}\n-A C{{i}} {STATE}", *NAT),
    "tables": repeated(f"*t{{i}}\n-A P {STATE}COMMIT\n"),
    "connlimit": repeated("-A P -m connlimit --connlimit-above 5 -j REJECT\n", *NAT),
    "options": repeated("-m state ", NAT[0] + "-A P ", "\n" + NAT[1]),
    "quoted": repeated('"\\" " ', NAT[0] + "-A P ", "\n" + NAT[1]),
    "quoted-lines": repeated('"a\nb" ', NAT[0] + "-A P ", "\n" + NAT[1]),
    "open-quote": repeated("\\a", NAT[0] + '-A P "', "\n" + NAT[1]),
    "inner-quotes": repeated('x"', NAT[0] + "-A P ", "\n" + NAT[1]),
    "brackets": repeated("[", NAT[0], "\n" + NAT[1]),
    "blanks": repeated(" ", NAT[0] + "-A P", "x\n" + NAT[1]),
    "notrack": repeated("-j CT --helper --notrack ", NAT[0] + "-A P ", "\n" + NAT[1]),
}
HOOKS = ("family ip {\n hook input {\n ", "\n }\n}\n")
KMSG = "6,1,1,-;"
FULL = "nf_conntrack: table full, dropping packet"

PARSERS: Mapping[str, tuple[Parser, Mapping[str, Callable[[int], str]]]] = {
    "nft-text": (nft_text, NFT_TEXT),
    "nft-json": (nft_json, NFT_JSON),
    "saved": (saved, SAVED),
    "modules": (
        modules,
        {
            "many": repeated("m{i} 1 0 - Live 0x0\n"),
            "chain": repeated("nf_conntrack_{i} 1 0 nf_conntrack, Live 0x0\n", "nf_conntrack 1 0 - Live 0x0\n"),
            "users": repeated("u{i},", "nf_conntrack 1 0 ", " Live 0x0\n"),
            "all-users": both("u{i},", "\nu{i} 1 0 - Live 0x0", "nf_conntrack 1 0 u,", ""),
        },
    ),
    "ip-vs": (
        lambda text: holders(recorded(ip_vs=text)),
        {
            "services": repeated("TCP C0000201:0015 rr\n -> C0000202:0015 Masq 1 0 0\n"),
            "destinations": repeated(" -> C0000202:0015 Masq 1 0 0\n", "TCP C0000201:0015 rr\n"),
            "blanks": repeated(" ", "TCP", "x\n"),
        },
    ),
    "tc": (
        lambda text: holders(recorded(tc_filters=text)),
        {
            "filters": repeated(
                "filter protocol ip pref 1 flower chain 0 handle 0x1\n\taction order 1: ct commit\n", "dev lo egress\n"
            ),
            "conditions": repeated("  eth_type ipv4\n", "dev lo egress\nfilter protocol ip pref 1 flower\n"),
            "devices": repeated("dev lo{i} egress\n"),
        },
    ),
    "ovs": (
        lambda text: holders(recorded(ovs_flows=text)),
        {
            "flows": repeated("recirc_id(0),eth_type(0x0800), packets:5, used:1s, actions:ct(commit),3\n"),
            "counters": repeated(", packets:1"),
            "actions": repeated("ct,", "a, actions:"),
        },
    ),
    "modprobe-conf": (
        lambda text: holders(recorded(modprobe_conf=text, modules="nf_conntrack 1 0 - Live 0x0\n")),
        {
            "continued": repeated("\\\n"),
            "blanks": repeated(" ", "options nf_conntrack", "x\n"),
            "options": repeated("options nf_conntrack enable_hooks=1\n"),
        },
    ),
    "hooks": (
        lambda text: hooks.tracked_families(hooks.hooks(text)),
        {
            "entries": repeated("0 nf_confirm [nf_conntrack]\n", *HOOKS),
            "functions": repeated("nf_nat_", HOOKS[0] + "0 ", HOOKS[1]),
            "blanks": repeated(" ", HOOKS[0] + "0 a", "[x]" + HOOKS[1]),
            "brackets": repeated("[", HOOKS[0] + "0 a", HOOKS[1]),
            "families": repeated("family ip {\n hook input {\n }\n}\n"),
        },
    ),
    "kmsg": (
        table_full,
        {
            "records": lambda size: "".join(f"6,{i},1,-;{FULL}\n" for i in range(size // 60)),
            "blanks": repeated(" ", KMSG + FULL, "x\n"),
            "messages": repeated(f"{FULL} ", KMSG, "x\n"),
            "fields": repeated(" A=b\n", f"{KMSG}a\n"),
            "escapes": repeated("\\x41", KMSG, "\\x\n"),
            "header": repeated(",a", "6,1,1", "\n6,2,2;x\n"),
            "suppressed": repeated("net_ratelimit: 1 ", KMSG, "\n"),
        },
    ),
    "console": (
        kmsg.console_troubles,
        {
            "brackets": repeated("[", "", "  \n"),
            "stamps": repeated("[ 1", "", "\n"),
            "rcu": repeated(" rcu_x", "[ 1.000000]", "\n"),
            "tasks": repeated("INFO: task ", "[ 1.000000] ", "\n"),
            "blanks": repeated(" ", "[ 1.000000] ", "x\n"),
            "codes": repeated("\x1b[", "", "\n"),
            "lines": repeated("[ 1.000000] a\n"),
        },
    ),
    "stat": (
        conntrack.stat_totals,
        {
            "columns": lambda size: " ".join(f"a{i}" for i in range(size // 10)) + "\n" + "0 " * (size // 10) + "\n",
            "rows": repeated("00000000 00000001\n", "entries drop\n"),
        },
    ),
    "mib": (
        conntrack.mib,
        {
            "names": lambda size: "A: " + " ".join(f"a{i}" for i in range(size // 10)) + "\nA: " + "1 " * (size // 10),
            "groups": repeated("A: a{i}\nA: 1\n"),
        },
    ),
    "slabinfo": (
        conntrack.slab,
        {
            "rows": repeated("nf_conntrack_{i} 1 1 1\n", "# name <active_objs> <num_objs> <objsize>\n"),
            "columns": repeated("a{i} ", "# name ", "<active_objs> <num_objs> <objsize>\n"),
        },
    ),
    "entries": (
        conntrack.entries,
        {
            "rows": repeated("ipv4 2 tcp 6 1 ESTABLISHED src=1 dst=1 sport=1 dport=1 src=1 dst=1 sport=1 dport=1\n"),
            "fields": repeated("a{i}=1 ", "ipv4 2 tcp 6 1 "),
        },
    ),
    "facts": (
        lambda text: facts.parse_facts("t", {"versions": {"nft": text}, "kernel_config": text, "kernel_release": text}),
        {
            "digits": repeated("1"),
            "dots": repeated("1."),
            "versions": repeated("v1 "),
            "options": repeated("CONFIG_A{i}=m\n"),
        },
    ),
    "release": (
        lambda text: Facts("t", kernel_release=text).release,
        {"digits": repeated("1"), "dots": repeated("1.")},
    ),
    "notrack": (
        proven("ruleset.nft"),
        {"words": repeated("notrack "), "targets": repeated("-j CT "), "lines": repeated("notrack x\n")},
    ),
    "bridge": (
        proven("bridge"),
        {"ports": repeated("/sys/class/net/lab-{i}/brport\n"), "name": repeated("a", "/sys/class/net/lab-")},
    ),
}
SHAPES: Mapping[str, Shape] = {
    f"{parser}:{shape}": Shape(make, parse)
    for parser, (parse, shapes) in PARSERS.items()
    for shape, make in shapes.items()
}
