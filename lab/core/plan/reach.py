"""How many connections a guest can hold: what each takes of its memory and its open files."""

from __future__ import annotations

import math

from lab.core.errors import ScenarioError
from lab.core.scenario import LoadSpec, Scenario

# What a held connection costs its guest: two sockets, two descriptors, perhaps an entry. And what the system needs.
GUEST_BASE_MB = 400
GUEST_KIB_PER_CONNECTION = 10
FILES_PER_CONNECTION = 2
SPARE_FILES = 1024


def reachable_connections(memory_mb: int, max_files: int | None = None) -> int:
    """How many connections a guest of this size can hold, both ends of each in it."""
    by_memory = max(0, memory_mb - GUEST_BASE_MB) * 1024 // GUEST_KIB_PER_CONNECTION
    if max_files is None:
        return by_memory
    return min(by_memory, max(0, max_files - SPARE_FILES) // FILES_PER_CONNECTION)


def memory_needed_mb(connections: int) -> int:
    """The guest memory that so many connections need."""
    return GUEST_BASE_MB - (-connections * GUEST_KIB_PER_CONNECTION // 1024)


def open_at_once(load: LoadSpec) -> int:
    """How many connections a load has open at the same time, at most."""
    if load.kind == "hold":
        return load.connections + (load.newcomers or 0)
    if load.answered:
        return load.connections
    if load.kind == "churn":
        if not load.rate_per_second or load.close == "half":
            return load.connections
        return min(load.connections, math.ceil(load.rate_per_second * (load.hold_seconds or 0.0)) + 1)
    return load.newcomers or 0


def check_reachable(scenario: Scenario, load: LoadSpec, max_files: int | None) -> None:
    """Return if the load fits into its guest. Raises ScenarioError with the most that does."""
    memory_mb = scenario.machine.memory_mb
    reachable = reachable_connections(memory_mb, max_files)
    asked = open_at_once(load)
    if asked <= reachable:
        return
    own = load.connections == scenario.load.connections
    where = f"{scenario.path}: load.connections" if own else f"{scenario.path}: --connections"
    hints = [f"ask for at most {reachable}"] if reachable else []
    if reachable == reachable_connections(memory_mb):
        hints.append(f"set machine.memory_mb = {memory_needed_mb(asked)}")
    elif not reachable:
        hints.append("let more files be open in the machine")
    what = f"is {asked}, at most {reachable} can be reached in a machine of {memory_mb} MB"
    raise ScenarioError(f"{where}: {what}", hint=", or ".join(hints))
