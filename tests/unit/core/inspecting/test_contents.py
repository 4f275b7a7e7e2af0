"""Rows of the table, counted."""

from __future__ import annotations

from lab.core.inspecting.contents import contents_of

WEB = "src=- dst=- sport=40000 dport={0} src=- dst=- sport={0} dport=40000 [ASSURED] mark=0 zone={1} use=2"
NAMES = "src=192.0.2.9 dst=192.0.2.1 sport=53000 dport=53 [UNREPLIED] src=192.0.2.1 dst=192.0.2.9 sport=53 dport=53000"
ROWS = f"""\
ipv4     2 tcp      6 431999 ESTABLISHED {WEB.format(443, 0)}
ipv4     2 tcp      6 115 TIME_WAIT {WEB.format(443, 0)}
tcp      6 12 TIME_WAIT {WEB.format(80, 7)}
ipv4     2 udp      17 29 {NAMES} mark=0 use=2
hello
conntrack v1.4.7 (conntrack-tools): 4 flow entries have been shown.
"""
TIMEOUTS = {"tcp_timeout_time_wait": 120, "udp_timeout": 30}


def test_rows_are_counted_by_what_they_are() -> None:
    found = contents_of(ROWS, TIMEOUTS)
    assert (found.rows, found.assured, found.unreplied, found.unreadable, found.cut) == (4, 3, 1, 1, False)
    assert found.states == (("tcp", "TIME_WAIT", 2), ("tcp", "ESTABLISHED", 1), ("udp", "UNREPLIED", 1))
    assert found.ports[0] == ("tcp", 443, 2)
    assert found.zones == {7: 1}


def test_addresses_are_those_that_were_recorded() -> None:
    assert contents_of(ROWS, {}).sources == (("192.0.2.9", 1),)


def test_the_timer_says_how_many_come() -> None:
    waiting, udp = contents_of(ROWS, TIMEOUTS).inflows
    assert (waiting.state, waiting.per_second, waiting.steady) == ("TIME_WAIT", 0.1, 12)
    assert (udp.protocol, udp.steady) == ("udp", 3)
    assert contents_of(ROWS, {}).inflows == ()
