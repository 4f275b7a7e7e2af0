"""A file for `nft -f`, as people write and paste it: read by writing it out as `nft list ruleset` would.

Statements may share lines, end with `;`, and use variables; commands add to tables or delete what came before. What a
file includes is not here: that it does is an error that names the file.
"""

import re
from collections.abc import Iterator
from typing import Final

from lab.core.holders.model import Table
from lab.core.holders.nft_text import text_tables

_TOKEN: Final = re.compile(r'"[^"]*"|\\\n|#[^\n]*|[{};\n]|[^\\"#{};\n]+|\\')
_DEFINE: Final = re.compile(r"(?:define|redefine) (?P<name>\w+) *= *(?P<value>.*)", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$(?P<name>\w+)")
_INCLUDE: Final = re.compile(r"include \"?(?P<path>[^\"]*)\"?")
_TABLE: Final = re.compile(r"(?:(?:add|create) )?table (?:(?P<family>ip|ip6|inet|arp|bridge|netdev) )?(?P<name>\S+)")
_COMMAND: Final = re.compile(
    r"(?:(?:add|insert|create) )?(?P<kind>rule|chain|set|map|flowtable|counter|quota|limit|ct helper|ct timeout"
    r"|ct expectation|synproxy|secmark) (?:(?P<family>ip|ip6|inet|arp|bridge|netdev) )?(?P<table>\S+) (?P<name>\S+)"
    r"(?P<rest> .*)?",
    re.DOTALL,
)
_REMOVAL: Final = re.compile(
    r"(?:delete|destroy|flush) (?:ruleset(?: (?P<all>\w+))?"
    r"|table (?:(?P<family>ip6?|inet|arp|bridge|netdev) )?(?P<name>\S+))"
)
_POSITION: Final = re.compile(r" (?:position|handle|index) \d+")
_BLOCK: Final = re.compile(r"(?:chain|set|map|flowtable|counter|quota|limit|secmark|ct [a-z]+|synproxy) \S+")
_SILENT: Final = re.compile(
    r"(?:flush|delete|destroy|reset|list|add element|delete element|undefine|ruleset) ?.*", re.DOTALL
)
_DEFAULT_FAMILY: Final = "ip"
_MOST_DEPTH: Final = 32

Key = tuple[str, str]


def nft_tables(text: str) -> tuple[Table, ...]:
    """The tables of what `nft list ruleset` printed, or of a file for `nft -f`. Raises ValueError for neither."""
    try:
        return text_tables(text)
    except ValueError as error:
        if _looks_printed(text):
            raise
        try:
            return text_tables(as_listed(text))
        except ValueError as second:
            raise ValueError(f"{second} (as a list: {error})") from None


def _looks_printed(text: str) -> bool:
    """Whether nft printed it: then what is wrong is wrong with it as a list."""
    return "# handle " in text


def as_listed(text: str) -> str:
    """The ruleset of a file, a statement on each line, its tables in their first order. Raises ValueError."""
    tables: dict[Key, list[str]] = {}
    variables: dict[str, str] = {}
    for statement, body in _top(_tokens(text, variables)):
        if match := _DEFINE.fullmatch(statement):
            variables[match["name"]] = match["value"] + (f" {{ {' '.join(body)} }}" if body is not None else "")
        elif match := _INCLUDE.fullmatch(statement):
            raise ValueError(f"nft file: it includes {match['path'][:80]!r}, which is not here")
        elif match := _REMOVAL.fullmatch(statement):
            _remove(tables, match)
        elif match := _TABLE.fullmatch(statement):
            tables.setdefault((match["family"] or _DEFAULT_FAMILY, match["name"]), []).extend(body or ())
        elif match := _COMMAND.fullmatch(statement):
            key = (match["family"] or _DEFAULT_FAMILY, match["table"])
            tables.setdefault(key, []).extend(_added(match, body))
        elif not _SILENT.fullmatch(statement):
            raise ValueError(f"nft file: {statement[:60]!r} is no command that is known")
    return "".join(f"table {family} {name} {{\n{_joined(lines)}}}\n" for (family, name), lines in tables.items())


def _tokens(text: str, variables: dict[str, str]) -> Iterator[str]:
    """The words between brackets and ends of statements, variables filled in, comments left out."""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token.startswith("#") or token == "\\\n":
            continue
        yield (
            token
            if token.startswith('"')
            else _VARIABLE.sub(lambda found: variables.get(found["name"], found[0]), token)
        )


def _top(tokens: Iterator[str]) -> Iterator[tuple[str, list[str] | None]]:
    """The commands: each with the lines of its block, None where it has none. Raises ValueError for an open bracket."""
    words: list[str] = []
    for token in tokens:
        if token in (";", "\n"):
            if statement := " ".join("".join(words).split()):
                yield statement, None
            words = []
        elif token == "{":
            statement = " ".join("".join(words).split())
            words = []
            lines = [line for line in _block(tokens, 1) if line]
            yield statement, lines
        else:
            words.append(token)
    if statement := " ".join("".join(words).split()):
        yield statement, None


def _block(tokens: Iterator[str], depth: int) -> list[str]:
    """The lines up to the bracket that closes this block. A bracket after the head of a chain or a set opens another
    block, any other is part of a statement."""
    if depth > _MOST_DEPTH:
        raise ValueError("nft file: brackets nested too deep")
    lines: list[str] = []
    words = ""
    for token in tokens:
        if token == "}":
            return [*lines, " ".join(words.split())]
        if token in (";", "\n"):
            lines.append(" ".join(words.split()))
            words = ""
        elif token == "{":
            head = " ".join(words.split())
            inner = [line for line in _block(tokens, depth + 1) if line]
            if depth == 1 and _BLOCK.fullmatch(head):
                lines += [f"{head} {{", *inner, "}"]
                words = ""
            else:
                words = f"{words} {{ {' '.join(inner)} }}"
        else:
            words += token
    raise ValueError("nft file: a bracket is not closed, the text was cut")


def _remove(tables: dict[Key, list[str]], match: re.Match[str]) -> None:
    if match["name"] is None:
        gone = [key for key in tables if match["all"] in (None, key[0])]
    else:
        gone = [(match["family"] or _DEFAULT_FAMILY, match["name"])]
    for key in gone:
        tables.pop(key, None)


def _added(match: re.Match[str], body: list[str] | None) -> list[str]:
    """What a command adds, as lines of its table."""
    if match["kind"] == "rule":
        rest = _POSITION.sub("", match["rest"] or "", count=1)
        return [f"chain {match['name']} {{", f"{rest.strip()} {{ {' '.join(body)} }}" if body else rest.strip(), "}"]
    return [f"{match['kind']} {match['name']} {{", *(body or ()), "}"]


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines if line)
