"""Texts that people paste: what each is, seen from its own words, and as an item of a record.

An item has the name and the form that the recorder gives it: `lsmod` becomes /proc/modules, `sysctl -a` lines of
`path: value`, `conntrack -S` the file that it shows. What is not known to be anything is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from lab.core.holders.iptables_listing import is_listing
from lab.core.kernel import kmsg

_SAVED: Final = re.compile(r"^\*(?:nat|filter|mangle|raw|security|broute)\s*$", re.MULTILINE)
_NFT: Final = re.compile(
    r"^\s*(?:#!.*\bnft\b|table (?:ip6?|inet|arp|bridge|netdev) \S+ *\{"
    r"|(?:flush|add|create|delete) (?:ruleset|table|rule|chain)\b)",
    re.MULTILINE,
)
_NFT_JSON: Final = re.compile(r'^\{ *"nftables" *:', re.MULTILINE)
_HOOKS: Final = re.compile(r"^family [a-z0-9]+ \{\n\s+hook ", re.MULTILINE)
_LSMOD: Final = re.compile(r"^Module +Size +Used by", re.MULTILINE)
_LSMOD_ROW: Final = re.compile(r"(?P<name>\w+) +(?P<size>\d+) +(?P<count>-?\d+)(?: +(?P<users>\S+))?")
_MODULES: Final = re.compile(r"^\w+ \d+ (?:\d+|-) \S+ (?:Live|Loading|Unloading) 0x[0-9a-f]+", re.MULTILINE)
_SYSCTL: Final = re.compile(r"^(?P<name>net[./][\w./-]+) *= *(?P<value>\S.*)$", re.MULTILINE)
_STAT: Final = re.compile(r"^entries +(?:searched|clashres) +found ", re.MULTILINE)
_CONNTRACK_S: Final = re.compile(r"^cpu=\d+\s+(?:\w+=\d+\s*)+$", re.MULTILINE)
_ROWS: Final = re.compile(r"^(?:ipv[46] +\d+ +)?[a-z0-9-]+ +\d+ (?:\d+ )?.*\bsrc=\S+ dst=\S+", re.MULTILINE)
_LOG: Final = re.compile(
    r"^(?:\[ *\d+\.\d+\]|<\d+>|\w{3} +\d+ [\d:]+ \S+ kernel:|\d{4}-\d\d-\d\dT\S+ \S+ kernel:|\d+,\d+,\d+,)",
    re.MULTILINE,
)
_UNAME: Final = re.compile(r"^Linux \S+ (?P<release>\d+\.\d+\S*) .*$", re.MULTILINE)
_IPV6: Final = re.compile(
    r"(?:^|[\s,])(?:::/0|::1|[0-9a-f]{1,4}:[0-9a-f:]+)(?:/\d+)?(?=[\s,]|$)|icmp6-|ipv6-icmp", re.MULTILINE
)
_BY_NFT: Final = re.compile(r"iptables-nft|ip6tables-nft|nf_tables|xtables-nft")
_LEGACY_WARNING: Final = re.compile(r"# Warning: iptables-legacy tables present")


class Item(NamedTuple):
    """A text as an item of a record."""

    name: str
    text: str


def items_of(text: str, hint: str = "") -> tuple[Item, ...]:
    """The items in one text; () where it is nothing that is known. `hint` is what its file or its command is called."""
    for _, applies, made in _FORMS:
        if applies(text):
            found = made(text, hint)
            return found if isinstance(found, tuple) and not isinstance(found, Item) else (found,)
    return ()


def _xtables(text: str, hint: str) -> Item:
    """Rules of iptables: which family and backend, is said by the command or the text; `iptables-save` where neither
    says the backend.
    """
    said = f"{hint}\n{text[:2000]}"
    v6 = "ip6tables" in hint or "ip6tables" in text[:200] or ("iptables" not in hint and _IPV6.search(text) is not None)
    nft = _BY_NFT.search(said) is not None or _LEGACY_WARNING.search(text) is not None
    backend = "-nft" if nft else "-legacy" if "legacy" in said.replace("iptables-legacy tables present", "") else ""
    return Item(f"{'ip6tables' if v6 else 'iptables'}{backend}-save", text)


def modules_of_lsmod(text: str) -> str:
    """/proc/modules, as far as lsmod shows it. Lines that are no row are left out."""
    rows = (_LSMOD_ROW.fullmatch(line.strip()) for line in text.splitlines())
    return "".join(
        f"{row['name']} {row['size']} {max(0, int(row['count']))} {_users(row['users'])} Live 0x0\n"
        for row in rows
        if row
    )


def _users(users: str | None) -> str:
    return "-" if not users or users == "-" else f"{users.rstrip(',')},"


def sysctl_lines(text: str) -> str:
    """`path: value` for each line of `sysctl -a` that is about conntrack or bridges."""
    lines = []
    for found in _SYSCTL.finditer(text):
        path = found["name"].replace(".", "/")
        if "nf_conntrack" in path or "bridge-nf" in path:
            lines.append(f"/proc/sys/{path}: {found['value'].strip()}\n")
    return "".join(lines)


def stat_of_conntrack(text: str) -> str:
    """/proc/net/stat/nf_conntrack from `conntrack -S`: the same counters in hexadecimal, a line for each CPU."""
    rows = [
        dict(word.split("=", 1) for word in line.split()[1:]) for line in text.splitlines() if line.startswith("cpu=")
    ]
    names = list(rows[0])
    numbers = [" ".join(f"{int(row.get(name, '0')):08x}" for name in names) for row in rows]
    return "\n".join((" ".join(names), *numbers)) + "\n"


def log_lines(text: str) -> str:
    """The lines of a log that are about conntrack."""
    lines = (line for line in text.splitlines() if kmsg.is_table_full(line) or kmsg.suppressed_count(line) is not None)
    return "".join(f"{line}\n" for line in lines)


Maker = Callable[[str, str], Item | tuple[Item, ...]]


def _sysctls(text: str, hint: str) -> tuple[Item, ...]:
    lines = sysctl_lines(text)
    parts = {"bridge": "/net/bridge/", "sysctl": "/net/"}
    taken: dict[str, list[str]] = {name: [] for name in parts}
    for line in lines.splitlines(keepends=True):
        taken[next(name for name, part in parts.items() if part in line)].append(line)
    return tuple(Item(name, "".join(found)) for name, found in taken.items() if found)


def _uname(text: str, hint: str) -> Item:
    found = _UNAME.search(text)
    return Item("uname", f"{found['release'] if found else ''}\n")


# what it is, how it is known, what it becomes; the first that applies
_FORMS: Final[tuple[tuple[str, Callable[[str], bool], Maker], ...]] = (
    ("iptables-save", lambda text: _SAVED.search(text) is not None and "COMMIT" in text, _xtables),
    (
        "nft -j list ruleset",
        lambda text: _NFT_JSON.search(text) is not None,
        lambda text, _: Item("ruleset.json", text),
    ),
    ("nft list hooks", lambda text: _HOOKS.search(text) is not None, lambda text, _: Item("hooks.nft", text)),
    ("iptables -S or -L", is_listing, _xtables),
    (
        "nft list ruleset, or a file",
        lambda text: _NFT.search(text) is not None,
        lambda text, _: Item("ruleset.nft", text),
    ),
    ("lsmod", lambda text: _LSMOD.search(text) is not None, lambda text, _: Item("modules", modules_of_lsmod(text))),
    ("/proc/modules", lambda text: _MODULES.match(text.lstrip()) is not None, lambda text, _: Item("modules", text)),
    ("stat/nf_conntrack", lambda text: _STAT.search(text) is not None, lambda text, _: Item("stat_nf_conntrack", text)),
    (
        "conntrack -S",
        lambda text: _CONNTRACK_S.search(text) is not None,
        lambda text, _: Item("stat_nf_conntrack", stat_of_conntrack(text)),
    ),
    ("conntrack -L", lambda text: _ROWS.search(text) is not None, lambda text, _: Item("entries", text)),
    ("dmesg", lambda text: _LOG.search(text) is not None, lambda text, _: Item("kmsg", log_lines(text))),
    ("sysctl -a", lambda text: bool(sysctl_lines(text)), _sysctls),
    ("uname -a", lambda text: _UNAME.search(text) is not None, _uname),
)
FORMS: Final = tuple(name for name, _, _ in _FORMS)

# a prompt, and a program whose output is known: `root@host:~# iptables -S`, `$ sudo nft list ruleset`
_PROMPT: Final = re.compile(
    r"^(?:\[?[\w.-]+@[\w.-]+[^\n#$]{0,80})?[#$] (?P<command>(?:sudo )?(?:/\S+/)?"
    r"(?:ip6?tables|nft|lsmod|sysctl|dmesg|conntrack|cat|uname|journalctl|grep|ip netns)[^\n]*)$",
    re.MULTILINE,
)


def sections(text: str) -> tuple[tuple[str, str], ...]:
    """A terminal's text cut at its prompts: the commands with what each printed; the whole, without a command, where
    there is no prompt.
    """
    prompts = list(_PROMPT.finditer(text))
    if not prompts:
        return (("", text),)
    ends = [*(prompt.start() for prompt in prompts[1:]), len(text)]
    return tuple((prompt["command"], text[prompt.end() + 1 : end]) for prompt, end in zip(prompts, ends, strict=True))


def merged(items: Mapping[str, str], found: Item) -> str:
    """An item's text with what there is of that name: several tables, several logs. Others count once, the last."""
    before = items.get(found.name)
    joined = found.name.endswith("-save") or found.name in ("kmsg", "sysctl", "ruleset.nft", "entries")
    return f"{before.rstrip()}\n{found.text}" if before and joined else found.text
