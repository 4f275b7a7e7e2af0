"""Rules with notrack: all packets, some, or not to be told."""

from __future__ import annotations

import pytest

from tests.unit.core.inspecting.hosts import MASQUERADE, look

ALL = "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING {}\n-A OUTPUT {}\nCOMMIT\n"


@pytest.mark.parametrize(
    ("rules", "answer"),
    [
        (("-j CT --notrack", "-j CT --notrack"), False),
        (("-j NOTRACK", "-j NOTRACK"), False),
        (("-j CT --notrack", "-o lo -j CT --notrack"), True),
        (("-p tcp -j CT --notrack", "-p tcp -j CT --notrack"), True),
    ],
)
def test_only_rules_without_conditions_at_both_hooks_keep_all_out(rules: tuple[str, str], answer: bool) -> None:
    found = look(own={"iptables-legacy-save": ALL.format(*rules) + MASQUERADE}).attached
    assert found.answer is answer
    assert found.proofs[-1].source == "notrack"


def test_the_other_family_stays() -> None:
    text = {
        "iptables-legacy-save": ALL.format("-j NOTRACK", "-j NOTRACK") + MASQUERADE,
        "ip6tables-legacy-save": MASQUERADE,
    }
    found = look(own=text).attached
    assert (found.answer, found.families) == (True, ("ip6",))


def test_a_chain_of_nft_is_not_known_to_be_at_its_hook() -> None:
    text = (
        "table ip t {\n\tchain a {\n\t\ttype filter hook output priority raw; policy accept;\n\t\tnotrack\n\t}\n"
        "\tchain b {\n\t\tct state new accept\n\t}\n}\n"
    )
    assert look(own={"ruleset.nft": text}).attached.answer is None
