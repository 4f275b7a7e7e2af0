"""Hundreds of holders: in groups for people, in a few commands for their removal."""

from __future__ import annotations

import json
from dataclasses import replace

from lab.core.holders.find import holders
from lab.core.holders.groups import MOST_GROUPS, groups
from lab.core.holders.model import Holder, Recorded
from lab.host.results.records import to_json, whole


def services(count: int) -> str:
    chains = "".join(f":KUBE-SEP-{i} - [0:0]\n" for i in range(count))
    rules = "".join(f"-A KUBE-SEP-{i} -p tcp -j DNAT --to-destination 10.0.0.1:{i}\n" for i in range(count))
    rest = '-A POSTROUTING -m comment --comment "it\'s \\"here\\"" -j MASQUERADE\nCOMMIT\n'
    return f"*nat\n:POSTROUTING ACCEPT [0:0]\n{chains}{rules}{rest}"


FILTER = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m state --state NEW -j ACCEPT\nCOMMIT\n"


def test_few_holders_are_shown_one_by_one() -> None:
    found = holders(Recorded((6, 1), iptables_legacy=services(MOST_GROUPS - 1)))
    assert [one.example for one in groups(found)] == list(found)
    assert {one.size for one in groups(found)} == {""}


def test_hundreds_are_shown_by_table() -> None:
    found = holders(Recorded((6, 1), iptables_legacy=services(500), ip6tables_legacy=FILTER))
    by_place = {one.place: one for one in groups(found)}
    first, second = by_place["iptables-legacy ip nat"], by_place["iptables-legacy ip6 filter INPUT"]
    assert first.size == "500 of them in 500 chains", "packets reach the other one"
    assert (second.size, second.remove) == ("", second.example.remove)
    assert first.remove == ()


def test_what_differs_in_what_is_said_of_it_is_not_in_one_group() -> None:
    found = holders(Recorded((6, 1), iptables_legacy=services(20)))
    mixed = [replace(one, part_of_firewall=place % 2 == 0) for place, one in enumerate(found)]
    assert sorted(one.count for one in groups(mixed)) == [1, 10, 10]


def test_a_stored_holder_comes_back() -> None:
    for one in holders(Recorded((6, 1), iptables_legacy=services(2))):
        stored = json.loads(json.dumps(to_json(one)))
        assert whole(Holder, stored) == one
        assert whole(Holder, {name: stored[name] for name in stored if name not in ("certain", "advice")}) == one
