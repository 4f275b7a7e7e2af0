"""Documents and records: what is read of a damaged one, and that the types say what the published schemas say."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.core import manifest, result
from lab.core.holders.model import Holder
from lab.core.manifest import ALWAYS, Manifest
from lab.core.result import CellResult, Results
from lab.host.publish.schemas import schema_text
from lab.host.results.records import Wrong, readable_parts, to_json, whole
from tests.recordings import GOLDEN

Json = dict[str, Any]
RESULTS = sorted((GOLDEN / "results").glob("*.result.json"))
MANIFESTS = sorted((GOLDEN / "results").glob("manifest*.json"))

# -- documents of real runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_a_real_result_comes_back_as_it_was_written(path: Path) -> None:
    document = json.loads(path.read_text())
    again = json.loads(json.dumps(to_json(whole(CellResult, document))))
    assert {name: again[name] for name in document if name != "holders"} == {
        name: value for name, value in document.items() if name != "holders"
    }
    assert [name for name in again if name in document] == list(document), "the order of the keys"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_real_manifest_comes_back_as_it_was_written(path: Path) -> None:
    document = json.loads(path.read_text())
    found = readable_parts(Manifest, document)
    assert found.record is not None and found.wrong == ()
    again = json.loads(json.dumps(to_json(found.record)))
    assert {name: again[name] for name in document if name != "overrides"} == {
        name: value for name, value in document.items() if name != "overrides"
    }


# -- damaged ones -----------------------------------------------------------------------------------------------------

WRONG: Mapping[str, tuple[Json, str]] = {
    "another type": ({"drops": "7"}, "drops: expected int | null, got str"),
    "no whole number": ({"repeat": 1.5}, "repeat: expected int, got float"),
    "a truth for a number": ({"repeat": True}, "repeat: expected int, got bool"),
    "below zero": ({"drops": -1}, "drops: is -1"),
    "no number": ({"first_drop_seconds": float("nan")}, "first_drop_seconds: is nan"),
    "more than a counter has": ({"entries_peak": 2**64}, "entries_peak: is 18446744073709551616"),
    "a part that is none": ({"tries": [{"number": 1, "lost": None}]}, "tries[0].stages_seconds: is missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_result_is_named(name: str) -> None:
    damage, words = WRONG[name]
    with pytest.raises(Wrong) as caught:
        whole(CellResult, {**json.loads(RESULTS[0].read_text()), **damage})
    assert str(caught.value) == words


def test_an_axis_may_be_negative_and_a_later_key_is_left_out() -> None:
    document = {**json.loads(RESULTS[0].read_text()), "axes": {"offset": -5}, "later": -1}
    assert whole(CellResult, document).axes == {"offset": -5}


def test_of_a_damaged_manifest_the_rest_is_read() -> None:
    targets = {"debian12": {"kernel_release": 5, "image": "debian12", "later": 1}, "forky": 7}
    found = readable_parts(Manifest, {"host": "x", "overrides": {"max": "many", "connections": 9}, "targets": targets})
    assert found.record is not None
    assert set(found.wrong) == {"host", "overrides.max", "targets.debian12.kernel_release", "targets.forky"}
    assert (found.record.host, found.record.overrides.connections) == (manifest.Host(), 9)
    (target,) = found.record.targets.values()
    assert (target.image, target.kernel_release, target.document) == ("debian12", None, targets["debian12"])


def test_what_every_manifest_has_is_in_its_schema() -> None:
    assert set(ALWAYS) <= set(json.loads(schema_text("manifest"))["required"])


# -- the schemas ------------------------------------------------------------------------------------------------------

# records, and where the schema has each: a field is a key, one without a default is required
RECORDS: tuple[tuple[str, str, type], ...] = (
    ("results", "", Results),
    ("results", "cell", CellResult),
    ("results", "load_entries", result.StoredEntries),
    ("results", "connections", result.Connections),
    ("results", "memory", result.Memory),
    ("results", "mitigation", result.Mitigation),
    ("results", "peer", result.Peer),
    ("results", "holder", Holder),
    ("results", "proofs", result.StoredProofs),
    ("results", "try", result.Try),
    ("manifest", "", Manifest),
    ("manifest", "options", manifest.StoredOptions),
    ("manifest", "replay_of", manifest.ReplayOf),
)
# what a manifest may lack when it is damaged, and the schema of whole ones requires
_READ_DAMAGED = (Manifest, manifest.StoredOptions)
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", types.NoneType: "null"}


@pytest.mark.parametrize(("schema", "part", "record"), RECORDS, ids=lambda value: getattr(value, "__name__", value))
def test_a_record_has_the_keys_and_types_of_its_schema(schema: str, part: str, record: type) -> None:
    document = json.loads(schema_text(schema))
    described = document["$defs"][part] if part else document
    hints = typing.get_type_hints(record)
    assert {field.name for field in fields(record)} == set(described["properties"])
    for field in fields(record):
        key = described["properties"][field.name]
        if record not in _READ_DAMAGED:
            assert schema_types(key, document) == type_names(hints[field.name]), field.name
    if record not in _READ_DAMAGED:
        required = {field.name for field in fields(record) if not has_default(field)}
        # the version is written always, and taken to be the first where it is absent
        assert required == set(described.get("required", ())) - {"schema_version"}


def has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def schema_types(key: Json, document: Json) -> set[str]:
    """The JSON types that a key may have; an integer is a number, too."""
    if "$ref" in key:
        return schema_types(document["$defs"][key["$ref"].removeprefix("#/$defs/")], document)
    if "anyOf" in key:
        return set[str]().union(*(schema_types(one, document) for one in key["anyOf"]))
    if "enum" in key or "const" in key:
        return {_TYPES[type(value)] for value in key.get("enum", [key.get("const")])}
    found = key["type"]
    return set(found) if isinstance(found, list) else {found}


def type_names(hint: Any) -> set[str]:
    """The same of a field's type."""
    if isinstance(hint, types.UnionType):
        names = set[str]().union(*map(type_names, typing.get_args(hint)))
        return names - {"integer"} if "number" in names else names
    if is_dataclass(hint) or (typing.get_origin(hint) is not None and issubclass(typing.get_origin(hint), Mapping)):
        return {"object"}
    return {"array"} if typing.get_origin(hint) is tuple else {_TYPES[hint]}
