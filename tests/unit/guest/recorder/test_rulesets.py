"""What is asked for, and what is not because asking would load it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.guest import hooks, observe
from lab.guest.recorder import rulesets

ALL_LOADED = {
    "nf_tables",
    "nft_compat",
    "xt_tcpudp",
    "ip_tables",
    "ip6_tables",
    "nfnetlink_hook",
    "act_ct",
    "openvswitch",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that would be run; each prints its name."""
    argvs: list[str] = []

    def output(name: str, argv: list[str], seconds: float, limit: int = 0) -> dict[str, str]:
        argvs.append(" ".join(argv[:4]) if argv[0] != "sh" else "tc")
        return {name: f"{name}\n"}

    def list_hooks() -> str:
        argvs.append("hooks")
        return ""

    monkeypatch.setattr(rulesets, "output", output)
    monkeypatch.setattr(hooks, "list_hooks", list_hooks)
    monkeypatch.setattr(rulesets, "_no_tables", lambda path: None)
    monkeypatch.setattr(rulesets, "_no_program", lambda name: None)
    return argvs


def test_nothing_is_asked_where_nothing_is_there(asked: list[str]) -> None:
    found = rulesets.rulesets(set())
    assert asked == []
    assert all(name.endswith(".error") and "is not loaded" in text for name, text in found.items())


def test_where_nothing_can_be_loaded_all_is_asked(asked: list[str]) -> None:
    rulesets.rulesets(None)
    assert asked[:4] == ["iptables-legacy-save -c -M /bin/false", "ip6tables-legacy-save -c -M /bin/false",
                         "nft -a list ruleset", "ovs-dpctl show"]  # fmt: skip
    assert {"iptables-nft-save -c", "hooks"} <= set(asked)


def test_hooks_are_not_asked_where_that_would_load_their_lister(asked: list[str]) -> None:
    found = rulesets.rulesets({"nf_tables"})
    assert "hooks" not in asked
    assert found["hooks.nft.error"] == "nfnetlink_hook is not loaded"


def test_hooks_that_were_cut_are_not_recorded(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "MAX_TEXT_BYTES", 10)
    monkeypatch.setattr(hooks, "list_hooks", lambda: "0" * 20)
    found = rulesets.rulesets({"nfnetlink_hook"})
    assert "hooks.nft" not in found and "more than can be kept" in found["hooks.nft.error"]


@pytest.mark.parametrize(
    ("text", "present", "loads"),
    [
        ("tcp dport 22 accept", {"nft_compat"}, "xt_tcpudp"),
        ("tcp dport 22 accept", {"nft_compat", "xt_tcpudp"}, None),
        ("limit rate 3/second", {"nft_compat", "xt_tcpudp"}, "xt_limit"),
        ("meta mark set 1", {"nft_compat"}, "xt_mark"),
        ("oifname eth0 masquerade", {"nft_compat"}, None),
    ],
)
def test_iptables_nft_is_not_asked_for_what_it_would_load(text: str, present: set[str], loads: str | None) -> None:
    why = rulesets._could_load(text, present)
    assert (why is None) if loads is None else (why is not None and loads in why)


def test_without_a_rule_of_iptables_nft_it_is_not_asked() -> None:
    assert "nft_compat" in (rulesets._could_load("", {"nf_tables"}) or "")


def test_a_family_without_tables_is_not_saved(tmp_path: Path) -> None:
    names = tmp_path / "ip_tables_names"
    assert "is not loaded" in (rulesets._no_tables(str(names)) or "")
    names.write_text("")
    assert "no table is there" in (rulesets._no_tables(str(names)) or "")
    names.write_text("nat\n")
    assert rulesets._no_tables(str(names)) is None


def test_output_is_bounded_and_failures_say_why() -> None:
    assert rulesets.output("x", ["echo", "hello"], 5) == {"x": "hello\n"}
    assert "ENOENT" in rulesets.output("x", ["no-such-program-here"], 5)["x.error"]
    assert "exit status 3: bad" in rulesets.output("x", ["sh", "-c", "echo bad >&2; exit 3"], 5)["x.error"]
    assert "killed" in rulesets.output("x", ["sleep", "60"], 0.1)["x.error"]
    assert "prints more" in rulesets.output("x", ["sh", "-c", "head -c 5000 /dev/zero"], 5, limit=100)["x.error"]
