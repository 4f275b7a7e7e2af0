"""Whose entries the table holds: what the guest read from the table itself, by the load's own addresses.

The count of the namespace says how full the table is. Only a row with an address that nothing but the load uses says
that the load is tracked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LoadEntries:
    """What the looks at the table found of the load's connections."""

    looks: int
    peak: int  # the most of the load's connections that had an entry at one moment
    last: int  # at the load's end
    others_peak: int  # the most entries of anything else at one moment
    cut: bool  # a look did not get to the table's end: more may have been there
    at_peak: tuple[tuple[str, str, int, int], ...] = ()  # protocol, state, destination port, how many

    @property
    def none(self) -> bool:
        """Whether it is known that the load had no entry."""
        return self.peak == 0 and not self.cut


@dataclass(frozen=True)
class Unattributed:
    """Why it is not known whose the entries are; `recorded` is False for a lab that did not look yet."""

    why: str
    recorded: bool = True


def attribute(load: Mapping[str, Any]) -> LoadEntries | Unattributed:
    """What a load's recorded looks say. Raises ValueError or TypeError for looks that are none."""
    looks = load.get("looks")
    if looks is None:
        return Unattributed("this recording has no look at the table", recorded=False)
    if not looks:
        return Unattributed("the table was never read")
    seen = [_checked(look) for look in looks]
    unread = next((look["error"] for look in seen if look["error"] is not None), None)
    if unread is not None:
        return Unattributed(f"the table's entries cannot be read ({unread})")
    if seen[0]["load"]:
        return Unattributed("entries with the load's own addresses were there before it began")
    fullest = max(seen, key=lambda look: look["load"])
    return LoadEntries(
        looks=len(seen),
        peak=fullest["load"],
        last=seen[-1]["load"],
        others_peak=max(sum(look["rows"].values()) - look["load"] for look in seen),
        cut=any(look["cut"] for look in seen),
        at_peak=tuple((str(row[0]), str(row[1]), int(row[2]), int(row[3])) for row in fullest["groups"]),
    )


def tracked_ports(found: LoadEntries) -> Mapping[int, int]:
    """How many of the load's entries at the fullest moment go to each port."""
    ports: dict[int, int] = {}
    for _, _, port, count in found.at_peak:
        ports[port] = ports.get(port, 0) + count
    return ports


def _checked(look: Mapping[str, Any]) -> Mapping[str, Any]:
    numbers: Sequence[Any] = (look["load"], *look["rows"].values())
    if any(not isinstance(number, int) or isinstance(number, bool) or number < 0 for number in numbers):
        raise ValueError(f"a look at the table whose numbers are none: {look!r:.120}")
    if not isinstance(look["cut"], bool) or not isinstance(look["error"], str | None):
        raise ValueError(f"a look at the table that does not say whether it was whole: {look!r:.120}")
    return look
