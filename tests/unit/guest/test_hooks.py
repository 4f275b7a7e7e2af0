"""The kernel's answers about its hooks: recorded in guests (6.12 and 7.2), refused, and cut."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from lab.core.kernel import hooks as core
from lab.guest import hooks

NAT = bytes.fromhex(
    "0b0005006e665f6e61740000190004006e665f6e61745f697076345f6c6f63616c5f696e0000000008000100000000010800020000000064"
)
CHAIN = bytes.fromhex(
    "0e0005006e665f7461626c6573000000160004006e66745f646f5f636861696e5f696e65740000000800010000000001"
    "08000200000000002800068008000200000000011c000180060001007400000006000300630000000500020001000000"
)
FLOWTABLE = bytes.fromhex(
    "170005006e665f666c6f775f7461626c655f696e657400001e0004006e665f666c6f775f6f66666c6f61645f696e65745f686f6f6b000000"
    "080001000000000008000200000000002800068008000200000000031c000180060001007400000006000300660000000500020001000000"
)
LAST = bytes.fromhex(
    "110005006e665f636f6e6e747261636b000000000f0004006e665f636f6e6669726d00000800010000000001080002007fffffff"
)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (NAT, "+0000000100 nf_nat_ipv4_local_in [nf_nat]"),
        (CHAIN, " 0000000000 chain inet t c [nf_tables]"),
        (FLOWTABLE, " 0000000000 flowtable inet t f [nf_flow_table_inet]"),
        (LAST, "+2147483647 nf_confirm [nf_conntrack]"),
        (NAT[:-4] + (-400 & 0xFFFFFFFF).to_bytes(4, "big"), "-0000000400 nf_nat_ipv4_local_in [nf_nat]"),
        (b"", " 0000000000"),
    ],
)
def test_an_answer_in_the_words_of_nft(body: bytes, line: str) -> None:
    assert hooks.entry_line(body) == f"\t\t{line}\n"


class Kernel:
    """Answers questions of (family, number of the hook, device) from a table; anything else it does not have."""

    def __init__(self, known: dict[tuple[int, int, str | None], list[bytes]], refusal: int = errno.EOPNOTSUPP) -> None:
        self.known, self.refusal = known, refusal
        self.closed = False

    def answers(self, message: int, flags: int, family: int, request: bytes) -> Iterator[list[bytes]]:
        number = int.from_bytes(request[4:8], "big")
        device = request[12:].rstrip(b"\0").decode() or None
        if (family, number, device) not in self.known:
            raise OSError(self.refusal, "the kernel's answer")
        yield self.known[family, number, device]

    def close(self) -> None:
        self.closed = True


def ask(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(hooks, "Subsystem", lambda number: kernel)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0")])
    try:
        return hooks.list_hooks()
    finally:
        assert kernel.closed


def test_every_family_and_every_device_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel({(2, 1, None): [NAT, LAST], (10, 3, None): [CHAIN], (2, 0, None): [], (5, 0, "eth0"): [FLOWTABLE]})
    listed = core.hooks(ask(kernel, monkeypatch))
    assert [(hook.family, hook.hook, hook.device, hook.function) for hook in listed] == [
        ("ip", "input", None, "nf_nat_ipv4_local_in"),
        ("ip", "input", None, "nf_confirm"),
        ("ip6", "output", None, ""),
        ("netdev", "ingress", "eth0", ""),
    ]
    assert [hook.runs and hook.runs.kind for hook in listed] == [None, None, "chain", "flowtable"]


def test_a_kernel_that_tells_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(Kernel({}, errno.EINVAL), monkeypatch) == ""


def test_what_is_no_answer_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermissionError):
        ask(Kernel({}, errno.EPERM), monkeypatch)


def test_a_kernel_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_MAX_SECONDS", -1.0)
    with pytest.raises(TimeoutError):
        ask(Kernel({}), monkeypatch)


@pytest.mark.parametrize("cut", range(1, len(CHAIN), 5))
def test_a_cut_answer_is_refused_or_says_less(cut: int) -> None:
    try:
        line = hooks.entry_line(CHAIN[:cut])
    except ValueError as error:
        assert "are left" in str(error)
    else:
        assert line.startswith("\t\t 0000000000")
