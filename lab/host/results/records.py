"""JSON and the records of lab/core: converted into each other here and nowhere else. Keys without a field are left."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Generic, TypeVar

import msgspec

from lab.core.manifest import Manifest

_T = TypeVar("_T")
_NUMBERS_END = 2**64  # the kernel's counters have 64 bits
_DOCUMENT = "document"  # a field of this name has the whole document that its record was made of
_MISSING = "Object missing required field "
_ANY_NUMBER = "axes"  # what a scenario says may be negative


class Wrong(ValueError):
    """A document that is not what the lab writes; the message says where, and what is there."""


@dataclass(frozen=True)
class Readable(Generic[_T]):
    """A document as far as it can be read: `wrong` names what cannot be, and what every version has and this lacks."""

    record: _T | None  # None where one of its own fields without a default is wrong
    wrong: tuple[str, ...]


def whole(kind: type[_T], content: object) -> _T:
    """The record that a document is. Raises Wrong where any part of it is not what it must be."""
    try:
        record = msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise Wrong(_in_words(str(error))) from error
    if (strange := _strange_number(record)) is not None:
        raise Wrong(strange)
    return record


def readable_parts(kind: type[_T], content: Mapping[str, Any], place: str = "") -> Readable[_T]:
    """The record of a document of which anything may be damaged: what cannot be read has its default."""
    values: dict[str, Any] = {}
    wrong: list[str] = []
    is_whole = True
    hints = _types(kind)  # type: ignore[arg-type]
    for field in fields(kind):  # type: ignore[arg-type]
        name = f"{place}{field.name}"
        if field.name == _DOCUMENT:
            values[_DOCUMENT] = content
            continue
        found = _part(hints[field.name], content[field.name], name) if field.name in content else None
        if found is not None:
            wrong += found.wrong
        if found is not None and found.record is not MISSING:
            values[field.name] = found.record
        elif field.default is MISSING and field.default_factory is MISSING:
            wrong.append(name)
            is_whole = False
    return Readable(kind(**values) if is_whole else None, tuple(dict.fromkeys(wrong)))


def whole_manifest(document: Mapping[str, Any]) -> Manifest:
    """The manifest that a document is. Raises Wrong where any part of it is not what it must be."""
    found = readable_parts(Manifest, document)
    if found.record is None or found.wrong:
        raise Wrong(f"the manifest's {', '.join(found.wrong)}")
    return found.record


def to_json(record: object) -> dict[str, Any]:
    """The document of a record; what it was made of, where it has that."""
    content: dict[str, Any] = msgspec.to_builtins(record)
    if isinstance(record, Manifest):
        content["provisioner"] = record.provisioner.document
        content["targets"] = {name: target.document for name, target in record.targets.items()}
    return content


def _part(kind: Any, value: object, place: str) -> Readable[Any]:
    """The same of a field of this type; MISSING where it cannot be read."""
    choices = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for choice in choices:
        if is_dataclass(choice) and isinstance(value, Mapping):
            found: Readable[Any] = readable_parts(typing.cast(type, choice), value, f"{place}.")
            return found if found.record is not None else Readable(MISSING, found.wrong)
        inner = typing.get_args(choice)[1:]
        if inner and is_dataclass(inner[0]) and isinstance(value, Mapping):
            return _table(typing.cast(type, inner[0]), value, place)
    try:
        return Readable(whole(kind, value), ())
    except Wrong:
        return Readable(MISSING, (place,))


def _table(kind: type, value: Mapping[str, Any], place: str) -> Readable[Any]:
    records: dict[str, object] = {}
    wrong: list[str] = []
    for name, content in value.items():
        found = _part(kind, content, f"{place}.{name}")
        wrong += found.wrong
        if found.record is not MISSING:
            records[name] = found.record
    return Readable(records, tuple(wrong))


@functools.cache
def _types(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _in_words(error: str) -> str:
    """`drops: expected int | null, got str`, of msgspec's "Expected `int | null`, got `str` - at `$.drops`"."""
    what, _, place = error.replace("`", "").partition(" - at $")
    if what.startswith(_MISSING):
        place, what = f"{place}.{what.removeprefix(_MISSING)}", "is missing"
    else:
        what = f"{what[:1].lower()}{what[1:]}"
    return f"{place.removeprefix('.')}: {what}" if place else what


def _strange_number(value: object, place: str = "") -> str | None:
    """The first number that is no count and no time: negative, infinite, none, or larger than the kernel's."""
    if isinstance(value, bool | str) or value is None:
        return None
    if isinstance(value, int | float):
        return None if 0 <= value < _NUMBERS_END else f"{place}: is {value!r:.40}"
    if is_dataclass(value):
        inner = [(name, part) for name, part in vars(value).items() if name not in (_ANY_NUMBER, _DOCUMENT)]
    elif isinstance(value, Mapping):
        inner = [(str(name)[:40], part) for name, part in value.items()]
    else:
        inner = [(str(index), part) for index, part in enumerate(typing.cast(tuple[object, ...], value))]
    found = (_strange_number(part, f"{place}.{name}" if place else name) for name, part in inner)
    return next((strange for strange in found if strange is not None), None)
