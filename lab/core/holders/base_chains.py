"""Where nftables' base chains stand: at which hook, and with which priority among those that are there."""

import re
from typing import Final, NamedTuple

# of the families ip, ip6 and inet; bridge has others (std_prios[] of nft, src/rule.c)
_PRIORITIES: Final = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_BASE: Final = re.compile(
    r"type \w+ hook (?P<hook>\w+) priority (?:(?P<name>[a-z]+)\b)? ?(?P<offset>[-+]? ?\d{1,10})?(?=;|$)"
)


class Place(NamedTuple):
    """A hook, and the priority there: lower ones are earlier."""

    hook: str
    priority: int


def place_of(line: str) -> Place | None:
    """The place that `type filter hook output priority raw + 5; policy accept;` names; None where it does not say."""
    match = _BASE.match(line)
    if match is None or (match["name"] is None and match["offset"] is None):
        return None
    base = 0 if match["name"] is None else _PRIORITIES.get(match["name"])
    return None if base is None else Place(match["hook"], base + int((match["offset"] or "0").replace(" ", "")))
