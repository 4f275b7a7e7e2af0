"""The text of iptables-save and its kin, for both backends and both families."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from lab.core.holders.dependents import MATCHES, TARGETS
from lab.core.holders.model import Dependency, Rule, Table

_SAVED_CHAIN: Final = re.compile(r":(?P<name>\S+) (?P<policy>[A-Z]+|-)(?: \[\d+:\d+\])?")
_SAVED_RULE: Final = re.compile(r"(?:\[\d+:\d+\] )?-A (?P<chain>\S+)(?: (?P<spec>.*))?")

# The word after these is the user's own and may look like an option.
_FREE_TEXT: Final = frozenset({"--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix", "--string"})


def saved_tables(text: str | None, backend: str, family: str) -> Iterator[Table]:
    """The tables in what iptables-save and its kin print, for both backends and both families."""
    name: str | None = None
    hooked: set[str] = set()
    rules: list[Rule] = []
    places: Counter[str] = Counter()
    for number, line in enumerate((text or "").split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if name is None and line.startswith("*"):
            name, hooked, rules, places = line[1:], set(), [], Counter()
        elif name is not None and line == "COMMIT":
            yield Table(backend, family, name, hooked=frozenset(hooked), rules=tuple(rules))
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


def _saved_rule(chain: str, text: str, number: int) -> Rule:
    spec = _shell_words(text)
    return Rule(
        chain=chain,
        text=f"-A {chain} {text}".rstrip(),
        depends_on=tuple(Dependency(what) for what in _xtables_dependencies(spec)),
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
