"""The JSON of `nft -j -a list ruleset` (libnftables-json(5)): a flat list of objects, each with its table."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lab.core.holders.dependents import OBJECTS, STATEMENTS, xtables_dependency
from lab.core.holders.model import NFT, Dependency, NamedObject, Rule, Table
from lab.core.holders.nft_text import QUOTED, TEXT_NOTRACK, Line, line_dependencies, line_jumps


def json_tables(text: str, by_text: Mapping[tuple[str, str], Table]) -> Iterator[Table]:
    items = _json_items(text)
    for item in items:
        if (found := item.get("table")) is None:
            continue
        family, name = _string(found, "family"), _string(found, "name")
        mine = [
            (kind, body)
            for other in items
            for kind, body in other.items()
            if isinstance(body, dict) and body.get("family") == family and body.get("table") == name
        ]
        printed = by_text.get((family, name), Table(NFT, family, name))
        rules = {(rule.chain, rule.handle): rule for rule in printed.rules}
        objects = {(one.kind, one.name): one for one in printed.objects}
        yield Table(
            backend=NFT,
            family=family,
            name=name,
            dormant=printed.dormant or _json_dormant(found),
            hooked=frozenset(_string(body, "name") for kind, body in mine if kind == "chain" and "hook" in body),
            rules=tuple(
                _json_rule(body, rules.get((_string(body, "chain"), _handle(body))))
                for kind, body in mine
                if kind == "rule"
            ),
            objects=tuple(
                _json_object(kind, body, objects.get((kind, _string(body, "name"))))
                for kind, body in mine
                if kind in (*OBJECTS, "set", "map")
            ),
            nat_chains=tuple(
                _string(body, "name") for kind, body in mine if kind == "chain" and body.get("type") == "nat"
            ),
            maps={_string(body, "name"): frozenset(_json_jumps(body)) for kind, body in mine if kind == "map"},
        )


def _json_dormant(table: Mapping[str, Any]) -> bool:
    flags = table.get("flags")  # a string in some versions, a list in others
    return "dormant" in (flags if isinstance(flags, list) else [flags])


def _json_items(text: str) -> list[dict[str, Any]]:
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
    value = body.get(key)
    if not isinstance(value, str):
        raise ValueError(f"nft JSON: {key} is {value!r}, not a name")
    return value


def _handle(body: Mapping[str, Any]) -> int | None:
    value = body.get("handle")
    return value if isinstance(value, int) else None


def _json_rule(body: Mapping[str, Any], printed: Rule | None) -> Rule:
    """A rule; `printed` is the same one in the plain text, where that was recorded."""
    expressions = body.get("expr", [])
    extensions = [value for key, value in _json_walk(expressions) if key == "xt"]
    depends_on = [*_json_dependencies(expressions)]
    leads_to = {*_json_jumps(expressions)}
    for line in _json_text(expressions):
        depends_on += line_dependencies(line)
        leads_to |= {*line_jumps(line)}
    if printed is not None:
        if not any(extensions):  # the text has other words for an extension that JSON names
            known = {found.what for found in depends_on}
            depends_on += [found for found in printed.depends_on if found.what not in known]
        if TEXT_NOTRACK.search(printed.text):  # JSON names CT, but not what it is to do
            depends_on = [found for found in depends_on if found.what != "-j CT"]
        leads_to |= printed.leads_to
    return Rule(
        chain=_string(body, "chain"),
        text=_compact(expressions) if printed is None else printed.text,
        depends_on=tuple(depends_on),
        leads_to=frozenset(leads_to),
        handle=_handle(body),
        from_xtables=bool(extensions),
    )


def _compact(expressions: object) -> str:
    try:
        return json.dumps(expressions, separators=(",", ":"))
    except RecursionError as error:
        raise ValueError("nft JSON: a rule nested too deep") from error


def _json_text(expressions: object) -> Iterator[Line]:
    """What nft has no JSON for it puts there as a string of plain text, for example `jump { ... }`."""
    for item in expressions if isinstance(expressions, list) else ():
        if isinstance(item, str):
            yield Line(0, item, QUOTED.sub('""', item), None)


def _json_object(kind: str, body: Mapping[str, Any], printed: NamedObject | None) -> NamedObject:
    name = _string(body, "name")
    depends_on: tuple[Dependency, ...] = (Dependency(f"{kind} object"),)
    values = ""
    if kind not in OBJECTS:  # a set holds conntrack when its elements count connections
        depends_on = tuple(_json_dependencies([body.get("stmt"), body.get("elem")]))
        depends_on = depends_on or (() if printed is None else printed.depends_on)
        values = str(body.get("map", ""))
    return NamedObject(kind, name, f"{kind} {name}", depends_on, _handle(body), values)


def _json_walk(value: object) -> Iterator[tuple[str, object]]:
    """Every key and its value, at any depth, in the order of the text."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            yield from current.items()
            waiting.extend(reversed(list(current.values())))
        elif isinstance(current, list):
            waiting.extend(reversed(current))


def _json_dependencies(expressions: object) -> Iterator[Dependency]:
    for key, value in _json_walk(expressions):
        body = value if isinstance(value, dict) else {}
        if key == "ct":
            yield Dependency(f"ct {body.get('key', '')}".strip())
        elif key == "xt":
            yield from xtables_dependency(body.get("type"), body.get("name"))
        elif key in STATEMENTS:
            family = body.get("family") if key in ("snat", "dnat") else None
            yield Dependency(STATEMENTS[key], family if family in ("ip", "ip6") else None)


def _json_jumps(value: object) -> Iterator[str]:
    """The chains that a verdict in here leads to, and the sets and maps that are looked into, as "@name"."""
    for key, inner in _json_walk(value):
        if key in ("jump", "goto") and isinstance(inner, dict) and isinstance(inner.get("target"), str):
            yield inner["target"]
        elif isinstance(inner, str) and inner.startswith("@"):
            yield inner
