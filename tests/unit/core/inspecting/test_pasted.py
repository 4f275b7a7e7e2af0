"""Pasted texts: what they prove, and what they do not."""

from __future__ import annotations

import pytest

from lab.core.inspecting.inspection import Look, inspect
from lab.core.inspecting.pasted import pasted_record, with_backends

EMPTY = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n"
RULES = EMPTY + "-A INPUT -m state --state NEW -j ACCEPT\n"
LISTED = "Chain INPUT (policy ACCEPT)\ntarget prot opt source destination\nACCEPT all -- anywhere anywhere\n"
NFT = "table ip filter {\n\tchain INPUT {\n\t\tct state new accept\n\t}\n}\n"
UNAME = "Linux web1 6.1.0-50-amd64 #1 SMP x86_64 GNU/Linux\n"


def look(**texts: str) -> Look:
    return inspect(pasted_record({"uname": UNAME, **texts}, "x")).looks[0]


def test_an_empty_list_of_an_unknown_backend_proves_nothing_of_the_other() -> None:
    found = look(rules=EMPTY, nft="table ip filter {\n}\n", lsmod="Module Size Used by\nnf_tables 1 0\nip_tables 1 0\n")
    assert found.attached.answer is None
    assert any("legacy rules of IPv4" in gap.what for gap in found.attached.gaps)


@pytest.mark.parametrize(
    ("items", "backend"),
    [
        ({"modules": "nf_tables 1 0 - Live 0x0\n"}, "nft"),
        ({"modules": "ip_tables 1 0 - Live 0x0\n"}, "legacy"),
        ({"ruleset.nft": NFT}, "nft"),
        ({}, "legacy"),
    ],
)
def test_rules_are_of_the_backend_that_can_have_them(items: dict[str, str], backend: str) -> None:
    for text in (RULES, LISTED):
        found, notes = with_backends({**items, "iptables-save": text})
        assert found[f"iptables-{backend}-save"] == text
        assert notes


def test_what_is_nothing_known_is_named_in_one_line() -> None:
    problems = inspect(pasted_record({"a": RULES, **{f"f{number}": "sun\n" for number in range(9)}}, "x")).problems
    assert sum("f0, f1, f2 and 6 more" in problem for problem in problems) == 1


def test_rules_that_hold_are_named_whatever_else_is_missing() -> None:
    assert look(rules=RULES).attached.answer is True
