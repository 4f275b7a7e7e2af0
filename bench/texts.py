"""Makers of long texts: each gives a text of about the size in bytes that it is called with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def repeated(part: str, head: str = "", tail: str = "") -> Callable[[int], str]:
    """`part` again and again between head and tail; `{i}` in it is its number."""
    numbered = "{i}" in part

    def make(size: int) -> str:
        count = max(1, size // len(part))
        middle = "".join(part.replace("{i}", str(i)) for i in range(count)) if numbered else part * count
        return head + middle + tail

    return make


def both(first: str, second: str, head: str, tail: str) -> Callable[[int], str]:
    """Half of the text of one part, half of another: what is looked up in each other."""
    return lambda size: head + repeated(first)(size // 2) + repeated(second)(size // 2) + tail


def ruleset(*parts: Callable[[int], dict[str, Any]]) -> Callable[[int], str]:
    """A ruleset in JSON with as many of each part."""

    def make(size: int) -> str:
        count = max(1, size // sum(len(json.dumps(part(1))) + 6 for part in parts))
        items = [{"table": {"family": "ip", "name": "t"}}, *(part(i) for part in parts for i in range(count))]
        return json.dumps({"nftables": items})

    return make


def named(kind: str, **more: Any) -> Callable[[int], dict[str, Any]]:
    return lambda i: {kind: {"family": "ip", "table": "t", "name": f"n{i}", **more}}


def rule(expression: Any) -> Callable[[int], dict[str, Any]]:
    return lambda i: {"rule": {"family": "ip", "table": "t", "chain": "c", "handle": i, "expr": [expression]}}
