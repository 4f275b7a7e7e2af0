"""Packages of a scenario's machine, and steps and expectations that belong to several values of an axis."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from lab.core.errors import ScenarioError
from lab.core.facts import Facts
from lab.core.plan import Cell, describe, plan_cell, variants
from lab.core.scenario import RunStep, Scenario, parse_scenario, scenario_digest
from lab.core.scenario.expectation import expected_for
from lab.host.publish.schemas import schema_text
from tests import ROOT

HEAD = 'version = 1\nname = "x"\nsummary = "Is it?"\n'
STATES = """
[matrix]
state = ["before", "running", "stopped"]
[[state]]
run = ["start"]
when = { state = ["stopped", "running"] }
[[state]]
run = ["stop"]
when = { state = ["stopped"] }
[[expect]]
state = ["before", "stopped"]
finding = "untracked"
[[expect]]
finding = "table-full"
"""


def parse(text: str) -> Scenario:
    return parse_scenario(HEAD + text, "x.toml")


def machine(packages: str) -> Scenario:
    return parse(f"[machine]\npackages = {packages}\n")


def test_packages_are_a_set_whatever_their_order() -> None:
    one, other = machine('["ufw", "dbus"]'), machine('["dbus", "ufw", "ufw"]')
    assert one.machine.packages == other.machine.packages == ("dbus", "ufw")
    assert scenario_digest(one) == scenario_digest(other) != scenario_digest(machine('["ufw"]'))
    assert scenario_digest(machine("[]")) == scenario_digest(parse(""))


def test_a_plan_and_a_dry_run_say_the_packages() -> None:
    (variant,) = variants(machine('["ufw"]'))
    plan = plan_cell(Cell(variant, "debian12"))
    document = plan.to_json()
    assert document["machine"]["packages"] == ["ufw"]  # type: ignore[index]
    jsonschema.validate(json.loads(json.dumps(document)), json.loads(schema_text("plan")))
    assert "packages ufw" in describe(plan)[1]
    (without,) = variants(parse(""))
    assert "packages" not in plan_cell(Cell(without, "debian12")).to_json()["machine"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        ('["UFW"]', "machine.packages[0]: is the text"),
        ('["ufw=0.36"]', "no name of a Debian package"),
        ('["../ufw"]', "no name of a Debian package"),
        ('["a_b"]', "no name of a Debian package"),
        ("[7]", "must be text"),
        (json.dumps([f"package-{number}-of-many" for number in range(9)]), "too long for a folder"),
    ],
)
def test_what_is_no_package_is_refused(packages: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=words.replace("[", r"\[")):
        machine(packages)


def test_a_step_and_an_expectation_can_belong_to_several_values() -> None:
    scenario = parse(STATES)
    steps = {
        variant.axes["state"]: [
            planned.step.argv[0]
            for planned in plan_cell(Cell(variant, "debian12")).steps
            if isinstance(planned.step, RunStep)
        ]
        for variant in variants(scenario)
    }
    assert steps == {"before": [], "running": ["start"], "stopped": ["start", "stop"]}
    found = {
        str(variant.axes["state"]): expected_for(scenario.expectations, variant.axes, Facts("debian12", "6.1.0"))
        for variant in variants(scenario)
    }
    findings = {state: expected.finding for state, expected in found.items() if expected is not None}
    assert findings == {"before": "untracked", "running": "table-full", "stopped": "untracked"}
    assert scenario.state[0].when == {"state": ("running", "stopped")}  # in the axis' order
    assert scenario.state[1].when == {"state": "stopped"}  # one value in a list is that value
    one = parse(STATES.replace('state = ["stopped"] }', 'state = "stopped" }'))
    assert scenario_digest(one) == scenario_digest(scenario)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("[]", "is an empty list"),
        ('["stoped"]', "did you mean 'stopped'"),
        ("[1]", "must be one of"),
        ("[[]]", "a list"),
    ],
)
def test_values_that_the_axis_lacks_are_refused(values: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(STATES.replace('["stopped", "running"]', values))
    assert words in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("path", sorted((ROOT / "scenarios/programs").glob("*.toml")), ids=lambda path: path.stem)
def test_the_schema_knows_what_the_shipped_files_say(path: Path) -> None:
    jsonschema.validate(tomllib.loads(path.read_text(encoding="utf-8")), json.loads(schema_text("scenario")))
