"""What became of each connection, one byte each in the order in which they were opened, and where each went."""

import re
from array import array
from typing import List, Sequence, Tuple

Target = Tuple[str, int, int]  # address, port, how many connections go there

UNTRIED, OPENING, HELD, FAILED, LOST = range(5)
STATE_NAMES = ("untried", "stalled", "held", "failed", "lost")  # what is still opening at the end has stalled
MAX_RUNS = 256
_RUNS = re.compile(b"|".join(re.escape(bytes([state])) + b"+" for state in range(len(STATE_NAMES))))


def addresses(targets: Sequence[Target]) -> List[Tuple[str, int]]:
    """Where connections go."""
    return [(address, port) for address, port, _ in targets]


def round_robin(targets: Sequence[Target]) -> "array[int]":
    """To which of the targets each connection goes, by its number: turn by turn, so that every listener's queue fills
    at the same pace.
    """
    turns = _turns(targets)
    order = array("H", range(len(targets))) * turns
    for number, (_, _, count) in enumerate(targets):
        order.extend(array("H", [number]) * (count - turns))
    return order


def runs(states: bytearray) -> List[Tuple[str, int]]:
    """The states in opening order, run-length coded and cut at a bound: which connections were held, which not."""
    found: List[Tuple[str, int]] = []
    for match in _RUNS.finditer(states):
        start, end = match.span()
        if len(found) == MAX_RUNS:
            found.append(("cut", len(states) - start))
            break
        found.append((STATE_NAMES[states[start]], end - start))
    return found


def by_port(targets: Sequence[Target], states: bytearray) -> List[Tuple[int, int, int]]:
    """Each port, how many connections to it were held, and how many were tried and are not."""
    found = []
    count, turns = len(targets), _turns(targets)
    rest = turns * count
    for number, (_, port, connections) in enumerate(targets):  # in the order of round_robin()
        mine = states[number : turns * count : count] + states[rest : rest + connections - turns]
        rest += connections - turns
        held = mine.count(HELD)
        found.append((port, held, len(mine) - held - mine.count(UNTRIED)))
    return found


def _turns(targets: Sequence[Target]) -> int:
    return min((count for _, _, count in targets), default=0)
