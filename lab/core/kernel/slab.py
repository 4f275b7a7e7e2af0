"""The memory of the table's entries, and how many objects another cache has (/proc/slabinfo)."""

import re
from dataclasses import dataclass
from typing import Final

from lab.core.kernel.lines import numbered, whole_number

# One cache per network namespace up to 4.9 (named after an address, later after a number), one for all since 4.10.
# `nf_conntrack_expect` is another object and has letters that no hexadecimal number has.
_ENTRY_CACHE: Final = re.compile(r"(?:nf|ip)_conntrack(?:_[0-9a-f]+)?")
_SLAB_COLUMNS: Final = ("<active_objs>", "<num_objs>", "<objsize>")


@dataclass(frozen=True)
class Slab:
    """The memory of the entries (without the hash table and without extensions, which are allocated apart)."""

    active_objects: int  # in use; SLUB counts what a CPU keeps at hand as in use, so it may be a little high
    total_objects: int
    object_bytes: int
    total_bytes: int  # of all objects, in use or not


def slab(text: str) -> Slab | None:
    """Find the entries' cache in /proc/slabinfo, added up over network namespaces.

    None when there is none: nothing is loaded, or SLUB has merged it with a cache of the same size, so that its memory
    cannot be told. Raises `ValueError` when the text is not slabinfo.
    """
    rows = _rows(text, _ENTRY_CACHE)
    if not rows:
        return None
    return Slab(
        active_objects=sum(active for active, _, _ in rows),
        total_objects=sum(total for _, total, _ in rows),
        object_bytes=max(size for _, _, size in rows),
        total_bytes=sum(total * size for _, total, size in rows),
    )


def cache_objects(text: str, cache: str) -> int | None:
    """How many objects of a cache are in use, at most; None where it has no row of its own. Raises `ValueError`."""
    rows = _rows(text, re.compile(re.escape(cache)))
    return sum(active for active, _, _ in rows) if rows else None


def _rows(text: str, cache: re.Pattern[str]) -> list[tuple[int, int, int]]:
    """Of each row of these caches the objects in use, all objects, and the size of one."""
    columns: list[str] | None = None
    rows: list[tuple[int, int, int]] = []
    for number, line in numbered(text):
        if line.startswith("# name"):
            columns = line[1:].split()
            if missing := [name for name in _SLAB_COLUMNS if name not in columns]:
                raise ValueError(f"slabinfo line {number}: no column {missing[0]}")
        elif columns and cache.fullmatch(line.split()[0]):
            rows.append(_slab_row(number, line.split(), columns))
    if columns is None:
        raise ValueError("slabinfo: no line that names the columns")
    return rows


def _slab_row(number: int, fields: list[str], columns: list[str]) -> tuple[int, int, int]:
    where = f"slabinfo line {number}"
    places = [columns.index(name) for name in _SLAB_COLUMNS]
    if len(fields) <= max(places):
        raise ValueError(f"{where}: cut after {len(fields)} fields")
    active, total, size = (whole_number(fields[place], where) for place in places)
    return active, total, size
