"""The kernel's log: records of /dev/kmsg, console text, and what they say about the table and the kernel's health.

The messages prove *that* something happened, never *how often*: "table full" goes through the rate limit that all of
the network code shares (ten messages in five seconds), and the count of what was left out is printed only with the
next message. For numbers take the counters of `lab.core.kernel.conntrack`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

# --- records of /dev/kmsg (Documentation/ABI/testing/dev-kmsg) ------------------------------------------------------

_HEADER: Final = re.compile(
    r"(?P<prefix>\d{1,10}),(?P<sequence>\d{1,20}),(?P<time>\d{1,20})(?P<more>(?:,[^;]*)?);(?P<text>.*)"
)
_ESCAPE: Final = re.compile(r"(?:\\x[0-9a-fA-F]{2})+")
_LEVELS: Final = 8  # the prefix is facility * 8 + level, as in syslog
KERNEL_FACILITY: Final = 0  # what a program writes to /dev/kmsg never has this one


@dataclass(frozen=True)
class Record:
    """One record of the kernel's log."""

    facility: int
    level: int
    sequence: int
    time_microseconds: int  # since boot, on the clock of `dmesg`
    flags: str  # "-" as a rule, "c" for a fragment of a line; "" where the kernel prints none (3.5)
    text: str  # unescaped; may hold newlines
    fields: Mapping[str, str]  # the continuation lines: SUBSYSTEM, DEVICE

    @property
    def from_kernel(self) -> bool:
        """Whether the kernel wrote it, and not a program through /dev/kmsg."""
        return self.facility == KERNEL_FACILITY


def records(text: str) -> tuple[Record, ...]:
    """Read what was read from /dev/kmsg: `prefix,sequence,microseconds,flags;text`, then ` KEY=value` lines.

    A last line that has no end and makes no sense is what a killed reader leaves, and is left out. Anything else that
    is not a record raises `ValueError` with its line.
    """
    found: list[Record] = []
    fields: dict[str, str] = {}
    lines = text.split("\n")
    cut = len(lines)  # the number of the line without an end, if it has any text
    for number, line in enumerate(lines, start=1):
        if line.startswith(" ") and found:
            key, _, value = line[1:].partition("=")
            fields[_unescaped(key)] = _unescaped(value)
        elif match := _HEADER.fullmatch(line):
            fields = {}
            found.append(_record(match, fields))
        elif line and number != cut:
            raise ValueError(f"kmsg line {number}: {line[:60]!r} is not a record")
    return tuple(found)


def _record(match: re.Match[str], fields: dict[str, str]) -> Record:
    facility, level = divmod(int(match["prefix"]), _LEVELS)
    return Record(
        facility=facility,
        level=level,
        sequence=int(match["sequence"]),
        time_microseconds=int(match["time"]),
        flags=match["more"][1:].partition(",")[0],  # newer kernels may append more: ",caller=T1"
        text=_unescaped(match["text"]),
        fields=MappingProxyType(fields),
    )


def _unescaped(text: str) -> str:
    r"""Undo `\xNN`, which stands for a byte that is not printable ASCII, and for the backslash itself."""

    def decoded(match: re.Match[str]) -> str:
        return bytes.fromhex(match[0].replace("\\x", "")).decode("utf-8", "backslashreplace")

    return _ESCAPE.sub(decoded, text)


# What the agent writes into the log around the load: a message between them came during the load.
LOAD_BEGINS: Final = "conntrack-lab: the load begins"
LOAD_ENDS: Final = "conntrack-lab: the load has ended"


@dataclass(frozen=True)
class Gap:
    """Records that were overwritten before they were read."""

    after_sequence: int
    missing: int


def gaps(log: Iterable[Record]) -> tuple[Gap, ...]:
    """Where the log has holes: the kernel numbers its records without any.

    Raises `ValueError` when the numbers do not rise, as in the logs of two boots put together.
    """
    found = []
    previous: int | None = None
    for record in log:
        if previous is not None:
            if record.sequence <= previous:
                raise ValueError(f"kmsg: record {record.sequence} comes after {previous}")
            if record.sequence > previous + 1:
                found.append(Gap(previous, record.sequence - previous - 1))
        previous = record.sequence
    return tuple(found)


# --- "table full" ----------------------------------------------------------------------------------------------------

# Every text that a kernel has had for it, oldest first:
#   2.4 .. 2.6.1x  ip_conntrack: table full, dropping packet.
#   2.6.32         nf_conntrack: table full, dropping packet.
#   3.10 .. 4.4    nf_conntrack: table full, dropping packet
#   4.9 ..         nf_conntrack: nf_conntrack: table full, dropping packet                        (pr_fmt doubles it)
#   >= 6.17        nf_conntrack: nf_conntrack: table full in netns 4026532171, dropping packet    (not the first netns)
_TABLE_FULL: Final = re.compile(
    r"(?<![\w.])(?:nf|ip)_conntrack: table full(?: in netns (?P<netns>\d{1,20}))?, dropping packet\.?[ \t\r]*$",
    re.MULTILINE,
)

# 2.4 `printk: N messages suppressed.`, 2.6.32 `__ratelimit:`, from 3.10 on `net_ratelimit:`
_SUPPRESSED: Final = re.compile(
    r"\b(?:__|net_)ratelimit: (?P<callbacks>\d{1,12}) callbacks suppressed"
    r"|\bprintk: (?P<messages>\d{1,12}) messages suppressed"
)


@dataclass(frozen=True)
class TableFull:
    """The kernel's own words about the table being full."""

    messages: int  # a lower bound of the drops, see the module's docstring
    suppressed: int  # messages left out by the network code's rate limit, whatever they were about
    first_time_microseconds: int | None
    netns_inodes: tuple[int, ...]  # the network namespaces named (6.17 and newer), as `readlink /proc/self/ns/net`

    @property
    def logged(self) -> bool:
        """Whether the message appeared at all."""
        return self.messages > 0


def is_table_full(text: str) -> bool:
    """Whether a line of the kernel's log says that the table is full, in the words of any kernel."""
    return _TABLE_FULL.search(text) is not None


def suppressed_count(text: str) -> int | None:
    """How many messages this line says were left out; None when it says nothing of the kind."""
    match = _SUPPRESSED.search(text)
    return int(match["callbacks"] or match["messages"]) if match else None


def table_full(log: Iterable[Record]) -> TableFull:
    """Gather what the kernel (and not a program) wrote about the table."""
    by_kernel = [record for record in log if record.from_kernel]
    hits = [(record, match) for record in by_kernel if (match := _TABLE_FULL.search(record.text))]
    return TableFull(
        messages=len(hits),
        suppressed=sum(suppressed_count(record.text) or 0 for record in by_kernel),
        first_time_microseconds=min((record.time_microseconds for record, _ in hits), default=None),
        netns_inodes=tuple(sorted({int(match["netns"]) for _, match in hits if match["netns"]})),
    )


# --- trouble: the kernel itself is not well --------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """A line that tells of a fault of the kernel, or of a guest too slow to be trusted."""

    kind: str  # a key of TROUBLES
    fatal: bool  # the guest cannot be relied on after it
    text: str


# kind -> (fatal, pattern), the most specific first: the first that matches names the line.
# A stall is not fatal: an emulated guest on a busy host stalls and recovers.
TROUBLES: Final[Mapping[str, tuple[bool, re.Pattern[str]]]] = MappingProxyType(
    {
        "panic": (True, re.compile(r"\bKernel panic - not syncing\b")),
        "no-root": (True, re.compile(r"\bVFS: (?:Unable to mount root fs|Cannot open root device)")),
        "soft-lockup": (False, re.compile(r"\bsoft lockup - CPU#\d+ stuck")),
        "hard-lockup": (True, re.compile(r"\bWatchdog detected hard LOCKUP\b|\bhard LOCKUP on cpu\b")),
        "rcu-stall": (
            False,
            re.compile(r"\brcu_\w+ (?:self-)?detected (?:expedited )?stalls?\b|\bINFO: rcu_\w+ detected stalls?\b"),
        ),
        "hung-task": (False, re.compile(r"\bINFO: task .{1,80} blocked for more than \d+ seconds")),
        "out-of-memory": (
            True,
            re.compile(r"\bOut of memory(?: and no killable processes|: Kill(?:ed)? process)|\binvoked oom-killer\b"),
        ),
        "workqueue-lockup": (False, re.compile(r"\bBUG: workqueue lockup\b")),
        "bug": (True, re.compile(r"\bkernel BUG at |(?:^|\s)BUG: ")),
        "oops": (
            True,
            re.compile(
                r"(?:^|\s)(?:Internal error: )?Oops(?::|\s)|\bgeneral protection fault\b|\bUnable to handle kernel\b"
            ),
        ),
    }
)


def trouble(line: str) -> Trouble | None:
    """What a line of the kernel's log says is wrong with the kernel, or None."""
    for kind, (fatal, pattern) in TROUBLES.items():
        if pattern.search(line):
            return Trouble(kind, fatal, line.strip())
    return None


def console_troubles(text: str) -> tuple[Trouble, ...]:
    """The troubles in a serial console's text, in their order."""
    return tuple(found for line in console_lines(text) if (found := trouble(line)))


_TIMESTAMP: Final = re.compile(r"\[ *\d{1,10}\.\d{6}\](?:\[ *[CT]\d+\])? ?(?P<text>.*)")
_TERMINAL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def console_lines(text: str) -> tuple[str, ...]:
    """The kernel's lines in a serial console's text, without time stamps and terminal codes.

    A console carries what programs print, too. Where the kernel stamps its lines with the time, only those count;
    where it does not (an old kernel without CONFIG_PRINTK_TIME), every line does.
    """
    lines = [line for raw in text.split("\n") if (line := _TERMINAL.sub("", raw)).strip()]
    # search, not match: a program's unfinished line may stand before the kernel's
    stamped = [match["text"] for line in lines if (match := _TIMESTAMP.search(line))]
    return tuple(stamped or lines)
