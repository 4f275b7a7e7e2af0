"""Which share of a plan: what `--shard` takes. Apart from the plan, for a command line is parsed without one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.core.errors import ScenarioError

MOST_SHARDS = 1000
_SHARD = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")


@dataclass(frozen=True)
class Shard:
    """Which part of a plan: `index` counts from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """`I/N`. Raises ScenarioError for anything else."""
    found = _SHARD.fullmatch(text)
    index, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= index <= count <= MOST_SHARDS:
        raise ScenarioError(
            f"--shard {text}: is not I/N with 1 <= I <= N <= {MOST_SHARDS}", hint="for example --shard 2/4"
        )
    return Shard(index, count)
