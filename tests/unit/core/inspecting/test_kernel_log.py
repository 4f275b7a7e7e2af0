"""Messages of a full table in every form of log."""

from __future__ import annotations

import pytest

from lab.core.inspecting.kernel_log import log_messages

FULL = "nf_conntrack: nf_conntrack: table full, dropping packet"


@pytest.mark.parametrize(
    "line",
    [
        f"4,10,900000000,-;{FULL}",
        f"[  900.000000] {FULL}",
        f"Nov 26 03:00:00 web1 kernel: [  900.000000] {FULL}",
        f"2026-11-26T03:00:00+00:00 web1 kernel: {FULL}",
        "Jan  1 00:00:00 old kernel: ip_conntrack: table full, dropping packet.",
    ],
)
def test_every_log_is_read(line: str) -> None:
    found = log_messages(f"{line}\n", "1000.0 1.0")
    assert found is not None
    assert (found.count, found.unnamed) == (1, 1)
    assert found.last_seconds_ago in (100.0, None)


def test_a_namespace_is_named() -> None:
    text = f"[1.0] {FULL.replace('full', 'full in netns 4026532171')}\n[2.0] net_ratelimit: 9 callbacks suppressed\n"
    found = log_messages(text)
    assert found is not None
    assert (found.netns_inodes, found.unnamed, found.suppressed) == ((4026532171,), 0, 9)


def test_no_log_is_unknown_and_a_silent_one_is_not() -> None:
    assert log_messages(None) is None
    silent = log_messages("")
    assert silent is not None
    assert silent.count == 0
