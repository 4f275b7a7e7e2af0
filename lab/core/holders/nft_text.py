"""The plain text of `nft -a list ruleset`: blocks by their brackets, at most three deep."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lab.core.holders.dependents import OBJECTS, xtables_dependency
from lab.core.holders.model import NFT, Dependency, NamedObject, Rule, Table

_TEXT_TABLE: Final = re.compile(r"table (?P<family>[a-z0-9]+) (?P<name>\S+) \{")
_TEXT_BLOCK: Final = re.compile(r"(?P<kind>ct [a-z]+|[a-z]+) (?P<name>\S+) \{")
_TEXT_OPENINGS: Final = (_TEXT_TABLE, _TEXT_BLOCK)  # by level; deeper, brackets belong to a statement
_TEXT_VALUES: Final = re.compile(r"type(?:of)? .* : (?P<values>.+)")  # of a map
_TEXT_HANDLE: Final = re.compile(r"\s*# handle (?P<handle>\d+)$")
QUOTED: Final = re.compile(r'"[^"]*"')
_TEXT_HOOK: Final = re.compile(r"type \w+ hook ")
_TEXT_JUMP: Final = re.compile(r"\b(?:jump|goto) (?P<chain>[^\s,;{}]+)")
_TEXT_SET: Final = re.compile(r"(?<=\s)@[^\s,;{}]+")
_NOT_A_NAME: Final = r"(?<![-@\w.])(?<!jump )(?<!goto )"
_TEXT_CT: Final = re.compile(rf"{_NOT_A_NAME}ct (?:(?:original|reply) )?(?P<key>(?:ip6? )?[a-z][a-z0-9-]*)")
_TEXT_STATEMENT: Final = re.compile(
    rf"{_NOT_A_NAME}(?<!type )(?<!type != )(?<!# TPROXY )"  # `icmp type redirect` is a value
    r"(?P<what>masquerade|redirect|snat|dnat|synproxy|flow(?= (?:add|offload) ))(?![-\w])(?: (?P<family>ip6?)(?= ))?"
)
TEXT_NOTRACK: Final = re.compile(r"\bnotrack$")
_TEXT_XTABLES: Final = re.compile(r'\bxt (?P<type>match|target) "(?P<name>\w+)"')


@dataclass(frozen=True)
class Line:
    """One statement of the text: lines joined where a bracket was left open."""

    number: int
    text: str
    bare: str  # without what stands in quotes, which may hold anything
    handle: int | None


def text_tables(text: str) -> tuple[Table, ...]:
    found: list[Table] = []
    table: Table | None = None
    block: tuple[str, str, int | None] | None = None  # kind, name, handle
    body: list[Line] = []
    for line in _text_lines(text):
        if block is not None and line.bare == "}" and table is not None:
            table, block = _with_block(table, block, body), None
        elif block is not None:
            body.append(line)
        elif table is not None and line.bare == "}":
            found.append(table)
            table = None
        elif table is None and (match := _TEXT_TABLE.fullmatch(line.bare)):
            table = Table(NFT, match["family"], match["name"])
        elif table is not None and (match := _TEXT_BLOCK.fullmatch(line.bare)):
            block, body = (match["kind"], match["name"], line.handle), []
        elif table is not None and re.match(r"(?:flags|comment) ", line.bare):
            table = replace(table, dormant=table.dormant or re.match(r"flags .*\bdormant\b", line.bare) is not None)
        else:
            raise ValueError(f"nft line {line.number}: {line.text[:60]!r} is not part of a ruleset")
    if table is not None:
        raise ValueError(f"nft: table {table.family} {table.name} does not end, the text was cut")
    return tuple(found)


def _text_lines(text: str) -> Iterator[Line]:
    """The text's statements; a line that opens a table, or a block inside of one, is one by itself."""
    parts: list[str] = []
    first = depth = level = 0
    handle: int | None = None
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or (line.startswith("#") and not parts):  # blank, or a warning about iptables-nft
            continue
        # the same length without quotes, so that a place in it is a place in the line
        if match := _TEXT_HANDLE.search(QUOTED.sub(lambda quoted: "q" * len(quoted[0]), line)):
            handle = int(match["handle"])
            line = line[: match.start()]
        first = first if parts else number
        bare = QUOTED.sub('""', line)
        parts.append(line)
        depth += bare.count("{") - bare.count("}")
        opens = depth == 1 and len(parts) == 1 and level < len(_TEXT_OPENINGS) and _TEXT_OPENINGS[level].fullmatch(bare)
        if depth <= 0 or opens:
            joined = " ".join(parts)
            yield Line(first, joined, QUOTED.sub('""', joined), handle)
            parts, level, depth, handle = [], level + depth, 0, None
    if parts:
        raise ValueError(f"nft line {first}: a bracket is not closed, the text was cut")


def _with_block(table: Table, block: tuple[str, str, int | None], body: Sequence[Line]) -> Table:
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
        item = NamedObject(kind, name, f"{kind} {name}", (Dependency(f"{kind} object"),), handle)
        return replace(table, objects=(*table.objects, item))
    if kind in ("set", "map"):
        depends_on = tuple(found for line in body if not line.bare.startswith("type") for found in _text_cts(line))
        values = next((found["values"] for line in body if (found := _TEXT_VALUES.fullmatch(line.bare))), "")
        item = NamedObject(kind, name, f"{kind} {name}", depends_on, handle, values)
        jumps = frozenset(name for line in body for name in line_jumps(line))
        return replace(table, objects=(*table.objects, item), maps={**table.maps, name: jumps})
    return table  # counter, quota, limit, secmark, flowtable


def _is_rule(line: Line) -> bool:
    return not _TEXT_HOOK.match(line.bare) and not re.match(r'(?:comment ""$|policy )', line.bare)


def _text_rule(chain: str, line: Line) -> Rule:
    depends_on = line_dependencies(line)
    return Rule(
        chain=chain,
        text=line.text,
        depends_on=depends_on,
        leads_to=frozenset(line_jumps(line)),
        handle=line.handle,
        from_xtables=any(dependency.what.startswith("-") for dependency in depends_on),
    )


def line_jumps(line: Line) -> Iterator[str]:
    yield from (match["chain"] for match in _TEXT_JUMP.finditer(line.bare))
    yield from _TEXT_SET.findall(line.bare)


def line_dependencies(line: Line) -> tuple[Dependency, ...]:
    xtables = (
        found
        for match in _TEXT_XTABLES.finditer(line.text)
        for found in xtables_dependency(match["type"], match["name"])
    )
    return (*_text_cts(line), *_text_statements(line), *xtables)


def _text_cts(line: Line) -> Iterator[Dependency]:
    return (Dependency(f"ct {match['key']}") for match in _TEXT_CT.finditer(line.bare))


def _text_statements(line: Line) -> Iterator[Dependency]:
    bare = _outside_braces(line.bare)  # values in sets share words with statements
    bare = _TEXT_CT.sub("", re.sub(r"\bct status (?:!= )?\S+", "", bare))
    return (Dependency(match["what"], match["family"]) for match in _TEXT_STATEMENT.finditer(bare))


def _outside_braces(text: str) -> str:
    kept: list[str] = []
    depth = 0
    for part in re.split(r"([{}])", text):
        if part in ("{", "}"):
            depth += 1 if part == "{" else -1
        elif depth == 0:
            kept.append(part)
    return "".join(kept)
