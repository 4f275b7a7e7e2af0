"""Reading a TOML document: values of the type asked for, and every problem noted with its key and a hint."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lab.core.errors import ScenarioError
from lab.core.scenario.expectation import AxisValue

_MAX_PROBLEMS_SHOWN = 20
MAX_NUMBER = 2**31 - 1  # nf_conntrack_max is an int in the kernel
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A hint for an unknown word: the nearest known one, else (also when it is no text) all of them."""
    names = list(known)
    nearest = difflib.get_close_matches(word, names, n=1) if isinstance(word, str) else []
    if nearest:
        return f"did you mean {nearest[0]!r}?"
    return f"known are: {', '.join(names)}" if names else "none are known here"


@dataclass(frozen=True)
class Problem:
    key: str
    what: str
    hint: str


class Table:
    """A TOML table being read: hands out values of the type asked for, and notes what is wrong instead of raising.

    An absent or wrong value is given as the default, so that the reader goes on and finds every problem.
    """

    def __init__(self, values: object, key: str, problems: list[Problem]) -> None:
        self._is_table = isinstance(values, dict)  # else that has been noted, and nothing is missing in it
        self._values: Mapping[str, object] = values if isinstance(values, dict) else {}
        self._key = key
        self._problems = problems
        self._asked: list[str] = []
        self._wrong: set[str] = set()
        self.sound = True  # whether no problem has been noted in this very table

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def names(self) -> tuple[str, ...]:
        return tuple(self._values)

    def is_wrong(self, name: str) -> bool:
        """Whether the value was not of the type asked for."""
        return name in self._wrong

    def problem(self, name: str, what: str, hint: str) -> None:
        """Note what is wrong with a key of this table, or, with an empty name, with the table."""
        self.sound = False
        self._problems.append(Problem(self._path(name), what, hint))

    def take(self, name: str) -> object:
        """The value as it is, None when absent."""
        if name not in self._asked:
            self._asked.append(name)
        return self._values.get(name)

    def finish(self, also: Iterable[str] = (), what: str = "key") -> None:
        """Note the keys that nobody asked for; `also` are further ones that would be right."""
        known = dict.fromkeys((*self._asked, *also))
        for name in self._values:
            if name not in known:
                self.problem(name, f"is an unknown {what}", did_you_mean(name, known))

    def text(self, name: str, *, required: bool = False) -> str:
        value = self.take(name)
        if value is None:
            if required and self._is_table:
                self.problem(name, "is missing", f'add: {name} = "..."')
            return ""
        if not isinstance(value, str):
            self._wrong_type(name, value, "text", f'write {name} = "..."')
            return ""
        return value

    def line(self, name: str, *, required: bool = False) -> str:
        """A text that is shown to people: one line, nothing that steers a terminal."""
        value = self.text(name, required=required)
        if not value.isprintable():
            self.problem(name, "has a line break or another control character", "write one plain line")
        elif name in self and not value.strip() and not self.is_wrong(name):
            self.problem(name, "is empty", "write one plain line")
        return value

    def number(self, name: str, default: int, *, high: int = MAX_NUMBER) -> int:
        """A whole number from 1 to `high`."""
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong_type(name, value, "a whole number", f"write {name} = {default or 100}")
            return default
        if not 1 <= value <= high:
            self.problem(name, f"is {said(value)}, must be 1 to {high}", f"write a number from 1 to {high}")
            return default
        return value

    def seconds(self, name: str, high: float) -> float | None:
        """A time of 0 to `high` seconds."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong_type(name, value, "a number of seconds", f"write {name} = 0.5")
            return None
        if not 0 <= value <= high:
            self.problem(name, f"is {said(value)}, must be 0 to {high:g}", f"write a number from 0 to {high:g}")
            return None
        return float(value)

    def choice(self, name: str, known: Iterable[str]) -> str | None:
        """One of the known words."""
        value = self.text(name)
        if not value:
            return None
        if value not in (words := tuple(known)):
            self.problem(name, f"is {said(value)}, must be one of {quoted(words)}", did_you_mean(value, words))
            return None
        return value

    def flag(self, name: str) -> bool:
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            self._wrong_type(name, value, "true or false", f"write {name} = true")
        return value is True

    def items(self, name: str) -> tuple[object, ...] | None:
        """A list's items; None when it is absent or no list."""
        value = self.take(name)
        if isinstance(value, list):
            return tuple(value)
        if value is not None:
            self._wrong_type(name, value, "a list", f"write {name} = [...]")
        return None

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of texts; None when it is absent or no list, and without those items that are no texts."""
        values = self.items(name)
        for index, value in enumerate(values or ()):
            if not isinstance(value, str):
                self._wrong_type(f"{name}[{index}]", value, "text", "put it in quotes")
        texts = tuple(value for value in values or () if isinstance(value, str))
        return None if values is None or (values and not texts) else texts

    def table(self, name: str) -> Table:
        """A table in this one; an empty one when it is absent or no table."""
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            self._wrong_type(name, value, "a table", f"write {name} = {{ ... }}" if self._key else f"write [{name}]")
        return Table({} if value is None else value, self._path(name), self._problems)

    def tables(self, name: str) -> tuple[Table, ...]:
        """The tables of a list of tables."""
        hint = f"begin each with [[{name}]]"
        value = self.take(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            self._wrong_type(name, value, "a list of tables", hint)
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                self._wrong_type(f"{name}[{index}]", item, "a table", hint)
        tables = ((index, item) for index, item in enumerate(value) if isinstance(item, dict))
        return tuple(Table(item, self._path(f"{name}[{index}]"), self._problems) for index, item in tables)

    def _wrong_type(self, name: str, value: object, wanted: str, hint: str) -> None:
        self._wrong.add(name)
        self.problem(name, f"is {said(value)}, must be {wanted}", hint)

    def _path(self, name: str) -> str:
        shown = _shown_key(name)
        return f"{self._key}.{shown}" if self._key and shown else self._key or shown


def problems_error(path: str, problems: list[Problem]) -> ScenarioError:
    """One error for all problems: a single one with its hint, several as lines that end with theirs."""
    if len(problems) == 1:
        (only,) = problems
        return ScenarioError(f"{path}: {only.key}: {only.what}", hint=only.hint)
    lines = [f"{path}: {one.key}: {one.what}; {one.hint}" for one in problems[:_MAX_PROBLEMS_SHOWN]]
    left_out = len(problems) - len(lines)
    more = f"; {left_out} more problems are not shown" if left_out else ""
    return ScenarioError("\n".join(lines), hint=f"each line ends with its hint{more}")


def _shown_key(name: str) -> str:
    """A key as TOML would write it, with an index after it left alone, cut when it is long."""
    bare, bracket, index = name.partition("[")
    if not name or (_BARE_KEY.fullmatch(bare) and (not bracket or index.removesuffix("]").isdecimal())):
        return name
    return json.dumps(name[:60])


_KINDS_OF_VALUES: tuple[tuple[type, str], ...] = (
    (float, "a number with a fraction"),
    (list, "a list"),
    (dict, "a table"),
    (object, "a date or time"),  # all that is left in TOML
)


def said(value: object) -> str:
    """A value as TOML writes it and what it is, bounded: it is the file's, and may be anything."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {json.dumps(value[:60])}{'...' if len(value) > 60 else ''}"
    if isinstance(value, int):
        return f"the number {value}" if abs(value) < 10**30 else "an enormous number"
    return next(name for kind, name in _KINDS_OF_VALUES if isinstance(value, kind))


def quoted(values: Iterable[AxisValue]) -> str:
    return ", ".join(json.dumps(value) for value in values)
