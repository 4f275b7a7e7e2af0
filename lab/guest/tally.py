"""What the workers of a load have said last, added up once for each message: the load looks many times a second."""

from typing import Dict, List, Sequence, Tuple

from lab.guest.paths import CLIENT, SERVER
from lab.guest.worker import Message, Worker

COUNTS = ("attempted", "held", "failed", "lost", "accepted")
_WAITING = ("open", "pending", "resent")


class Tally:
    """The counts of each wave of workers."""

    def __init__(self) -> None:
        self.waves: List[List[Worker]] = []
        self._totals: Dict[int, Dict[str, int]] = {}  # of each wave, until one of its workers says more

    def note(self, worker: Worker, message: Message) -> None:
        """Take what a worker says."""
        worker.latest.update(message)
        self._totals.clear()

    def of(self, wave: int) -> Dict[str, int]:
        """Of a wave: COUNTS, and how many are open, pending, and have sent their SYN again."""
        if wave not in self._totals:
            self._totals[wave] = total(self.waves[wave], (*COUNTS, *_WAITING))
        return self._totals[wave]

    def movement(self) -> Tuple[List[Dict[str, int]], int]:
        """How far the connections of each wave are, and how many are open."""
        waves = [self.of(wave) for wave in range(len(self.waves))]
        return [{name: counts[name] for name in COUNTS} for counts in waves], self.open

    @property
    def open(self) -> int:
        """How many connections of the first wave are open."""
        return self.of(0)["open"]

    @property
    def held(self) -> int:
        """How many connections are held, of all waves."""
        return sum(self.of(wave)["held"] for wave in range(len(self.waves)))


def total(workers: Sequence[Worker], names: Sequence[str], roles: Sequence[str] = (CLIENT, SERVER)) -> Dict[str, int]:
    """The sums of counts over workers and their sides, as of what each said last."""
    sides = [worker.latest[role] for worker in workers for role in roles if role in worker.latest]
    return {name: sum([side[name] for side in sides if name in side]) for name in names}


def turns(workers: Sequence[Worker]) -> int:
    """How many the slowest of these has had."""
    return min((worker.latest.get("turns", 0) for worker in workers), default=0)
