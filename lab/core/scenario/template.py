"""Placeholders in a scenario's texts: `{name}` with the name of an axis. Any other brace is text as it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TEMPLATE = re.compile(r"\{\{|\}\}|\{(?P<name>[a-z][a-z0-9_-]*)\}|[{}]")


def substitute(text: str, values: Mapping[str, str]) -> str:
    """`text` with each `{name}` replaced by its value, and `{{` and `}}` by single braces.

    In a text that has single braces too, as a pasted ruleset or JSON, a `}}` that closes no `{{` is two braces. What is
    put in is not looked at again. Raises UnknownPlaceholder for a name that has no value.
    """
    has_single = any(found[0] in ("{", "}") for found in _TEMPLATE.finditer(text))
    opened = 0

    def replace(found: re.Match[str]) -> str:
        nonlocal opened
        if (name := found["name"]) is not None:
            if name not in values:
                raise UnknownPlaceholder(name)
            return values[name]
        if found[0] == "{{":
            opened += 1
            return "{"
        if found[0] == "}}" and (opened > 0 or not has_single):
            opened -= 1
            return "}"
        return found[0]

    return _TEMPLATE.sub(replace, text)


def verbatim(text: str) -> str:
    """A template of which `substitute` makes this very text."""
    return text.replace("{", "{{").replace("}", "}}")


class UnknownPlaceholder(ValueError):
    """A `{name}` that no axis gives."""

    def __init__(self, name: str) -> None:
        super().__init__(f"names {{{name[:60]}}}, which no axis of [matrix] gives")
        self.name = name
