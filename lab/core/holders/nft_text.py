"""The plain text of `nft -a list ruleset`: blocks by their brackets, at most three deep."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from lab.core.holders.base_chains import Place, place_of
from lab.core.holders.dependents import FOREIGN_STATEMENTS, OBJECTS, xtables_dependency
from lab.core.holders.model import NFT, Dependency, NamedObject, Rule, Table
from lab.core.holders.quoting import NFT_LINE, quoted_lines

# `{ # handle 2 progname firewalld` in a table with an owner; a handle at a line's end is taken off before
_TABLE: Final = re.compile(
    r"table (?P<family>[a-z0-9]+) (?P<name>\S+) \{(?: # (?:handle \d+ )?progname (?P<owner>\S.*))?"
)
_BLOCK: Final = re.compile(r"(?P<kind>ct [a-z]+|[a-z]+) (?P<name>\S+) \{")
_OPENINGS: Final = (_TABLE, _BLOCK)  # by level; deeper, brackets belong to a statement
_FLAGS: Final = re.compile(r"flags (?P<flags>[a-z, ]+)")
_VALUES: Final = re.compile(r"type(?:of)? .* : (?P<values>.+)")  # of a map
_HANDLE: Final = re.compile(r"# handle (?P<handle>\d{1,20})$")
QUOTED: Final = re.compile(r'"[^"]*"')
_BASE: Final = re.compile(r"type (?P<type>\w+) hook ")
_NO_RULE: Final = re.compile(r'type \w+ hook |comment ""$|policy ')
_JUMP: Final = re.compile(r"\b(?:jump|goto) (?P<chain>[^\s,;{}]+)")
_SET: Final = re.compile(r"(?<=\s)(?<!jump )(?<!goto )@(?P<name>[^\s,;{}]+)")
_NOT_A_NAME: Final = r"(?<![-@\w.])(?<!jump )(?<!goto )"
_VERDICT: Final = re.compile(rf"{_NOT_A_NAME}(?P<verdict>accept|drop|reject)(?![-\w])")
_CT: Final = re.compile(rf"{_NOT_A_NAME}ct (?:(?:original|reply) )?(?P<key>(?:ip6? )?[a-z][a-z0-9-]*)")
_CT_STATUS: Final = re.compile(r"\bct status (?:!= )?\S+")
_WORDS: Final = "|".join(("masquerade", "redirect", "snat", "dnat", "synproxy", *sorted(FOREIGN_STATEMENTS)))
_STATEMENT_WORDS: Final = re.compile(f"{_WORDS}|flow")  # quick to rule out
_STATEMENT: Final = re.compile(
    rf"{_NOT_A_NAME}(?<!type )(?<!type != )(?<!# TPROXY )"  # `icmp type redirect` is a value
    rf"(?P<what>{_WORDS}"
    r"|flow(?= (?:add|offload) ))(?![-\w])(?: (?P<family>ip6?)(?= ))?"
)
_NOTRACK: Final = re.compile(r"\bnotrack$")
# an extension of xtables: by its kind and name, or by its name alone where nft was built without their library
_XTABLES: Final = re.compile(r'\bxt (?P<type>match|target) "(?P<name>\w+)"|# xt_(?P<bare>\w+)')


class Line(NamedTuple):
    """One statement of the text: lines joined where a bracket was left open."""

    number: int
    text: str
    bare: str  # without what stands in quotes, which may hold anything
    handle: int | None


@dataclass
class _Draft:
    """A table while its blocks are read."""

    family: str
    name: str
    owner: str | None
    flags: set[str] = field(default_factory=set)
    hooked: set[str] = field(default_factory=set)
    dropping: set[str] = field(default_factory=set)
    places: dict[str, Place] = field(default_factory=dict)
    nat_chains: list[str] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    objects: list[NamedObject] = field(default_factory=list)
    maps: dict[str, frozenset[str]] = field(default_factory=dict)

    def table(self) -> Table:
        """The table as a value."""
        return Table(
            backend=NFT,
            family=self.family,
            name=self.name,
            dormant="dormant" in self.flags,
            owner=owner_of(self.flags, self.owner),
            hooked=frozenset(self.hooked),
            dropping=frozenset(self.dropping),
            places=self.places,
            rules=tuple(self.rules),
            objects=tuple(self.objects),
            nat_chains=tuple(self.nat_chains),
            maps=self.maps,
        )

    def add(self, kind: str, name: str, handle: int | None, body: Sequence[Line]) -> None:
        """A block of the table; counter, quota, limit, secmark and flowtable say nothing here."""
        if kind == "chain":
            self._add_chain(name, body)
        elif kind in OBJECTS:
            self.objects.append(NamedObject(kind, name, f"{kind} {name}", (Dependency(f"{kind} object"),), handle))
        elif kind in ("set", "map"):
            depends_on = tuple(found for line in body if not line.bare.startswith("type") for found in _cts(line))
            values = next((found["values"] for line in body if (found := _VALUES.fullmatch(line.bare))), "")
            self.objects.append(NamedObject(kind, name, f"{kind} {name}", depends_on, handle, values))
            self.maps[name] = frozenset(chain for line in body for chain in line_jumps(line))

    def _add_chain(self, name: str, body: Sequence[Line]) -> None:
        for line in body:
            if not _NO_RULE.match(line.bare):
                self.rules.append(_rule(name, line))
                continue
            if base := _BASE.match(line.bare):
                self.hooked.add(name)
                if (place := place_of(line.bare)) is not None:
                    self.places[name] = place
                if base["type"] == "nat":
                    self.nat_chains.append(name)
            if "policy drop" in line.bare:
                self.dropping.add(name)


def owner_of(flags: set[str], program: str | None) -> str | None:
    """The program that owns a table with these flags; None for a table without an owner."""
    if program is None and "owner" not in flags:
        return None
    return program or "a program that was not recorded"


def text_tables(text: str) -> tuple[Table, ...]:
    """The tables in what `nft list ruleset` prints. Raises ValueError for a line that is not part of a ruleset."""
    found: list[Table] = []
    table: _Draft | None = None
    block: tuple[str, str, int | None] | None = None  # kind, name, handle
    body: list[Line] = []
    for line in _statements(text):
        if block is not None and line.bare == "}" and table is not None:
            table.add(*block, body)
            block = None
        elif block is not None:
            body.append(line)
        elif table is not None and line.bare == "}":
            found.append(table.table())
            table = None
        elif table is None and (match := _TABLE.fullmatch(line.bare)):
            table = _Draft(match["family"], match["name"], match["owner"])
        elif table is not None and (match := _BLOCK.fullmatch(line.bare)):
            block, body = (match["kind"], match["name"], line.handle), []
        elif table is not None and line.bare.startswith(("flags ", "comment ")):
            flags = _FLAGS.fullmatch(line.bare)
            table.flags.update(re.findall(r"\w+", flags["flags"]) if flags else ())
        else:
            raise ValueError(f"nft line {line.number}: {line.text[:60]!r} is not part of a ruleset")
    if table is not None:
        raise ValueError(f"nft: table {table.family} {table.name} does not end, the text was cut")
    return tuple(found)


def _statements(text: str) -> Iterator[Line]:
    """The text's statements; a line that opens a table, or a block inside of one, is one by itself."""
    parts: list[str] = []
    bares: list[str] = []
    first = depth = level = 0
    handle: int | None = None
    for number, raw in quoted_lines(text, NFT_LINE, "nft"):
        line = raw.strip()
        if not line or (line[0] == "#" and not parts):  # blank, or a warning about iptables-nft
            continue
        bare = line if '"' not in line else _bare(line, number)
        if "# handle " in bare and (match := _HANDLE.search(bare)):  # what is cut off the end has no quotes
            handle = int(match["handle"])
            cut = match.end() - match.start()
            line, bare = line[:-cut].rstrip(), bare[:-cut].rstrip()
        first = first if parts else number
        parts.append(line)
        bares.append(bare)
        depth += bare.count("{") - bare.count("}")
        opens = depth == 1 and level < len(_OPENINGS) and len(parts) == 1 and _OPENINGS[level].fullmatch(bare)
        if depth <= 0 or opens:
            yield Line(first, " ".join(parts), " ".join(bares), handle)
            parts, bares, level, depth, handle = [], [], level + depth, 0, None
            if level < 0:
                raise ValueError(f"nft line {first}: {line[:60]!r} closes a bracket that is not open")
    if parts:
        raise ValueError(f"nft line {first}: a bracket is not closed, the text was cut")


def _bare(line: str, number: int) -> str:
    """The line without what stands in quotes. nft prints a quote inside of a comment as it is, so that the text of the
    lines after it seems to be in quotes: then the handle of a rule is. Raises ValueError for that."""
    if "\n" in line and any("# handle " in quoted for quoted in QUOTED.findall(line)):
        raise ValueError(f"nft line {number}: a quotation mark inside of quotes: {line[:60]!r}")
    return QUOTED.sub('""', line)


def _rule(chain: str, line: Line) -> Rule:
    depends_on = line_dependencies(line)
    verdicts = line_verdicts(line)
    return Rule(
        chain=chain,
        text=line.text,
        depends_on=depends_on,
        leads_to=frozenset(line_jumps(line)),
        looks_into=frozenset(line_sets(line)),
        accepts="accept" in verdicts,
        drops="drop" in verdicts or "reject" in verdicts,
        handle=line.handle,
        from_xtables=any(dependency.what.startswith("-") for dependency in depends_on),
    )


def line_jumps(line: Line) -> list[str]:
    """The chains that a statement leads to."""
    return _JUMP.findall(line.bare) if "jump " in line.bare or "goto " in line.bare else []


def line_sets(line: Line) -> list[str]:
    """The sets and maps that a statement looks into."""
    return _SET.findall(line.bare) if "@" in line.bare else []


def line_verdicts(line: Line) -> list[str]:
    """The verdicts in a statement: accept, drop, reject."""
    return _VERDICT.findall(line.bare)


def line_dependencies(line: Line) -> tuple[Dependency, ...]:
    """What in a statement needs conntrack."""
    return (*_cts(line), *_statement_words(line), *_extensions(line))


def is_notrack(text: str) -> bool:
    """Whether a rule's text ends in the statement notrack."""
    return _NOTRACK.search(text) is not None


def _extensions(line: Line) -> Iterator[Dependency]:
    if "xt" not in line.bare:
        return
    text = line.text if "xt match" in line.bare or "xt target" in line.bare else line.bare
    for match in _XTABLES.finditer(text):
        kinds = (match["type"],) if match["type"] else ("match", "target")
        name = match["name"] or match["bare"]
        yield from (found for kind in kinds if (found := xtables_dependency(kind, name)) is not None)


def _cts(line: Line) -> list[Dependency]:
    return [_ct(key) for key in _CT.findall(line.bare)] if "ct " in line.bare else []


@lru_cache(1024)
def _ct(key: str) -> Dependency:
    return Dependency(f"ct {key}")


def _statement_words(line: Line) -> Iterator[Dependency]:
    if not _STATEMENT_WORDS.search(line.bare):
        return
    bare = _outside_braces(line.bare)  # values in sets share words with statements
    bare = _CT.sub("", _CT_STATUS.sub("", bare))
    for match in _STATEMENT.finditer(bare):
        yield Dependency(match["what"], match["family"], match["what"] not in FOREIGN_STATEMENTS)


def _outside_braces(text: str) -> str:
    kept: list[str] = []
    depth = 0
    for part in re.split(r"([{}])", text):
        if part in ("{", "}"):
            depth += 1 if part == "{" else -1
        elif depth == 0:
            kept.append(part)
    return "".join(kept)
