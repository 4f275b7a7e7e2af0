"""Conntrack's counters and those of the protocols: /proc/net/stat/nf_conntrack, /proc/net/snmp, /proc/net/netstat.

Kernels differ, so a column is found by the name in the file's own header, never by its place; a name that a kernel
does not have is missing from the answer and never zero. Text that is not what the kernel writes raises `ValueError`
with what is wrong and where.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from lab.core.kernel.lines import numbered, whole_number

# A level, not a counter: nf_conntrack_count of the network namespace, repeated on the row of every CPU.
LEVEL_COLUMN: Final = "entries"

_COUNTER_RANGE: Final = 1 << 32  # `unsigned int` in struct ip_conntrack_stat, one per CPU, wraps silently

_HEX: Final = re.compile(r"[0-9a-fA-F]{1,16}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def stat_totals(text: str) -> Mapping[str, int]:
    """Add up /proc/net/stat/nf_conntrack (hex, one row per CPU); the keys are the header's own names.

    `entries` is the same number on every row and is taken from the last one, which the kernel filled in last.
    Raises `ValueError` for a header without rows, a repeated or impossible name, and a row that does not fit.
    """
    lines = list(numbered(text))
    if not lines:
        raise ValueError("stat/nf_conntrack: empty")
    names = _column_names(lines[0][1].split())
    rows = [_hex_row(number, line, len(names)) for number, line in lines[1:]]
    if not rows:
        raise ValueError("stat/nf_conntrack: a header but no row of a CPU")
    totals = {name: sum(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    if LEVEL_COLUMN in totals:
        totals[LEVEL_COLUMN] = rows[-1][names.index(LEVEL_COLUMN)]
    return MappingProxyType(totals)


def counter_delta(before: Mapping[str, int], after: Mapping[str, int], name: str) -> int | None:
    """How far the counter `name` rose between two `stat_totals`; None when that cannot be known.

    Each CPU's counter is 32 bits wide and wraps by itself, which leaves their sum right modulo 2**32. A counter that
    seems to have gone back (a rise of half the range or more) was reset, for example by a reload of the module: None.
    Raises `ValueError` for `entries`, which is a level: compare two readings instead.
    """
    if name == LEVEL_COLUMN:
        raise ValueError(f"{name} is the number of entries now, not a counter")
    if name not in before or name not in after:
        return None
    rise = (after[name] - before[name]) % _COUNTER_RANGE
    return rise if rise < _COUNTER_RANGE // 2 else None


def _column_names(names: list[str]) -> list[str]:
    for name in names:
        if not _NAME.fullmatch(name) or _is_hex_row_value(name):
            raise ValueError(f"stat/nf_conntrack line 1: {name!r} is not a column name")
    if len(set(names)) != len(names):
        raise ValueError("stat/nf_conntrack line 1: a column name is there twice")
    return names


def _is_hex_row_value(name: str) -> bool:
    return len(name) == 8 and _HEX.fullmatch(name) is not None  # %08x: the header line is missing


def _hex_row(number: int, line: str, width: int) -> list[int]:
    fields = line.split()
    if len(fields) != width:
        raise ValueError(f"stat/nf_conntrack line {number}: {len(fields)} fields under {width} names")
    for field in fields:
        if not _HEX.fullmatch(field):
            raise ValueError(f"stat/nf_conntrack line {number}: {field!r} is not a hexadecimal number")
    return [int(field, 16) for field in fields]


def mib(text: str) -> Mapping[str, int]:
    """Read /proc/net/snmp or /proc/net/netstat; keys are `Group.Name`, for example `TcpExt.ListenOverflows`.

    Both consist of pairs of lines: `Group: Name Name`, then `Group: value value`. A counter that this kernel lacks is
    missing from the answer. Raises `ValueError` when a line has no partner or the partners do not fit.
    """
    lines = list(numbered(text))
    if not lines:
        raise ValueError("MIB: empty")
    values: dict[str, int] = {}
    for (number, header), (_, line) in _pairs(lines):
        group, names = _group(number, header)
        value_group, fields = _group(number + 1, line)
        if value_group != group or len(fields) != len(names):
            raise ValueError(
                f"MIB line {number}: {len(names)} names of {group} over {len(fields)} values of {value_group}"
            )
        for name, field in zip(names, fields, strict=True):
            key = f"{group}.{name}"
            if key in values:
                raise ValueError(f"MIB line {number}: {key} is there twice")
            values[key] = whole_number(field, f"MIB line {number + 1}: {key}")
    return MappingProxyType(values)


def _pairs(lines: list[tuple[int, str]]) -> Iterator[tuple[tuple[int, str], tuple[int, str]]]:
    if len(lines) % 2:
        raise ValueError(f"MIB line {lines[-1][0]}: a header without values, the text was cut")
    return zip(lines[::2], lines[1::2], strict=True)


def _group(number: int, line: str) -> tuple[str, list[str]]:
    group, colon, rest = line.partition(":")
    if not colon or not _NAME.fullmatch(group):
        raise ValueError(f"line {number}: {line[:60]!r} does not begin with a group and a colon")
    return group, rest.split()
