"""What the witness in a guest saw, read from the kernel's log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.core.kernel import kmsg

_MARK = "WITNESS "


@dataclass(frozen=True)
class Seen:
    """The largest of each number that the witness saw at one moment (docstring of guest_script.py)."""

    looks: int
    most: Mapping[str, int] = field(hash=False)

    def __getitem__(self, name: str) -> int:
        return self.most[name]


def seen(log: str) -> Seen:
    """Raises ValueError where no witness wrote into the log."""
    texts = [one.text.partition(_MARK)[2] for one in kmsg.records(log) if one.text.startswith(_MARK)]
    looks = [json.loads(text) for text in texts]
    if not looks:
        raise ValueError("the log has nothing of the witness")
    return Seen(len(looks), {name: max(look[name] for look in looks) for name in looks[0]})
