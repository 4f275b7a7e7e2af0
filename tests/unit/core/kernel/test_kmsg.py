"""The kernel's log over captures of real kernels, and texts of kernels that no Debian carries any more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.kernel import kmsg
from lab.core.kernel.kmsg import Gap, Record
from tests.recordings import GOLDEN

PROCFS = GOLDEN / "procfs"
KERNELS = ("5.10-debian11", "6.1-debian12", "6.12-debian13", "7.2-forky")


def golden(path: str) -> str:
    return (PROCFS / path).read_text()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_log_of_a_full_table(kernel: str) -> None:
    text = golden(f"{kernel}/full/kmsg")
    log = kmsg.records(text)
    assert log[0].text.startswith("Linux version ")
    assert log[0].sequence == 0
    assert kmsg.gaps(log) == ()
    full = kmsg.table_full(log)
    assert full.logged
    assert full.messages == text.count("table full"), "every literal line is recognised"
    assert full.suppressed == sum(int(line.split()[-3]) for line in text.splitlines() if "suppressed" in line)
    assert full.netns_inodes == ()
    assert full.first_time_microseconds is not None and full.first_time_microseconds > 1_000_000


TABLE_FULL_LINES = {
    "2.4": "ip_conntrack: table full, dropping packet.",
    "2.6.32": "nf_conntrack: table full, dropping packet.",
    "3.10": "nf_conntrack: table full, dropping packet",
    "4.9": "nf_conntrack: nf_conntrack: table full, dropping packet",
    "6.17 in a netns": "nf_conntrack: nf_conntrack: table full in netns 4026532171, dropping packet",
    "on the console": "[   45.336127] nf_conntrack: nf_conntrack: table full, dropping packet\r",
    "in a syslog": "Nov 20 23:44:59 host kernel: [45.3] nf_conntrack: table full, dropping packet",
}


@pytest.mark.parametrize("line", TABLE_FULL_LINES.values(), ids=TABLE_FULL_LINES)
def test_table_full_in_the_words_of(line: str) -> None:
    assert kmsg.is_table_full(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nf_conntrack: expectation table full",
        "neighbour: arp_cache: neighbor table overflow!",
        "nf_conntrack: table full",
        "nf_conntrack: table full in netns , dropping packet",
        "xnf_conntrack: table full, dropping packet",
        "nf_conntrack: table full, dropping packets of nobody",
    ],
)
def test_not_table_full(line: str) -> None:
    assert not kmsg.is_table_full(line)


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("__ratelimit: 12 callbacks suppressed", 12),
        ("net_ratelimit: 5988 callbacks suppressed", 5988),
        ("printk: 31 messages suppressed.", 31),
        ("audit_printk_skb: 3 callbacks suppressed", None),
        ("net_ratelimit: callbacks suppressed", None),
        ("nf_conntrack: table full, dropping packet", None),
    ],
)
def test_suppressed_count(line: str, count: int | None) -> None:
    assert kmsg.suppressed_count(line) == count


def test_records_with_netns_continuations_and_escapes() -> None:
    log = kmsg.records(golden("handwritten/kmsg.6.18"))
    link = log[1]
    assert link == Record(0, 6, 339, 5140900, "c", "net eth0: link becomes ready\nsecond line", link.fields)
    assert link.fields == {"SUBSYSTEM": "net", "DEVICE": "n2"}
    assert log[0].fields == {}
    assert log[-1].text == "rätsel \\ end \\xff"
    assert kmsg.gaps(log) == (Gap(0, 338), Gap(344, 6))
    full = kmsg.table_full(log)
    assert full.messages == 4, "the one with a program's facility does not count"
    assert full.suppressed == 5988
    assert full.netns_inodes == (4026532171, 4026532240)
    assert full.first_time_microseconds == 5160000


def test_records_without_flags() -> None:
    log = kmsg.records(golden("handwritten/kmsg.3.5"))
    assert [record.flags for record in log] == ["", ""]
    assert kmsg.table_full(log).messages == 1


def test_nothing_logged() -> None:
    nothing = kmsg.table_full(())
    assert not nothing.logged
    assert nothing.first_time_microseconds is None


BAD_KMSG = {
    "dmesg text": "[    0.000000] Linux version 6.1\n",
    "no text": "6,1,2,-\n6,2,3,-;x\n",
    "a number in words": "6,one,2,-;text\n",
    "a continuation first": " SUBSYSTEM=net\n6,1,2,-;x\n",
    "an error": "cat: /dev/kmsg: Operation not permitted\n",
}


@pytest.mark.parametrize("text", BAD_KMSG.values(), ids=BAD_KMSG)
def test_records_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="kmsg line 1"):
        kmsg.records(text)


def test_records_of_a_killed_reader() -> None:
    assert [record.text for record in kmsg.records("6,1,2,-;whole\n6,2,3")] == ["whole"]
    assert [record.text for record in kmsg.records("6,1,2,-;whole\n6,2,3,-;cut sho")] == ["whole", "cut sho"]
    assert kmsg.records("") == ()


def test_gaps_refuses_two_boots() -> None:
    log = kmsg.records("6,7,1,-;a\n6,3,1,-;b\n")
    with pytest.raises(ValueError, match="record 3 comes after 7"):
        kmsg.gaps(log)


def test_console_of_a_real_panic() -> None:
    troubles = kmsg.console_troubles(golden("5.10-debian11-panic.console"))
    assert [(found.kind, found.fatal) for found in troubles] == [("panic", True)]
    assert troubles[0].text == "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000000"


def test_console_without_time_stamps() -> None:
    troubles = kmsg.console_troubles(golden("handwritten/console.el6"))
    assert [found.kind for found in troubles] == ["bug", "oops", "panic"]


def test_console_of_a_slow_guest() -> None:
    troubles = kmsg.console_troubles(golden("handwritten/console.stalls"))
    assert [(found.kind, found.fatal) for found in troubles] == [
        ("soft-lockup", False),
        ("rcu-stall", False),
        ("rcu-stall", False),
        ("rcu-stall", False),
        ("hung-task", False),
        ("workqueue-lockup", False),
        ("out-of-memory", True),
        ("bug", True),
    ]


def test_programs_are_not_believed() -> None:
    log = kmsg.records("12,1,2,-;nf_conntrack: nf_conntrack: table full, dropping packet\n")
    assert not kmsg.table_full(log).logged


@pytest.mark.parametrize(
    "line", ["", "Oopsie", "DEBUG: x", "rcu: Hierarchical RCU implementation.", "Freeing unused kernel BUG table"]
)
def test_no_trouble(line: str) -> None:
    assert kmsg.trouble(line) is None


def escaped(text: str) -> str:
    """What the kernel does to a message, fs: msg_add_ext_text() of kernel/printk/printk.c."""
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte != 0x5C else f"\\x{byte:02x}" for byte in text.encode("utf-8")
    )


@given(st.text(max_size=80), st.integers(0, 191), st.integers(0, 2**63), st.integers(0, 2**63))
def test_any_message_survives_the_escaping(text: str, prefix: int, sequence: int, time: int) -> None:
    (record,) = kmsg.records(f"{prefix},{sequence},{time},-;{escaped(text)}\n")
    assert (record.text, record.sequence, record.time_microseconds) == (text, sequence, time)
    assert record.facility * 8 + record.level == prefix


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    kmsg.console_troubles(text)
    try:
        kmsg.records(text)
    except ValueError as error:
        assert str(error).startswith("kmsg line ")
