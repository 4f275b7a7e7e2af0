"""The kinds of load: which workers there are for what was asked, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from lab.guest import endings, kinds
from lab.guest.kinds import KINDS, LoadError, LoadRequest, waves_of
from lab.guest.spread import SPARE_DESCRIPTORS

FLOODS = ("half-open", "udp")


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "fd_limit", lambda: 1_000_000)
    monkeypatch.setattr(kinds, "ephemeral_ports", lambda: 28_232)


def names(request: LoadRequest) -> list[list[str]]:
    return [[work.name for work in wave.work] for wave in waves_of(request)]


@pytest.mark.parametrize("kind", ["hold", "churn"])
def test_both_sides_are_one_process_and_its_descriptors_decide_how_many(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    request = LoadRequest(1000, 9.0, kind=kind, processes=2)
    enough = 2 * 500 + 1 + SPARE_DESCRIPTORS
    monkeypatch.setattr(kinds, "fd_limit", lambda: enough)
    assert names(request) == [["pair 0", "pair 1"]]
    monkeypatch.setattr(kinds, "fd_limit", lambda: enough - 1)
    assert names(request) == [["pair 0", "pair 1", "pair 2"]]


def test_without_a_number_there_is_a_process_for_each_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_NPROCESSORS_ONLN": 3}[name])
    assert names(LoadRequest(1000, 9.0)) == [["pair 0", "pair 1", "pair 2"]]


def test_over_a_network_each_side_is_where_it_belongs() -> None:
    (wave,) = waves_of(LoadRequest(1000, 9.0, path="forward", processes=1))
    assert [(work.name, work.place) for work in wave.work] == [("server 0", "server"), ("client 0", "client")]
    assert {listener[0] for _, listener in wave.listeners} == {"203.0.113.2"}


@pytest.mark.parametrize("kind", FLOODS)
def test_newcomers_are_a_wave_of_their_own_beside_the_floods_ports(kind: str) -> None:
    request = LoadRequest(1000, 9.0, kind=kind, newcomers=20, processes=2, first_port=9000)
    assert names(request) == [["flood 0", "flood 1"], ["pair 0", "pair 1"]]
    flood, newcomers = waves_of(request)
    assert (flood.connections, newcomers.connections) == (1000, 20)
    assert min(listener[1] for _, listener in newcomers.listeners) == 9002
    assert names(request._replace(newcomers=0)) == [["flood 0", "flood 1"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"connections": 0}, "0 connections"),
        ({"kind": "dance"}, "no such kind: 'dance'; there are hold, churn, half-open, udp"),
        ({"kind": "churn", "close": "slam"}, "no such close: 'slam'; there are fin, reset, vanish, half"),
        ({"path": "mesh"}, "no such path: 'mesh'; there are loopback, local, outbound"),
        ({"family": "ipx"}, "no such family: 'ipx'; there are ipv4, ipv6, both"),
        ({"kind": "udp", "connections": 0}, "."),
        ({"kind": ["hold"]}, "no such kind"),
    ],
)
def test_what_cannot_be_driven(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LoadError, match=message):
        waves_of(LoadRequest(10, 9.0)._replace(**changes))


# -- what ends each ---------------------------------------------------------------------------------------------------


def seen(
    attempted: int = 10, held: int = 0, failed: int = 0, lost: int = 0, accepted: int | None = None, **more: Any
) -> endings.Seen:
    """Ten connections are wanted."""
    progress = {"attempted": attempted, "held": held, "failed": failed, "lost": lost}
    state = {"open": 0, "full": False, "quiet": False, "late": False, **more}
    return endings.Seen(10, {**progress, "accepted": held if accepted is None else accepted}, **state)


EVERY = ("hold", "churn", "flood", "newcomers")
RULES = dict(zip(EVERY, (endings.HOLD, endings.CHURN, endings.FLOOD, endings.NEWCOMERS), strict=True))
CASES: dict[str, tuple[endings.Seen, dict[str, str | None]]] = {
    "all held": (seen(held=10), dict.fromkeys(EVERY, "all-held")),
    "held and not accepted": (seen(held=10, accepted=9), dict.fromkeys(EVERY)),
    "some pending": (seen(held=9), dict.fromkeys(EVERY)),
    "some refused": (seen(held=6, failed=4), dict.fromkeys(EVERY, "all-answered")),
    "some lost": (seen(held=6, lost=4, accepted=10), dict.fromkeys(EVERY, "all-answered")),
    "refused, not yet accepted": (seen(held=6, failed=4, accepted=5), dict.fromkeys(EVERY)),
    "still open": (seen(held=10, open=3), {**dict.fromkeys(EVERY, "all-held"), "churn": None}),
    "refused and still open": (seen(held=6, failed=4, open=3), {**dict.fromkeys(EVERY, "all-answered"), "churn": None}),
    "full of others": (seen(held=3, full=True), dict.fromkeys(EVERY)),
    "quiet, answers under way": (seen(held=3, quiet=True, pending=7), dict.fromkeys(EVERY)),
    "quiet, and asked again": (
        seen(held=3, quiet=True, pending=7, resent=4),
        {"hold": "no-movement", "churn": "no-movement", "flood": None, "newcomers": "no-movement"},
    ),
    "full": (
        seen(held=3, full=True, resent=1),
        {"hold": "table-full", "churn": "table-full", "flood": None, "newcomers": None},
    ),
    "full and all held": (seen(held=10, full=True), dict.fromkeys(EVERY, "all-held")),
    "quiet": (
        seen(held=3, quiet=True),
        {"hold": "no-movement", "churn": "no-movement", "flood": None, "newcomers": "no-movement"},
    ),
    "quiet and open": (
        seen(held=3, quiet=True, open=3),
        {"hold": "no-movement", "churn": None, "flood": None, "newcomers": "no-movement"},
    ),
    "late": (seen(held=3, open=3, late=True), dict.fromkeys(EVERY, "deadline")),
    "full and late": (
        seen(held=3, full=True, late=True, resent=1),
        {"hold": "table-full", "churn": "table-full", "flood": "deadline", "newcomers": "deadline"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_rule_that_holds_ends_it(name: str) -> None:
    case, expected = CASES[name]
    assert {kind: endings.first_that_holds(rules, case) for kind, rules in RULES.items()} == expected


def test_every_kind_has_its_rules() -> None:
    rules = {kind: [wave.rules for wave in waves_of(LoadRequest(10, 9.0, kind=kind, newcomers=5))] for kind in KINDS}
    assert rules == {
        "hold": [endings.HOLD, endings.NEWCOMERS],
        "churn": [endings.CHURN],
        "half-open": [endings.FLOOD, endings.NEWCOMERS],
        "udp": [endings.FLOOD, endings.NEWCOMERS],
    }
