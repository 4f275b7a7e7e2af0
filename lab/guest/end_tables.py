"""The tables of a path's remote ends, each read in its own namespace: a container's may be the one that is full."""

import time
from typing import Any, Dict

from lab.guest.namespaces import inside
from lab.guest.paths import path_of
from lab.guest.sampler import Sampler

_OPEN_AGAIN_SECONDS = 0.5  # before files that were not there are looked for again: to enter a namespace may be dear


class EndTables:
    """Samples the ends' tables: at first, and as long as there is anything in them."""

    def __init__(self, path: str) -> None:
        """Raises TopologyError where an end cannot be entered."""
        self._path = path
        self._samplers: Dict[str, Sampler] = {}
        self._seen: Dict[str, bool] = {}
        self._entered_at = time.monotonic()
        for role in path_of(path).links:
            with inside(path, role):
                self._samplers[role] = Sampler()

    def sample(self) -> Dict[str, Dict[str, Any]]:
        """By role: the raw texts of count and counters; without those of an end that has nothing."""
        found = {}
        due = time.monotonic() - self._entered_at > _OPEN_AGAIN_SECONDS
        for role, sampler in self._samplers.items():
            if not (sampler.is_open or due):
                continue
            # what is open shows its own namespace's table wherever it is read
            table = sampler.sample() if sampler.is_open else self._enter(role, sampler)
            if table["count"] is not None and (role not in self._seen or table["count"].strip() != "0"):
                found[role] = {name: table[name] for name in ("count", "stat")}
                self._seen[role] = True
        return found

    def close(self) -> None:
        """Close what it reads from."""
        for sampler in self._samplers.values():
            sampler.close()

    def _enter(self, role: str, sampler: Sampler) -> Dict[str, Any]:
        self._entered_at = time.monotonic()
        with inside(self._path, role):
            return dict(sampler.sample())
