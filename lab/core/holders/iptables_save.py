"""The text of iptables-save and its kin, for both backends and both families."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from lab.core.holders.dependents import xtables_dependency
from lab.core.holders.model import Dependency, Rule, Table
from lab.core.holders.quoting import SAVED_LINE, quoted_lines, saved_words

_CHAIN: Final = re.compile(r":(?P<name>\S+) (?P<policy>[A-Z]+|-)(?: \[\d+:\d+\])?")
_RULE: Final = re.compile(r"(?:\[\d+:\d+\] )?-A (?P<chain>\S+)(?: (?P<spec>.*))?", re.DOTALL)

# The word after these is the user's own and may look like an option.
_USER_WORDS: Final = frozenset(
    {"--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix", "--string", "--hex-string", "--name", "--path"}
    | {"--match-set", "--add-set", "--del-set", "--map-set", "--helper", "--timeout", "--hashlimit-name"}
    | {"--nfacct-name", "--led-trigger-id", "--rateest", "--rateest1", "--rateest2", "--label", "--algo"}
    | {"-i", "-o", "--in-interface", "--out-interface", "--physdev-in", "--physdev-out", "--zone", "--ctevents"}
)
_OPTIONS: Final = {"-m": "match", "-j": "target", "-g": "goto"}
_NOTRACK: Final = ("option", "notrack")
_REJECTS: Final = frozenset({"DROP", "REJECT", "TARPIT"})


@dataclass
class Draft:
    """A table while its lines are read."""

    name: str
    hooked: set[str] = field(default_factory=set)
    dropping: set[str] = field(default_factory=set)
    rules: list[Rule] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def add_chain(self, name: str, policy: str) -> None:
        """A chain with its policy; one without is a user's."""
        if policy != "-":
            self.hooked.add(name)
        if policy == "DROP":
            self.dropping.add(name)

    def add_rule(self, chain: str, spec: str) -> None:
        """The next rule of a chain."""
        number = self.places[chain] = self.places.get(chain, 0) + 1
        self.rules.append(_rule(chain, spec, number))

    def table(self, backend: str, family: str) -> Table:
        """The table as a value."""
        hooked, dropping = frozenset(self.hooked), frozenset(self.dropping)
        return Table(backend, family, self.name, hooked=hooked, dropping=dropping, rules=tuple(self.rules))


def saved_tables(text: str | None, backend: str, family: str) -> Iterator[Table]:
    """The tables in what iptables-save and its kin print. Raises ValueError for a line that is not of it."""
    draft: Draft | None = None
    what = f"{backend} {family}"
    for number, raw in quoted_lines(text or "", SAVED_LINE, what):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if draft is None and line.startswith("*"):
            draft = Draft(line[1:])
        elif draft is not None and line == "COMMIT":
            yield draft.table(backend, family)
            draft = None
        elif draft is not None and (match := _CHAIN.fullmatch(line)):
            draft.add_chain(match["name"], match["policy"])
        elif draft is not None and (match := _RULE.fullmatch(line)):
            draft.add_rule(match["chain"], match["spec"] or "")
        else:
            raise ValueError(f"{what} line {number}: {line[:60]!r} is not of iptables-save")
    if draft is not None:
        raise ValueError(f"{what}: table {draft.name} has no COMMIT, the text was cut")


def _rule(chain: str, text: str, number: int) -> Rule:
    spec = saved_words(text)
    options = tuple(_options(spec))
    targets = frozenset(value for kind, value in options if kind in ("target", "goto"))
    return Rule(
        chain=chain,
        text=f"-A {chain} {text}".rstrip(),
        depends_on=tuple(_dependencies(options)),
        leads_to=targets,
        accepts="ACCEPT" in targets,
        drops=not _REJECTS.isdisjoint(targets),
        number=number,
        spec=spec,
    )


def _dependencies(options: Sequence[tuple[str, str]]) -> Iterator[Dependency]:
    notrack = _NOTRACK in options
    for kind, value in options:
        found = xtables_dependency(kind, value)
        # only CT has such an option; then it takes no reference
        if found is not None and not (notrack and found.what == "-j CT"):
            yield found


def _options(spec: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each match, target and goto with its name, and notrack."""
    words = iter(spec)
    for word in words:
        if word in _OPTIONS:
            yield _OPTIONS[word], next(words, "")
        elif word in _USER_WORDS:
            next(words, "")  # a name, or somebody's text
        elif word == "--notrack":
            yield _NOTRACK
