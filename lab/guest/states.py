"""What became of each connection, one byte each in the order in which they were opened, and where each went."""

from itertools import repeat
from typing import Iterator, List, Sequence, Tuple

Target = Tuple[str, int, int]  # address, port, how many connections go there

UNTRIED, OPENING, HELD, FAILED, LOST = range(5)
STATE_NAMES = ("untried", "stalled", "held", "failed", "lost")  # what is still opening at the end has stalled
MAX_RUNS = 256


def round_robin(targets: Sequence[Target]) -> Iterator[Tuple[str, int]]:
    """Where each connection goes, in order: turn by turn, so that every listener's queue fills at the same pace."""
    addresses = [(address, port) for address, port, _ in targets]
    turns = _turns(targets)
    for _ in range(turns):
        yield from addresses
    for address, port, count in targets:
        yield from repeat((address, port), count - turns)


def runs(states: bytearray) -> List[Tuple[str, int]]:
    """The states in opening order, run-length coded and cut at a bound: which connections were held, which not."""
    found: List[Tuple[str, int]] = []
    start = 0
    for index in range(1, len(states) + 1):
        if index == len(states) or states[index] != states[start]:
            if len(found) == MAX_RUNS:
                found.append(("cut", len(states) - start))
                break
            found.append((STATE_NAMES[states[start]], index - start))
            start = index
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
