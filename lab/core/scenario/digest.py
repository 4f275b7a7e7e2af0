"""What a scenario means, and the digest of that."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from lab.core.scenario.condition import Condition, Requirement
from lab.core.scenario.expectation import Expectation
from lab.core.scenario.model import TOPOLOGIES, Scenario, Step


def scenario_digest(scenario: Scenario) -> str:
    """The sha256 of what a scenario means.

    An optional key that is absent does not count, so that a key added to the format later leaves the digests of older
    files, and with them old results, comparable.
    """
    canonical = json.dumps(
        scenario_meaning(scenario), sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str
    )
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def scenario_meaning(scenario: Scenario) -> dict[str, object]:
    """What a scenario means: state, load, table, machine, matrix and what is expected.

    Its name, summary, reasons, comments and layout do not count.
    """
    return {
        "version": scenario.version,
        "matrix": scenario.matrix,
        "state": [_meaning_of_step(step) for step in scenario.state],
        "machine": _meaning_of_machine(scenario),
        "conntrack": _meaning_of(scenario.conntrack),
        "load": _meaning_of(scenario.load),
        "expect": [_meaning_of_expectation(one) for one in scenario.expectations],
        **({"during": during} if (during := [_meaning_of_step(step) for step in scenario.during]) else {}),
        **({"requires": requires} if (requires := _meaning_of_requirement(scenario.requires)) else {}),
    }


def _meaning_of_step(step: Step) -> dict[str, object]:
    return {"kind": type(step).__name__} | _meaning_of(step)


def _meaning_of_machine(scenario: Scenario) -> dict[str, object]:
    """A path that `topology` can name goes by that: the digests of older files stay."""
    said = _meaning_of(scenario.machine)
    old = {path: name for name, path in TOPOLOGIES.items()}.get(str(said.get("path")))
    return said if old is None else {**{name: value for name, value in said.items() if name != "path"}, "topology": old}


def _meaning_of_expectation(expectation: Expectation) -> dict[str, object]:
    return {**_meaning_of(dataclasses.replace(expectation, because="")), **_meaning_of(expectation.condition)}


def _meaning_of_requirement(requirement: Requirement) -> dict[str, object]:
    return {**_meaning_of(requirement), **_meaning_of(requirement.condition)}


def _meaning_of(part: object) -> dict[str, object]:
    """The fields of a dataclass that say something: neither None, nor empty, nor false, nor a condition of its own."""
    if not dataclasses.is_dataclass(part):
        raise TypeError(f"no part of a scenario: {part!r}")
    values = {one.name: getattr(part, one.name) for one in dataclasses.fields(part) if one.compare}
    said = {name: value for name, value in values.items() if value not in (None, "", (), {}, False)}
    return {name: value for name, value in said.items() if not isinstance(value, Condition)}
