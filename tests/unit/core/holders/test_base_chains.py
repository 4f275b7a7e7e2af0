"""Where base chains stand, in the words of each version of nft."""

from __future__ import annotations

import pytest

from lab.core.holders.base_chains import place_of


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("type filter hook output priority raw; policy accept;", ("output", -300)),
        ("type filter hook prerouting priority raw + 10; policy drop;", ("prerouting", -290)),
        ("type filter hook prerouting priority mangle - 5; policy accept;", ("prerouting", -155)),
        ("type nat hook postrouting priority 100; policy accept;", ("postrouting", 100)),
        ("type filter hook prerouting priority -300; policy accept;", ("prerouting", -300)),
        ("type filter hook output priority -300", ("output", -300)),
        ("type filter hook output priority $early; policy accept;", None),
        ("type filter hook output priority early; policy accept;", None),
        ('type filter hook ingress device "eth0" priority 0; policy accept;', None),
        ("notrack", None),
    ],
)
def test_the_place_of_a_base_chain(line: str, place: tuple[str, int] | None) -> None:
    assert place_of(line) == place
