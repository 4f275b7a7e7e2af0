"""How many connections are due: a rate kept by the clock, in batches, never by sleeping for each connection."""

TURN_SECONDS = 0.05  # between two batches: in an emulated guest a turn takes some ms, whatever it does


class Pace:
    """Hands out at most `batch` at a time. What a busy machine could not do in time is not caught up with in a burst:
    a rate that cannot be kept is not reached.
    """

    def __init__(self, rate_per_second: float, batch: int) -> None:
        """A rate of 0 is no limit."""
        self._rate_per_second = rate_per_second
        self._batch = batch
        self._due = 1.0  # the first is due at once, however low the rate
        self._taken_at = 0.0
        self._begun = False
        self.turn_seconds = min(TURN_SECONDS, batch / rate_per_second) if rate_per_second else 0.0

    def take(self, now: float, room: int) -> int:
        """How many to begin now, at most `room`; `now` is in seconds of a clock that never goes back."""
        room = min(room, self._batch)
        if not self._rate_per_second:
            return max(0, room)
        if self._begun:
            self._due += (now - self._taken_at) * self._rate_per_second
        self._begun, self._taken_at = True, now
        count = max(0, min(room, int(self._due)))
        self._due = min(self._due - count, float(self._batch))
        return count
