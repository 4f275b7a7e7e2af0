"""Whether other hosts still get through: what lab/guest/peer.py tried in both machines, compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.core.result import Peer, PeerAttempt

# the ways that were tried, and what they are called
WAYS: Mapping[str, str] = {
    "in": "from another host to this one",
    "out": "from this host to another one",
    "forwarded": "forwarded between two others",
}
Way = tuple[str, int]  # one of WAYS, and a TCP port


@dataclass(frozen=True)
class Reach:
    """Which connections with other hosts worked, by way and port; None where that was not, or could not be, tried."""

    before: Mapping[Way, bool] | None
    after: Mapping[Way, bool] | None

    @property
    def cut(self) -> tuple[Way, ...]:
        """What worked before the removal, and not after it."""
        before, after = self.before or {}, self.after or {}
        return tuple(way for way, worked in before.items() if worked and after.get(way) is False)

    @property
    def untold(self) -> bool:
        """Whether something worked before of which nothing is known after it."""
        before, after = self.before or {}, self.after or {}
        return any(worked and after.get(way) is None for way, worked in before.items())

    def record(self) -> Peer | None:
        """As in a result's `mitigation.peer`; None where nothing was tried in either machine."""
        if self.before is None and self.after is None:
            return None
        before, after = self.before or {}, self.after or {}
        tried = dict.fromkeys([*before, *after])
        attempts = (PeerAttempt(*way, before.get(way), after.get(way)) for way in tried)
        return Peer(tuple(attempts), tuple(f"{way} {port}" for way, port in self.cut))


def reach(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Reach:
    """What worked in the first machine, and in the second, as their guests told it."""
    return Reach(_attempts(before), _attempts(after))


def shown(ways: tuple[Way, ...]) -> str:
    """`from this host to another one (TCP ports 22, 80)`."""
    parts = []
    for way, words in WAYS.items():
        ports = ", ".join(str(port) for name, port in ways if name == way)
        parts += [f"{words} (TCP ports {ports})"] if ports else []
    return " and ".join(parts)


def _attempts(told: Mapping[str, Any] | None) -> Mapping[Way, bool] | None:
    """A guest may say anything: what is no attempt is left out."""
    attempts = None if told is None else told.get("attempts")
    if not isinstance(attempts, list):
        return None
    found: dict[Way, bool] = {}
    for one in attempts[:100]:
        one = one if isinstance(one, dict) else {}
        way, port, worked = one.get("way"), one.get("port"), one.get("worked")
        if isinstance(way, str) and way in WAYS and isinstance(port, int) and isinstance(worked, bool):
            found[way, port] = worked
    return found
