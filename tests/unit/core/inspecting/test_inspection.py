"""Records of real guests: the answer is what the lab's own finding of that state is."""

from __future__ import annotations

import json

import jsonschema  # type: ignore[import-untyped]
import pytest

from lab.core.inspecting.document import document
from lab.core.inspecting.inspection import Inspection, inspect
from lab.core.inspecting.scenario import scenario_of
from lab.core.render.inspection import human, markdown
from lab.host.inspecting.reading import read_record
from lab.host.publish.schemas import schema_text
from tests import ROOT
from tests.unit.core.inspecting.hosts import MASQUERADE, inspected

RECORDS = ROOT / "tests" / "golden" / "records"
# answer, families, what holds it, the first case
EXPECTED = {
    "pristine": (False, (), [], "nothing at all"),
    "nat-present-nft": (True, ("ip",), ["iptables-nft"], "nat rules"),
    "nat-notrack-nft": (False, (), ["iptables-nft"], "rules with notrack"),
    "always-on": (True, ("ip", "ip6"), ["kernel"], "the option that tracks always"),
    "unloaded": (False, (), [], "nothing at all"),
    "orphan-chain-nft": (True, ("ip",), ["iptables-nft"], "rules that no packet reaches"),
    "forwarded-nat-legacy": (True, ("ip",), ["iptables-legacy"], "rules in the backend that `iptables` does not show"),
    "bridge-untracked-legacy": (
        True,
        ("ip",),
        ["iptables-legacy"],
        "rules in the backend that `iptables` does not show",
    ),
    "container-table-legacy": (False, (), [], "loaded, and not attached"),
    "remote-notrack-legacy": (
        True,
        ("ip",),
        ["iptables-legacy"],
        "rules in the backend that `iptables` does not show",
    ),
    "nft-notrack": (False, (), ["nft"], "rules with notrack"),
    "wrong-backend-legacy": (True, ("ip",), ["iptables-legacy"], "nat rules"),
}


def recorded(name: str) -> Inspection:
    return inspect(read_record(str(RECORDS / f"{name}.tar.gz")))


def test_every_record_is_expected() -> None:
    assert {path.name.partition(".")[0] for path in RECORDS.glob("*.tar.gz")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_answer_is_the_labs(name: str) -> None:
    look = recorded(name).looks[0]
    answer, families, backends, case = EXPECTED[name]
    assert (look.attached.answer, look.attached.families) == (answer, families)
    assert [one.backend for one in look.attached.holders] == backends
    assert look.cases[0].name == case
    assert look.attached.gaps == ()
    assert look.status == 0


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_as_its_schema_says(name: str) -> None:
    written = json.loads(json.dumps(document(recorded(name))))
    jsonschema.Draft202012Validator(json.loads(schema_text("inspect"))).validate(written)


def test_other_namespaces_are_read_too() -> None:
    found = recorded("forwarded-nat-legacy")
    assert sorted(name for look in found.looks for name in look.namespace.names) == ["lab-client", "lab-server"]
    assert [look.attached.answer for look in found.looks] == [True, False, False]


def test_what_the_load_of_these_passes_is_named() -> None:
    bridged, remote = (recorded(f"{name}-legacy").looks[0].attached for name in ("bridge-untracked", "remote-notrack"))
    assert {"bridge", "notrack"} >= {bridged.proofs[-1].source, remote.proofs[-1].source}
    assert bridged.proofs[-1].evidence == "frames that a bridge forwards (lab-c0, lab-s0) pass by the hooks of ip"
    assert (bridged.kept_out, remote.kept_out) == ((), ("tcp",))


def test_a_namespace_that_alone_tracks_is_where_the_load_of_its_scenario_begins() -> None:
    made = scenario_of(recorded("container-table-legacy"), "mine", "mine.files", {"debian12": "6.1.0-50-cloud-amd64"})
    assert 'path = "forward"' in made.toml
    assert 'in = "client"\nrun = ["iptables-legacy-restore"' in made.toml
    assert 'finding = "tracked"' in made.toml


def test_a_bridge_that_is_not_carried_is_said() -> None:
    made = scenario_of(recorded("bridge-untracked-legacy"), "mine", "mine.files", {})
    assert any(one.startswith("bridges, which the load does not cross") for one in made.missing)


def test_what_loaded_modules_meanwhile_is_said() -> None:
    found = inspected({"modules_after": "nfnetlink 1 0 - Live 0x0\n"})
    assert any("nfnetlink" in problem for problem in found.problems)
    assert recorded("pristine").problems == ()


def test_namespaces_that_cannot_be_entered_are_one_line() -> None:
    closed = {f"n{number}": {"error": "cannot be entered: EPERM\n"} for number in range(1, 9)}
    problems = inspected({}, {}, **closed).problems
    assert [problem.partition(" and ")[2] for problem in problems] == ["5 more namespaces: cannot be entered: EPERM"]


def test_all_that_is_shown_is_made_safe() -> None:
    evil = '*nat\n-A x -m comment --comment "\x1b[2J``` <b>" -j MASQUERADE\nCOMMIT\n'
    found = inspected({"uname": "6.1.0-\x1b[31m\n"}, {"iptables-legacy-save": evil, "processes": "1 \x1b[2J\n"})
    assert "\x1b" not in human(found)
    assert "```" not in markdown(found).removeprefix("**").split("```text")[1].removesuffix("```")


def test_groups_have_one_command_and_all_are_in_json() -> None:
    rules = "".join(f"-A KUBE-SEP-{n} -j DNAT --to-destination 192.0.2.1:{n + 1}\n" for n in range(500))
    found = inspected({}, {"iptables-legacy-save": f"*nat\n{rules}COMMIT\n"})
    text = human(found)
    assert "iptables-legacy ip nat (500 of them in 500 chains, such as)" in text
    assert text.count("kube-proxy writes its rules again") == 1
    assert "iptables-legacy -t nat -F" in text
    assert len(text.splitlines()) < 60
    assert len(document(found)["namespaces"][0]["holders"]) == 500


def test_the_message_of_another_namespace_names_it() -> None:
    line = "4,1,900000000,-;nf_conntrack: nf_conntrack: table full in netns 5, dropping packet\n"
    own = {"stat_nf_conntrack": "entries drop\n00000000 00000000\n"}
    found = inspected({"kmsg": line}, own, n5={"iptables-legacy-save": MASQUERADE, "processes": "77 nginx\n"})
    assert found.looks[0].cases[0].name == "another namespace's table is full"
    assert "netns 5 is netns of nginx (PID 77)" in human(found)
