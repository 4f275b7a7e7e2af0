"""The schemas as they are published: shipped, printed, named, found by editors; and plans held against theirs."""

from __future__ import annotations

import fnmatch
import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from lab.core.manifest import MANIFEST_VERSION
from lab.core.plan import PLAN_VERSION, Cell, plan_cell, variants
from lab.core.result import RESULT_VERSION
from lab.core.scenario import parse_scenario
from lab.host.cli import main as cli
from lab.host.publish.schemas import SCHEMAS, schema_text
from lab.host.scenario_files import load_scenario
from tests import ROOT
from tests.recordings import GOLDEN

SCENARIOS = sorted((ROOT / "scenarios").glob("*.toml"))
VERSIONS = {"results": RESULT_VERSION, "manifest": MANIFEST_VERSION, "plan": PLAN_VERSION}

Json = dict[str, Any]


def schema(name: str) -> Json:
    content: Json = json.loads(schema_text(name))
    return content


def errors(document: object, name: str) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(schema(name)).iter_errors(document)]


def written(document: object) -> object:
    """As it is after it was written and read."""
    return json.loads(json.dumps(document))


def test_every_file_is_published_and_nothing_else() -> None:
    files = {path.name for path in (ROOT / "lab" / "schemas").iterdir()}
    assert files == {f"{name}.schema.json" for name in SCHEMAS}


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_a_schema_with_a_name_of_its_own(name: str) -> None:
    content = schema(name)
    jsonschema.Draft202012Validator.check_schema(content)
    assert content["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert content["$id"] == f"urn:conntrack-lab:schema:{name}:{VERSIONS.get(name, 1)}"
    assert content["title"]
    assert content["description"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_printed_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", name]) == 0
    assert capsys.readouterr().out == (ROOT / "lab" / "schemas" / f"{name}.schema.json").read_text()


def test_it_ships_with_the_package() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["packages"] == ["lab"], "all of it, the schemas too"
    assert not {"exclude", "include", "only-include"} & set(build)
    assert not any(line.endswith(".json") for line in (ROOT / ".gitignore").read_text().splitlines())


def test_editors_find_the_schema_of_the_scenarios() -> None:
    config = tomllib.loads((ROOT / ".taplo.toml").read_text())
    (rule,) = config["rule"]
    assert (ROOT / rule["schema"]["path"]).is_file()
    assert rule["schema"]["path"].endswith("scenario.schema.json")
    for path in SCENARIOS:
        assert any(fnmatch.fnmatch(f"/{path.relative_to(ROOT)}", pattern) for pattern in rule["include"])
        assert any(fnmatch.fnmatch(str(path.relative_to(ROOT)), pattern) for pattern in config["include"])


def test_the_line_for_a_scenario_elsewhere_is_a_comment_to_the_lab() -> None:
    text = '#:schema scenario.schema.json\nversion = 1\nname = "one"\nsummary = "For a test."\n'
    assert parse_scenario(text, "one.toml").name == "one"


# -- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name)
def test_every_plan_of_a_shipped_scenario_is_valid(path: Path) -> None:
    for variant in variants(load_scenario(path)):
        assert errors(written(plan_cell(Cell(variant, "debian12", 2)).to_json()), "plan") == []


@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("plan.json")), ids=lambda path: str(path.relative_to(GOLDEN)))
def test_every_stored_plan_is_valid(path: Path) -> None:
    assert errors(json.loads(path.read_text()), "plan") == []


def test_every_key_of_a_plan_is_described() -> None:
    plan = plan_cell(Cell(variants(load_scenario(SCENARIOS[0]))[0], "debian12")).to_json()
    assert set(schema("plan")["properties"]) - {"during"} == set(plan) == set(schema("plan")["required"])


DAMAGES: dict[str, Json] = {
    "an unknown key": {"more": 1},
    "a newer version": {"schema_version": 2},
    "a step of an unknown kind": {"steps": [{"key": "state[0]", "kind": "pray"}]},
    "a step without a program": {"steps": [{"key": "state[0]", "kind": "run", "argv": [], "refused": False}]},
    "an unknown load": {"load": {"kind": "hope", "connections": 1}},
    "no connections": {"load": {"kind": "hold", "connections": 0}},
    "a cell's name that is a path": {"cell": "../x@debian12"},
    "a setting that is text": {"settings": {"net.netfilter.nf_conntrack_max": "100"}},
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_plan_is_not_valid(name: str) -> None:
    plan = plan_cell(Cell(variants(load_scenario(SCENARIOS[0]))[0], "debian12")).to_json()
    assert errors({**plan, **DAMAGES[name]}, "plan")
