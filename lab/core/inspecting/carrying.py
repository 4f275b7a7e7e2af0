"""From a record to a scenario that brings a machine into that state: its rulesets, options, modules and settings.

What the record says is carried as data: into files that stand beside the scenario, which only a guest reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from lab.core.evidence import Snapshot
from lab.core.holders.iptables_listing import is_listing
from lab.core.holders.model import IPTABLES_NFT, LEGACY, Table
from lab.core.holders.nft_file import as_listed
from lab.core.inspecting.inspection import Look
from lab.core.inspecting.model import Record

FOLDER: Final = "/root/record"
# kernel modules that hold, or make the state, by being loaded; in the order in which they are loaded
_LOADED: Final = ("nf_conntrack", "nf_conntrack_ipv4", "nf_conntrack_ipv6", "openvswitch")
_OPTIONS: Final = re.compile(r"^(?:options|install|blacklist|softdep) (?:nf|ip)[_-]conntrack\b.*$")
_BOOT_OPTION: Final = re.compile(r"(?:nf_conntrack\.\w+=[\w,.]+|module_blacklist=[\w,]+)")
_OWNER: Final = re.compile(r"^\s*flags (?P<flags>.*\b(?:owner|persist)\b.*)$", re.MULTILINE)
_TABLE: Final = re.compile(r"^table (?P<family>\w+) (?P<name>\S+) \{.*?^\}\n?", re.MULTILINE | re.DOTALL)
_XTABLES: Final = re.compile(r'^.*(?:\bxt (?:match|target) "|# xt_\w+).*\n?', re.MULTILINE)
_BY_INDEX: Final = re.compile(
    r'\b(?:iif|oif) "?(?P<name>[\w.@-]{1,15})"?|\bdevices? = \{(?P<names>[^}]*)\}|\bdevice "?(?P<one>[\w.@-]{1,15})"?'
)
_MATCH_SET: Final = re.compile(
    r"--(?:match-set|add-set|del-set|map-set) (?P<name>\S{1,31}) (?P<flags>(?:src|dst)(?:,(?:src|dst))*)"
)
_LISTED: Final = re.compile(r"^Chain \S+ \(", re.MULTILINE)
# empty tables hold nothing, and a chain more or less makes no difference
_SAYS_SOMETHING: Final = re.compile(r"^(?:(?:\[\d+:\d+\] )?-A |:\S+ DROP)", re.MULTILINE)
_SET: Final = re.compile(r"^create (?P<name>\S{1,31}) (?P<kind>[\w:,]+)(?P<options> .*)?$", re.MULTILINE)
# those that every version of ipset takes
_SET_OPTION: Final = re.compile(r"\b(?:family|maxelem|timeout|range|netmask|size) \S+|counters|comment|skbinfo")
_SET_TYPES: Final = {1: "hash:net", 2: "hash:ip,port", 3: "hash:ip,port,ip"}
_LOOPBACK: Final = "lo"
_ADD_DUMMY: Final = 'ip link show "$1" > /dev/null 2>&1 || ip link add "$1" type dummy'


@dataclass(frozen=True)
class Place:
    """Where the state of a namespace is brought: the machine itself, a namespace of it, or an end of the path."""

    namespace: str = ""
    end: str = ""

    @property
    def label(self) -> str:
        """What the names of its files begin with."""
        name = self.namespace or self.end
        return f"{name}-" if name else ""


_MACHINE: Final = Place()
_CLIENT: Final = Place(end="client")


@dataclass(frozen=True)
class Step:
    """A step of the scenario's state: a program, or a file beside it that goes into the guest."""

    argv: tuple[str, ...] = ()
    end: str = ""  # of the load's path, in which the program runs
    path: str = ""
    source: str = ""


@dataclass
class State:
    """What brings a machine into the state of one or more namespaces."""

    steps: list[Step] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    boot_args: list[str] = field(default_factory=list)
    backends: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)  # what is not carried over

    def run(self, *argv: str, at: Place = _MACHINE) -> None:
        """Add a program."""
        inside = ("ip", "netns", "exec", at.namespace) if at.namespace else ()
        self.steps.append(Step(argv=(*inside, *argv), end=at.end))

    def file(self, name: str, text: str, path: str = "") -> str:
        """Add a file beside the scenario; returns its path in the guest."""
        self.files[name] = text
        place = path or f"{FOLDER}/{name}"
        self.steps.append(Step(path=place, source=name))
        return place


def carried_state(record: Record, looks: tuple[Look, ...], most_namespaces: int = 8) -> State:
    """The steps, in the order in which they are to be done."""
    state = State()
    state.missing += ["addresses and routes of interfaces, and what runs on the host"]
    state.missing += [f"what was not read: {gap}" for look in looks for gap in look.attached.gaps]
    state.missing += [
        f"what tracks without hooks: {one.rule[:100]}"
        for look in looks
        for one in look.attached.holders
        if not one.hooks
    ]
    _options(record.host, state)
    state.missing += [
        f"bridges, which the load does not cross: {proof.evidence}"
        for look in looks
        for proof in look.attached.proofs
        if proof.source == "bridge"
    ]
    front = loaded_look(looks)
    for look in looks:
        if look.namespace.own:
            _rules(look, _MACHINE, state)
    if not front.namespace.own:
        state.missing.append(f"{front.namespace.label} is the client's end of a path through the machine")
        _rules(front, _CLIENT, state)
    others = [look for look in looks if not look.namespace.own and look is not front and look.rulesets.tables]
    for number, look in enumerate(others[:most_namespaces], start=1):
        name = f"record-{number}"
        state.run("ip", "netns", "add", name)
        state.run("ip", "-n", name, "link", "set", "lo", "up")
        state.missing.append(f"{look.namespace.label} is the namespace {name}; the load does not run in it")
        _rules(look, Place(namespace=name), state)
    state.missing += [
        f"namespace {look.namespace.label}: more than {most_namespaces}" for look in others[most_namespaces:]
    ]
    _modules(record.host, state)
    return state


def loaded_look(looks: tuple[Look, ...]) -> Look:
    """The namespace for the load: the host's own, unless only others track; then the fullest of these."""
    own = next((look for look in looks if look.namespace.own), looks[0])
    tracking = [look for look in looks if look.attached.answer and "ip" in look.attached.families]
    if not tracking or own in tracking or own.attached.answer is None:
        return own
    return max(tracking, key=lambda look: look.table.share or 0)


def _options(host: Snapshot, state: State) -> None:
    """Options of the module before anything loads it."""
    lines = [line.partition(": ")[2].strip() for line in (host.texts.get("modprobe.d") or "").splitlines()]
    options = [line for line in lines if _OPTIONS.match(line)]
    if options:
        state.file("modprobe.conf", "".join(f"{line}\n" for line in options), "/etc/modprobe.d/record.conf")
    state.boot_args += _BOOT_OPTION.findall(host.texts.get("cmdline") or "")


def _modules(host: Snapshot, state: State) -> None:
    loaded = {line.split(" ", 1)[0] for line in (host.texts.get("modules") or "").splitlines()}
    for name in _LOADED:
        if name in loaded:
            state.run("modprobe", name)


def _rules(look: Look, at: Place, state: State) -> None:
    texts = look.rulesets.recorded
    nft = texts.nft_text or ""
    saved = {table.key for table in look.rulesets.tables if table.backend == IPTABLES_NFT}
    _interfaces(nft, at, state)
    for family, rules in (
        ("inet", (texts.iptables_legacy, texts.iptables_nft)),
        ("inet6", (texts.ip6tables_legacy, texts.ip6tables_nft)),
    ):
        _sets("\n".join(filter(None, rules)), look.namespace.snapshot.texts.get("ipset"), family, at, state)
    for text, family, backend in (
        (texts.iptables_legacy, "ip", LEGACY),
        (texts.ip6tables_legacy, "ip6", LEGACY),
        (texts.iptables_nft, "ip", IPTABLES_NFT),
        (texts.ip6tables_nft, "ip6", IPTABLES_NFT),
    ):
        if text is not None and not _LISTED.search(text):
            _restore(text, family, backend, look.rulesets.tables, at, state)
        elif text is not None:
            state.missing.append(f"the rules of {backend} {family}: a listing of iptables -L cannot be restored")
    rest = _nft_text(nft, saved, state)
    if rest:
        path = state.file(f"{at.label}ruleset.nft", rest)
        state.backends.add("nft")
        state.run("nft", "-f", path, at=at)
    elif not nft and texts.nft_json is not None:
        state.missing.append("the ruleset of nft: only its JSON was recorded")


def _restore(
    text: str,
    family: str,
    backend: str,
    tables: tuple[Table, ...],
    at: Place,
    state: State,
) -> None:
    program = f"{'ip6tables' if family == 'ip6' else 'iptables'}{backend.removeprefix('iptables')}"
    if is_listing(text):
        text = "".join(_saved(table) for table in tables if (table.backend, table.family) == (backend, family))
    if not _SAYS_SOMETHING.search(text):
        return
    path = state.file(f"{at.label}{program}.rules", text)
    state.backends.add("legacy" if backend == LEGACY else "nft")
    state.run(f"{program}-restore", path, at=at)


def _saved(table: Table) -> str:
    """A table of `iptables -S` as iptables-save prints it."""
    chains = dict.fromkeys((*sorted(table.hooked), *(rule.chain for rule in table.rules)))
    chains.update(dict.fromkeys(name for rule in table.rules for name in rule.leads_to if not name.isupper()))
    policies = {name: "DROP" if name in table.dropping else "ACCEPT" for name in table.hooked}
    lines = [f":{name} {policies.get(name, '-')} [0:0]" for name in chains]
    return "".join(f"{line}\n" for line in (f"*{table.name}", *lines, *(rule.text for rule in table.rules), "COMMIT"))


def _nft_text(text: str, saved: set[tuple[str, str]], state: State) -> str:
    """What `nft -f` is to read: the tables that iptables-nft does not restore, without owners."""
    if not text.strip():
        return ""
    if "# handle" not in text and not text.lstrip().startswith("table "):
        text = as_listed(text)
    kept = []
    for match in _TABLE.finditer(text):
        if (match["family"], match["name"]) in saved:
            continue
        table = match[0]
        if _OWNER.search(table):
            state.missing.append(f"the owner of table {match['family']} {match['name']}: nothing keeps it in the guest")
            table = _OWNER.sub("", table)
        dropped = _XTABLES.findall(table)
        if dropped:
            state.missing.append(f"rule of iptables-nft, which nft cannot read back: {dropped[0].strip()[:100]}")
            table = _XTABLES.sub("", table)
        kept.append(table if table.endswith("\n") else f"{table}\n")
    return "".join(kept)


def _interfaces(nft: str, at: Place, state: State) -> None:
    """Interfaces that rules name by their number, or are bound to: without them the ruleset does not load."""
    names: dict[str, None] = {}
    for match in _BY_INDEX.finditer(nft):
        found = [match["name"], match["one"], *re.findall(r'"?([\w.@-]{1,15})"?', match["names"] or "")]
        names.update(dict.fromkeys(filter(None, found)))
    for name in names:
        if name != _LOOPBACK and not name.isdecimal():
            state.run("sh", "-c", _ADD_DUMMY, "sh", name, at=at)
            state.missing.append(f"interface {name}: a dummy takes its place")


def _sets(rules: str, recorded: str | None, family: str, at: Place, state: State) -> None:
    """The sets of ipset that rules name, empty: what is in them is not recorded."""
    known = {match["name"]: match for match in _SET.finditer(recorded or "")}
    for name, flags in {match["name"]: match["flags"] for match in _MATCH_SET.finditer(rules)}.items():
        if name in known:
            options = _SET_OPTION.findall(known[name]["options"] or "")
            words = (known[name]["kind"], *(word for option in options for word in option.split()))
            state.missing.append(f"what is in set {name}")
        else:
            kind = _SET_TYPES.get(flags.count(",") + 1, "hash:ip,port,ip")
            words = (kind, "family", family)
            state.missing.append(f"set {name}: it is empty, and its type is guessed from the rule: {kind}")
        state.run("ipset", "create", "-exist", name, *words, at=at)
