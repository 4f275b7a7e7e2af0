"""What a machine says of itself, as facts: unknown is neither yes nor no."""

from __future__ import annotations

from typing import Any

import pytest

from lab.core.facts import Facts, parse_config, parse_facts, relevant_config

SAID = {
    "kernel_release": "6.1.0-50-cloud-amd64",
    "kernel_config": "CONFIG_NF_CONNTRACK=m\nCONFIG_NF_TABLES_INET=y\n# CONFIG_NF_CT_PROTO_DCCP is not set\n",
    "modules_loadable": ["nf_conntrack", "veth"],
    "modules_builtin": ["overlay"],
    "modules_about": ["ve", "nf_"],
    "versions": {"iptables": "iptables v1.8.9 (legacy)", "nft": "nftables v1.0.6 (Lester Gooch #5)", "conntrack": None},
}


def test_what_a_machine_said() -> None:
    facts = parse_facts("debian12", SAID)
    assert facts == Facts(
        "debian12",
        "6.1.0-50-cloud-amd64",
        {"NF_CONNTRACK": "m", "NF_TABLES_INET": "y"},
        frozenset({"nf_conntrack", "veth"}),
        frozenset({"overlay"}),
        {"iptables": "1.8.9", "nft": "1.0.6"},
        about=("nf_", "ve"),
    )
    assert (facts.release.major, facts.version("nft").minor) == (6, 0)
    assert (facts.option("NF_CONNTRACK"), facts.option("NF_CT_PROTO_DCCP")) == ("m", "n")


def test_the_programs_that_the_lab_lent() -> None:
    assert parse_facts("x", {"programs_of_lab": ["nft", "ip"]}).programs_of_lab == ("ip", "nft")
    assert parse_facts("x", {"programs_of_lab": None}).programs_of_lab == ()


@pytest.mark.parametrize("said", [None, {}, {"kernel_release": None, "versions": None}])
def test_what_was_not_said_is_unknown(said: Any) -> None:
    facts = parse_facts("debian12", said)
    assert facts == Facts("debian12")
    for ask in (lambda: facts.release, lambda: facts.version("nft"), lambda: facts.option("NF_NAT")):
        with pytest.raises(ValueError, match=r"unknown|never told"):
            ask()


@pytest.mark.parametrize(
    "said",
    [
        {"kernel_release": 6},
        {"kernel_config": ["CONFIG_X=y"]},
        {"versions": ["1.8.9"]},
        {"modules_loadable": "nf_conntrack"},
        {"modules_builtin": [1]},
    ],
)
def test_what_no_agent_says_is_an_error(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(said)).removeprefix("kernel_") + "|versions"):
        parse_facts("debian12", said)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("iptables v1.4.21", "1.4.21"),
        ("iptables v1.8.13 (nf_tables)", "1.8.13"),
        ("nftables v0.9.8 (E.D.S.)", "0.9.8"),
        ("nftables v1.1.7 (Commodore Bullmoose #8)", "1.1.7"),
    ],
)
def test_the_number_in_what_a_program_prints(text: str, version: str) -> None:
    assert parse_facts("x", {"versions": {"p": text}}).versions == {"p": version}


def test_a_configuration() -> None:
    text = 'CONFIG_A=y\nCONFIG_NF_X="some text"\n# CONFIG_NF_B is not set\n\nCONFIG_NF_C=16\n'
    assert parse_config(text) == {"A": "y", "NF_X": "some text", "NF_C": "16"}
    assert relevant_config(text.splitlines(), ("NF_",)) == 'CONFIG_NF_X="some text"\nCONFIG_NF_C=16\n'
