"""Addresses of schedulers: without keys nothing leaves this machine."""

from __future__ import annotations

import pytest

from lab.core.errors import LabError
from lab.host.fleet.address import is_loopback, parse_address


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("tls://192.0.2.1:9000", "tls://192.0.2.1:9000"),
        ("tls://lab.example.org", "tls://lab.example.org:8786"),
        ("tls://[2001:db8::1]:8786", "tls://[2001:db8::1]:8786"),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"),
        ("tcp://localhost", "tcp://localhost:8786"),
        ("tcp://[::1]:2", "tcp://[::1]:2"),
    ],
)
def test_addresses(text: str, whole: str) -> None:
    assert str(parse_address(text)) == whole


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "192.0.2.1", "[::]", "lab.example.org", "127.0.0.1.example.org", "localhost."]
)
def test_tcp_off_loopback_is_refused(host: str) -> None:
    with pytest.raises(LabError, match="for loopback only") as refused:
        parse_address(f"tcp://{host}:8786")
    assert f"tls://{host}:8786" in refused.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.1:8786",
        "http://127.0.0.1",
        "tls://",
        "tls://:1",
        "tls://a:x",
        "tls://a/b",
        "tls://me@a",
        "tls://a:1?b",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="is no address of a fleet"):
        parse_address(text)


def test_all_interfaces_are_not_loopback() -> None:
    assert [
        host for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "") if is_loopback(host)
    ] == [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "localhost",
    ]
