"""The published JSON Schemas: documents of real runs, and what the code writes today, are valid, and little else is."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from lab.core.distribution.layout import Root
from lab.core.distribution.settings import BootSettings
from lab.core.errors import ScenarioError
from lab.core.evidence import UNKNOWN_MACHINE, Evidence, Snapshot
from lab.core.facts import Facts
from lab.core.judging.cell_result import cell_result
from lab.core.judging.finding import Finding, judge
from lab.core.judging.proofs import Proofs, prove
from lab.core.plan import Cell, Variant, plan_cell
from lab.core.result import CellResult, Try
from lab.core.scenario import parse_scenario
from lab.core.scenario.expectation import FINDING_EVIDENCE, FINDINGS, Expectation
from lab.host.distributions.bundle import DistributionBundle
from lab.host.distributions.image_file import ImageFile
from lab.host.images import Image
from lab.host.machines.kinds import parse_target
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.command import KVM, TCG
from lab.host.machines.qemu.distribution import PreparedDistribution
from lab.host.machines.qemu.preparing import PreparedImage
from lab.host.machines.qemu.provisioner import QemuProvisioner
from lab.host.options import Deadlines
from lab.host.results.records import to_json, whole
from lab.host.results.store import results_json
from tests import ROOT, recordings
from tests.records import stored_plan

GOLDEN = recordings.GOLDEN / "results"
SCENARIOS = sorted((ROOT / "scenarios").glob("*.toml"))
RESULTS = sorted(GOLDEN.glob("*.result.json"))
MANIFESTS = sorted(GOLDEN.glob("manifest*.json"))

Json = dict[str, Any]
Damage = Callable[[Json], object]


def schema(name: str) -> Json:
    return read(ROOT / "lab" / "schemas" / f"{name}.schema.json")


def read(path: Path) -> Json:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def errors(document: object, of: str, part: str = "") -> list[str]:
    """What is wrong with a document, by a schema of the package or one of its definitions; empty when it is valid."""
    whole = schema(of)
    used = {"$schema": whole["$schema"], "$ref": f"#/$defs/{part}", "$defs": whole["$defs"]} if part else whole
    return [error.message for error in jsonschema.Draft202012Validator(used).iter_errors(document)]


def stored(document: object) -> object:
    """As it is after it was written and read: tuples are lists then."""
    return json.loads(json.dumps(document))


@pytest.mark.parametrize("name", ["scenario", "results", "manifest"])
def test_the_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))


# -- documents of real runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_real_results_are_valid(path: Path) -> None:
    assert errors(read(path), "results", "cell") == []


def test_a_real_results_document_is_valid() -> None:
    assert errors(read(GOLDEN / "results.json"), "results") == []
    assert errors(stored(results_json([whole(CellResult, read(path)) for path in RESULTS])), "results") == []


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_real_manifests_are_valid(path: Path) -> None:
    assert errors(read(path), "manifest") == []


# -- what the code writes today ---------------------------------------------------------------------------------------

_PLANNED = plan_cell(
    Cell(Variant(parse_scenario('version = 1\nname = "one"\nsummary = "For a test."\n', "one.toml")), "debian12")
)
PLAN = stored_plan(json.loads(json.dumps(_PLANNED.to_json())))
NOTHING = judge(Evidence())


@pytest.mark.parametrize("expected", [None, Expectation("untracked"), Expectation("untracked", because="so it is")])
@pytest.mark.parametrize(
    "proofs", [None, prove(Evidence(), NOTHING), Proofs(None, False, True, (), False, "they differ")]
)
def test_a_result_of_nothing_at_all_is_valid(expected: Expectation | None, proofs: Proofs | None) -> None:
    for tries in ((), (Try(1, "it vanished", {"boot": 3.2}), Try(2, None, {}))):
        result = cell_result(PLAN, NOTHING, proofs, expected, UNKNOWN_MACHINE, tries)
        assert errors(stored(results_json([result])), "results") == []


def test_every_finding_of_the_code_is_in_both_schemas() -> None:
    assert schema("results")["$defs"]["finding"]["enum"] == list(FINDING_EVIDENCE)
    assert schema("scenario")["properties"]["expect"]["items"]["properties"]["finding"]["enum"] == list(FINDINGS)


def test_every_key_of_a_result_is_described() -> None:
    result = to_json(cell_result(PLAN, Finding("inconclusive", "for a test"), None, None, UNKNOWN_MACHINE, ()))
    cell = schema("results")["$defs"]["cell"]
    assert set(cell["properties"]) == set(result)
    # those that came after the first version are not required, so that older results stay valid
    assert set(result) - set(cell["required"]) == {
        "versions",
        "programs_of_lab",
        "open_peak",
        "newcomers",
        "errors",
        "memory",
        "mitigation",
        "load_entries",
        "drops_while_full",
        "counter_resets",
        "losses",
        "message_before_load",
        "message_namespaces",
        "dead",
        "families",
    }


def test_holders_read_from_rules_are_valid() -> None:
    texts = {
        "modules": "nf_conntrack 188416 2 nf_nat,xt_MASQUERADE, Live 0x0000000000000000\n",
        "modprobe.d": "/etc/modprobe.d/lab.conf: options nf_conntrack enable_hooks=1\n",
        "iptables-legacy-save": "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n",
    }
    absent = dict.fromkeys(("iptables-nft-save", "ruleset.nft", "ruleset.json"), "nf_tables is not loaded")
    evidence = Evidence(after=Snapshot(texts, absent), facts=Facts("debian12", "6.1.0-50-cloud-amd64"))
    result = stored(to_json(cell_result(PLAN, NOTHING, prove(evidence, NOTHING), None, evidence.facts, ())))
    assert isinstance(result, dict)
    assert [holder["kind"] for holder in result["holders"]] == ["rule", "option"]
    assert errors(result, "results", "cell") == []


@pytest.mark.parametrize("accelerator", [TCG, KVM], ids=lambda accelerator: accelerator.name)
def test_what_a_provisioner_says_of_itself_is_valid(accelerator: Any) -> None:
    qemu = QemuBinary("/usr/bin/qemu-system-x86_64", "QEMU emulator version 10.0.2", (10, 0, 2), "a processor")
    assert errors(QemuProvisioner(qemu, accelerator, Deadlines()).manifest(), "manifest", "provisioner") == []


def test_what_a_target_says_of_itself_is_valid() -> None:
    image = Image("debian12", "0" * 64, Path("image"), "6.1.0", {"root.ext4": "1" * 64}, "2026-01-01T00:00:00+00:00")
    assert errors(PreparedImage(parse_target("debian12"), image, None).manifest(), "manifest", "target") == []
    root = Root("vdb1", "xfs", "ro", {"ID": "test", "PRETTY_NAME": "Test 1"})
    boot = BootSettings(("nf_conntrack",), {"net.ipv4.ip_forward": "1"}, ("nftables.service",))
    bundle = DistributionBundle(root, "6.1.0", "2" * 64, False, {"kernel": "6.1"}, boot, Path("bundle"), {}, "")
    file = ImageFile(Path("x.qcow2"), "qcow2", "2" * 64)
    distribution = PreparedDistribution(parse_target("image:x.qcow2"), file, bundle, image)
    assert errors(distribution.manifest(), "manifest", "target") == []


def test_the_deadlines_of_the_code_are_those_of_the_schema() -> None:
    names = [field.name for field in fields(Deadlines)]
    assert schema("manifest")["$defs"]["deadlines_seconds"]["required"] == names
    assert errors(vars(Deadlines()), "manifest", "deadlines_seconds") == []


# -- and little else --------------------------------------------------------------------------------------------------


def put(**values: object) -> Damage:
    return lambda document: document.update(values)


RESULT_DAMAGES: Mapping[str, Damage] = {
    "an unknown key": put(more=1),
    "an unknown finding": put(finding="fine"),
    "a newer version": put(schema_version=2),
    "a count below zero": put(drops=-1),
    "a count that is text": put(drops="1903"),
    "unknown as a missing key": lambda document: document.pop("early_drops"),
    "a cause without other-loss": put(cause="reset"),
    "as_expected without an expectation": put(expected=None),
    "a cell's name that is a path": put(cell="../x@debian12"),
    "a max that changed to itself": put(max_changed=[100]),
    "an unknown stage": lambda document: document["stages_seconds"].update(nap=1.0),
    "a third try": lambda document: document["tries"].extend([document["tries"][0]] * 2),
    "connections of an unknown kind": lambda document: document["connections"].update(sleeping=0),
    "a holder of an unknown kind": lambda document: document["holders"][0].update(kind="spell"),
}


@pytest.mark.parametrize("damage", RESULT_DAMAGES.values(), ids=RESULT_DAMAGES)
def test_a_damaged_result_is_not_valid(damage: Damage) -> None:
    document = copy.deepcopy(read(GOLDEN / "table-full.result.json"))
    damage(document)
    assert errors(document, "results", "cell")
    assert errors({"schema_version": 1, "cells": [document]}, "results")


MANIFEST_DAMAGES: Mapping[str, Damage] = {
    "an unknown key": put(more=1),
    "no targets": put(targets={}),
    "a time without its zone": put(started_at="2026-01-01T00:00:00"),
    "a digest that is none": put(agent_sha256="abc"),
    "an unknown accelerator": lambda document: document["provisioner"].update(accelerator="magic"),
    "a stage without time": lambda document: document["deadlines_seconds"].update(load=0),
}


@pytest.mark.parametrize("damage", MANIFEST_DAMAGES.values(), ids=MANIFEST_DAMAGES)
def test_a_damaged_manifest_is_not_valid(damage: Damage) -> None:
    document = read(GOLDEN / "manifest.json")
    damage(document)
    assert errors(document, "manifest")


# -- scenarios --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name)
def test_shipped_scenarios_are_valid(path: Path) -> None:
    assert errors(tomllib.loads(path.read_text(encoding="utf-8")), "scenario") == []


HEAD = 'version = 1\nname = "one"\nsummary = "For a test."\n'
WRONG_SCENARIOS = {
    "no version": 'name = "one"\nsummary = "For a test."\n',
    "an unknown key": HEAD + "colour = 1\n",
    "a newer version": HEAD.replace("version = 1", "version = 2"),
    "two steps in one": HEAD + '[[state]]\nrun = ["true"]\nunload = ["x"]\n',
    "a step that does nothing": HEAD + "[[state]]\n",
    "no connections": HEAD + "[load]\nconnections = 0\n",
    "an unknown load": HEAD + '[load]\nkind = "hope"\n',
    "an unknown finding": HEAD + '[[expect]]\nfinding = "fine"\n',
    "a condition that compares nothing": HEAD + '[[expect]]\nkernel = "4.14"\nfinding = "untracked"\n',
    "an unknown backend": HEAD + '[matrix]\niptables = ["ebpf"]\n',
    "an axis with the name of a key": HEAD + "[matrix]\nkernel = [1]\n",
    "an unknown timeout": HEAD + "[conntrack.timeouts]\ntcp_hello = 1\n",
}


@pytest.mark.parametrize("text", WRONG_SCENARIOS.values(), ids=WRONG_SCENARIOS)
def test_what_the_lab_refuses_the_schema_refuses_too(text: str) -> None:
    with pytest.raises(ScenarioError):
        parse_scenario(text, "one.toml")
    assert errors(tomllib.loads(text), "scenario")
