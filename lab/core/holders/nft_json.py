"""The JSON of `nft -j -a list ruleset` (libnftables-json(5)): a flat list of objects, each with its table."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lab.core.holders.base_chains import Place
from lab.core.holders.dependents import FOREIGN_STATEMENTS, OBJECTS, STATEMENTS, xtables_dependency
from lab.core.holders.model import NFT, Dependency, NamedObject, Rule, Table
from lab.core.holders.nft_text import (
    QUOTED,
    Line,
    is_notrack,
    line_dependencies,
    line_jumps,
    line_sets,
    line_verdicts,
    owner_of,
)

_Items = list[tuple[str, Mapping[str, Any]]]
_VERDICTS = frozenset({"accept", "drop", "reject"})


def json_tables(text: str, by_text: Mapping[tuple[str, str], Table]) -> Iterator[Table]:
    """The tables of the JSON; `by_text` are the same ones in the plain text, where that was recorded.

    Raises ValueError for what is no ruleset.
    """
    tables: dict[tuple[str, str], Mapping[str, Any]] = {}
    content: dict[tuple[object, object], _Items] = {}
    for item in _items(text):
        if (found := item.get("table")) is not None:
            tables.setdefault((_string(found, "family"), _string(found, "name")), found)
        for kind, body in item.items():
            if isinstance(body, dict) and isinstance(body.get("family"), str) and isinstance(body.get("table"), str):
                content.setdefault((body["family"], body["table"]), []).append((kind, body))
    for key, found in tables.items():
        yield _table(found, content.get(key, []), by_text.get(key, Table(NFT, *key)))


def _table(found: Mapping[str, Any], content: _Items, printed: Table) -> Table:
    rules = {(rule.chain, rule.handle): rule for rule in printed.rules}
    objects = {(one.kind, one.name): one for one in printed.objects}
    chains = [body for kind, body in content if kind == "chain"]
    flags = _flags(found)
    return Table(
        backend=NFT,
        family=printed.family,
        name=printed.name,
        dormant=printed.dormant or "dormant" in flags,
        owner=printed.owner or owner_of(flags, None),
        hooked=frozenset(_string(body, "name") for body in chains if "hook" in body),
        dropping=frozenset(_string(body, "name") for body in chains if body.get("policy") == "drop"),
        places={_string(body, "name"): place for body in chains if (place := _place(body)) is not None},
        rules=tuple(
            _rule(body, rules.get((_string(body, "chain"), _handle(body)))) for kind, body in content if kind == "rule"
        ),
        objects=tuple(
            _object(kind, body, objects.get((kind, _string(body, "name"))))
            for kind, body in content
            if kind in (*OBJECTS, "set", "map")
        ),
        nat_chains=tuple(_string(body, "name") for body in chains if body.get("type") == "nat"),
        maps={_string(body, "name"): frozenset(_jumps(body)) for kind, body in content if kind == "map"},
    )


def _place(chain: Mapping[str, Any]) -> Place | None:
    hook, priority = chain.get("hook"), chain.get("prio")
    return Place(hook, priority) if isinstance(hook, str) and isinstance(priority, int) else None


def _flags(table: Mapping[str, Any]) -> set[str]:
    flags = table.get("flags")  # a string in some versions, a list in others
    if flags == table.get("name"):  # nft 1.0.6 prints the name there
        return set()
    return {flag for flag in (flags if isinstance(flags, list) else [flags]) if isinstance(flag, str)}


def _items(text: str) -> list[dict[str, Any]]:
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
    value = body.get(key) if isinstance(body, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"nft JSON: {key} is {value!r:.80}, not a name")
    return value


def _handle(body: Mapping[str, Any]) -> int | None:
    value = body.get("handle")
    return value if isinstance(value, int) else None


def _rule(body: Mapping[str, Any], printed: Rule | None) -> Rule:
    """A rule; `printed` is the same one in the plain text, where that was recorded."""
    expressions = body.get("expr", [])
    words = [*_walk(expressions)]
    extensions = [value for key, value in words if key == "xt"]
    depends_on = [*_dependencies(words)]
    leads_to, looks_into = {*_jumps(expressions)}, {*_sets(words)}
    verdicts = {key for key, _ in words if key in _VERDICTS}
    for line in _plain(expressions):
        depends_on += line_dependencies(line)
        leads_to.update(line_jumps(line))
        looks_into.update(line_sets(line))
        verdicts.update(line_verdicts(line))
    if printed is not None:
        if not any(extensions):  # the text has other words for an extension that JSON names
            known = {found.what for found in depends_on}
            depends_on += [found for found in printed.depends_on if found.what not in known]
        if is_notrack(printed.text):  # JSON names CT, but not what it is to do
            depends_on = [found for found in depends_on if found.what != "-j CT"]
        leads_to |= printed.leads_to
        looks_into = {*printed.looks_into}  # in JSON, an interface of the name "@x" is written as a set is
    return Rule(
        chain=_string(body, "chain"),
        text=_compact(expressions) if printed is None else printed.text,
        depends_on=tuple(depends_on),
        leads_to=frozenset(leads_to),
        looks_into=frozenset(looks_into),
        accepts="accept" in verdicts or (printed is not None and printed.accepts),
        drops=not verdicts.isdisjoint(("drop", "reject")) or (printed is not None and printed.drops),
        handle=_handle(body),
        from_xtables=bool(extensions),
    )


def _compact(expressions: object) -> str:
    try:
        return json.dumps(expressions, separators=(",", ":"))
    except RecursionError as error:
        raise ValueError("nft JSON: a rule nested too deep") from error


def _plain(expressions: object) -> Iterator[Line]:
    """What nft has no JSON for it puts there as a string of plain text, for example `jump { ... }`."""
    for item in expressions if isinstance(expressions, list) else ():
        if isinstance(item, str):
            yield Line(0, item, QUOTED.sub('""', item), None)


def _object(kind: str, body: Mapping[str, Any], printed: NamedObject | None) -> NamedObject:
    name = _string(body, "name")
    depends_on: tuple[Dependency, ...] = (Dependency(f"{kind} object"),)
    values = ""
    if kind not in OBJECTS:  # a set holds conntrack when its elements count connections
        depends_on = tuple(_dependencies([*_walk([body.get("stmt"), body.get("elem")])]))
        depends_on = depends_on or (() if printed is None else printed.depends_on)
        values = str(body.get("map", ""))
    return NamedObject(kind, name, f"{kind} {name}", depends_on, _handle(body), values)


def _walk(value: object) -> Iterator[tuple[str, object]]:
    """Every key and its value, at any depth, in the order of the text."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            yield from current.items()
            waiting.extend(reversed(list(current.values())))
        elif isinstance(current, list):
            waiting.extend(reversed(current))


def _dependencies(words: list[tuple[str, object]]) -> Iterator[Dependency]:
    for key, value in words:
        body = value if isinstance(value, dict) else {}
        if key == "ct":
            yield Dependency(f"ct {body.get('key', '')}".strip())
        elif key == "xt":
            found = xtables_dependency(body.get("type"), body.get("name"))
            yield from () if found is None else (found,)
        elif key in STATEMENTS:
            family = body.get("family") if key in ("snat", "dnat") else None
            yield Dependency(STATEMENTS[key], family if family in ("ip", "ip6") else None)
        elif key in FOREIGN_STATEMENTS:
            yield Dependency(key, certain=False)


def _jumps(value: object) -> Iterator[str]:
    """The chains that a verdict in here leads to."""
    for key, inner in _walk(value):
        if key in ("jump", "goto") and isinstance(inner, dict) and isinstance(inner.get("target"), str):
            yield inner["target"]


def _sets(words: list[tuple[str, object]]) -> Iterator[str]:
    """The sets and maps that are looked into, as far as JSON tells them from an address or an interface."""
    for key, inner in words:
        if key != "target" and isinstance(inner, str) and inner.startswith("@"):
            yield inner[1:]
