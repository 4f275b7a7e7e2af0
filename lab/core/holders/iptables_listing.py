"""What people paste instead of iptables-save: `iptables -S`, and the tables of `iptables -L`, verbose or not.

Neither names its table, so the built-in chains do: each table has its own set of them. A line `*nat` before a listing
names it, as in iptables-save.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from lab.core.holders.dependents import xtables_dependency
from lab.core.holders.iptables_save import Draft
from lab.core.holders.model import Dependency, Rule, Table
from lab.core.holders.quoting import SAVED_LINE, quoted_lines

_POLICY: Final = re.compile(r"-P (?P<chain>\S+) (?P<policy>ACCEPT|DROP|QUEUE|RETURN)(?: -c \d+ \d+)?")
_NEW_CHAIN: Final = re.compile(r"-N (?P<chain>\S+)")
_APPEND: Final = re.compile(r"-A (?P<chain>\S+)(?: (?P<spec>.*))?", re.DOTALL)
_COUNTS: Final = re.compile(r" -c \d+ \d+(?= |$)")
_CHAIN: Final = re.compile(r"Chain (?P<chain>\S+) \((?:policy (?P<policy>[A-Z]+)\b.*|\d+ references|.*)\)")
_HEADER: Final = re.compile(r"(?P<number>num +)?(?P<counters>pkts +bytes +)?target +prot +opt .*")
_TABLE: Final = re.compile(r"\*(?P<table>[a-z]+)")
_WARNING: Final = re.compile(r"# ?Warning: .*|iptables: .*")

# the order in which a table's built-in chains are listed, before all others (enum nf_inet_hooks)
_HOOKS: Final = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
# the built-in chains of each table; nat had no INPUT before 2.6.36
_CHAINS_OF: Final = (
    ("filter", {"INPUT", "FORWARD", "OUTPUT"}),
    ("nat", {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"}),
    ("nat", {"PREROUTING", "OUTPUT", "POSTROUTING"}),
    ("mangle", {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}),
    ("raw", {"PREROUTING", "OUTPUT"}),
)

# the words that a match is listed by (its print function in extensions/libxt_*.c)
_LISTED: Final = (
    (re.compile(r"(?:^| )(?:! )?ct(?:state|proto|orig\w+|repl\w+|status|expire|dir) "), "conntrack"),
    (re.compile(r"(?:^| )(?:! )?state [A-Z]"), "state"),
    (re.compile(r"(?:^| )connmark match "), "connmark"),
    (re.compile(r"(?:^| )#conn "), "connlimit"),
    (re.compile(r"(?:^| )connbytes "), "connbytes"),
    (re.compile(r"(?:^| )(?:! )?connlabel "), "connlabel"),
    (re.compile(r"(?:^| )helper match"), "helper"),
    (re.compile(r"(?:^| )(?:! )?cluster total"), "cluster"),
    (re.compile(r"(?:^| )ndpi "), "ndpi"),
)
# somebody's own words: a comment, and what is printed in quotes
_OWN_WORDS: Final = re.compile(r'/\*.*\*/|"[^"]*"')
_ADDRESS: Final = re.compile(r"!?(?:anywhere|[0-9a-fA-F:.]*[:.][0-9a-fA-F:.]*(?:/[0-9a-fA-F:.]+)?)")
_FRAGMENTS: Final = frozenset({"--", "-f", "!f"})
_NOT_DROPPED: Final = frozenset({"DROP", "REJECT", "TARPIT"})


def is_listing(text: str) -> bool:
    """Whether a text is one of these two, by its first line that says anything."""
    for line in text.split("\n", 50):
        if line.strip() and not _WARNING.fullmatch(line.strip()) and not _TABLE.fullmatch(line.strip()):
            return line.startswith(("-P ", "-N ", "Chain "))
    return False


def listed_tables(text: str, backend: str, family: str) -> tuple[Table, ...]:
    """The tables of `iptables -S` or `iptables -L`. Raises ValueError for a line that is of neither."""
    what = f"{backend} {family}"
    tables = _Tables(backend, family)
    for number, raw in quoted_lines(text, SAVED_LINE, what):
        line = raw.strip()
        if not line or line.startswith("#") or line == "COMMIT" or _WARNING.fullmatch(line):
            continue
        if match := _TABLE.fullmatch(line):
            tables.begin(match["table"])
        elif not (tables.take_specification(line) or tables.take_listing(line, f"{what} line {number}")):
            raise ValueError(f"{what} line {number}: {line[:60]!r} is not of iptables -S or -L")
    tables.begin()
    return tuple(tables.found)


class _Tables:
    """Tables while their lines are read; a built-in chain out of their order begins the next one."""

    def __init__(self, backend: str, family: str) -> None:
        self.found: list[Table] = []
        self._backend, self._family = backend, family
        self._named: str | None = None
        self._draft = Draft("")
        self._last_hook = -1
        self._chain = ""
        self._columns: re.Match[str] | None = None

    def begin(self, named: str | None = None) -> None:
        """Begin a table, by its name or without one."""
        draft = self._draft
        if draft.hooked or draft.rules:
            draft.name = self._named or next((name for name, chains in _CHAINS_OF if chains == draft.hooked), "filter")
            self.found.append(draft.table(self._backend, self._family))
        self._named, self._draft, self._last_hook = named, Draft(""), -1

    def take_specification(self, line: str) -> bool:
        """A line of -S; False for one that is not."""
        if match := _POLICY.fullmatch(line):
            self._add_built_in(match["chain"], match["policy"])
        elif match := _APPEND.fullmatch(line):
            self._draft.add_rule(match["chain"], _COUNTS.sub("", match["spec"] or ""))
        else:
            return _NEW_CHAIN.fullmatch(line) is not None
        return True

    def take_listing(self, line: str, where: str) -> bool:
        """A line of -L; False for one that is not."""
        if match := _CHAIN.fullmatch(line):
            self._chain, self._columns = match["chain"], None
            if match["policy"] is not None:
                self._add_built_in(self._chain, match["policy"])
        elif match := _HEADER.fullmatch(line):
            self._columns = match
        elif self._columns is not None:
            self._draft.rules.append(_rule(self._chain, line, self._columns, where))
        return self._columns is not None or match is not None

    def _add_built_in(self, name: str, policy: str) -> None:
        hook = _HOOKS.index(name) if name in _HOOKS else len(_HOOKS)
        if hook <= self._last_hook:
            self.begin()
        self._last_hook = hook
        self._draft.add_chain(name, policy)


def _rule(chain: str, line: str, columns: re.Match[str], where: str) -> Rule:
    """A line of a listing. It cannot be removed by these words, so it has no number and no words to delete it by."""
    words = line.split()
    place = next((at for at in range(len(words) - 1) if _are_addresses(words[at : at + 2])), None)
    if place is None:
        raise ValueError(f"{where}: {line[:60]!r} is not a rule of iptables -L")
    skipped = (1 if columns["number"] else 0) + (2 if columns["counters"] else 0)
    head = words[skipped : place - (2 if columns["counters"] else 0)]
    if head and head[-1] in _FRAGMENTS:
        head.pop()
    target = head[0] if len(head) > 1 else ""
    # the words of the matches, without what anybody may have written
    rest = _OWN_WORDS.sub("", line.split(words[place + 1], 1)[1] if words[place] != words[place + 1] else line)
    return Rule(
        chain=chain,
        text=" ".join(words[skipped:]),
        depends_on=tuple(_dependencies(target, rest)),
        leads_to=frozenset({target} - {""}),
        accepts=target == "ACCEPT",
        drops=target in _NOT_DROPPED,
    )


def _are_addresses(words: Sequence[str]) -> bool:
    return all(_ADDRESS.fullmatch(word) for word in words)


def _dependencies(target: str, rest: str) -> Iterator[Dependency]:
    for pattern, name in _LISTED:
        if pattern.search(rest) and (found := xtables_dependency("match", name)) is not None:
            yield found
    found = xtables_dependency("target", target)
    if found is not None and not (target == "CT" and re.search(r"\bnotrack\b", rest, re.IGNORECASE)):
        yield found
