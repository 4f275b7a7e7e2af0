"""When a load has shown all that it can: what the samples say of the table, what still moves, and the rules."""

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from lab.guest import sampler as sampling
from lab.guest.worker import TICK_SECONDS

# Drops seen and the table full for this long, and connects that have sent their SYN again, which they do after a second
# (TCP_TIMEOUT_INIT in include/net/tcp.h): nothing more is to be learnt.
FULL_SECONDS = 0.8
FULL_GAP_SECONDS = 0.25  # entries time out and are replaced: a table below its max for a moment only is still full
QUIET_SECONDS = 5.0  # no connection moved and no drop rose for this long: what is pending has stalled
SLOWER = 1.5  # the next pause may be longer than the last
SILENT_SECONDS = 9.0  # the same while nothing has been answered yet: the way may be slow, not closed


class Seen(NamedTuple):
    """What the rules go by."""

    wanted: int
    progress: Dict[str, int]
    open: int  # connections that the load itself is going to close
    full: bool
    quiet: bool
    late: bool
    pending: int = 0  # connects without an answer
    resent: int = 0  # of those that wait longest: how many have sent their SYN again


class Watch:
    """Notes what each sample means for the end. Times are in seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._drops_before: Optional[int] = None
        self._full_since: Optional[float] = None
        self._full_at = 0.0
        self._moved_at = 0.0
        self._moved: Any = None
        self._longest_pause = 0.0  # after which something moved all the same
        self._turns = 0
        self._turns_then = 0

    def restart(self, now: float) -> None:
        """Something new begins: what was quiet before says nothing."""
        self._moved_at, self._turns, self._turns_then, self._longest_pause = now, 0, 0, 0.0
        self._full_since = None

    def note(self, now: float, sample: Dict[str, Any], progress: Any, turns: int) -> None:
        """Take a sample of the table into account, how far the connections are, and how many turns the slowest of the
        processes has had that drive them.
        """
        drops = sampling.drops(sample)
        if self._drops_before is None:
            self._drops_before = drops  # of a conntrack that came during the load: what its first sample shows
        dropped = drops is not None and drops != self._drops_before  # not `>`: a counter of 32 bits wraps
        if dropped and sampling.is_full(sample):
            if self._full_since is None or now - self._full_at > FULL_GAP_SECONDS:
                self._full_since = now
            self._full_at = now
        self._turns = turns
        if (progress, drops) != self._moved:
            if self._moved is not None and progress != self._moved[0]:
                self._longest_pause = max(self._longest_pause, now - self._moved_at)
            self._moved, self._moved_at, self._turns_then = (progress, drops), now, turns

    def is_full(self) -> bool:
        """Whether the table was full, and dropped, for long enough to be sure."""
        return self._full_since is not None and self._full_at - self._full_since >= FULL_SECONDS

    def is_quiet(self, now: float, seconds: float = QUIET_SECONDS, progress: Any = None) -> bool:
        """Whether nothing moves any more, although it could. Processes that a busy host did not let run have seen the
        time pass, but have done nothing in it: that is no quiet. A way on which connections moved after a long pause is
        slow, and may pause again for as long. `progress` that was not noted yet is a movement, too.
        """
        if progress is not None and self._moved is not None and progress != self._moved[0]:
            return False
        seconds = max(seconds, SLOWER * self._longest_pause)
        turns = self._turns - self._turns_then
        return now - self._moved_at >= seconds and turns >= seconds / TICK_SECONDS / 4


def patience(progress: Dict[str, int]) -> float:
    """For how many seconds a load may be quiet before what is pending counts as stalled."""
    return QUIET_SECONDS if progress["held"] or progress["failed"] or progress["lost"] else SILENT_SECONDS


Rule = Callable[[Seen], bool]
Rules = Tuple[Tuple[str, Rule], ...]  # how it ended, and when; the first that holds


def _all_held(seen: Seen) -> bool:
    return seen.progress["held"] == seen.wanted and seen.progress["accepted"] >= seen.wanted


def _all_answered(seen: Seen) -> bool:
    progress = seen.progress
    answered = progress["held"] + progress["failed"] + progress["lost"] == seen.wanted
    return answered and progress["held"] < seen.wanted and progress["accepted"] >= progress["held"]


def _table_full(seen: Seen) -> bool:
    """A table that others fill is nothing to the load until a connection of its own does not get through."""
    return seen.full and seen.resent > 0


def _quiet(seen: Seen) -> bool:
    """A connect that has not sent its SYN again has lost nothing yet: its answer may be under way."""
    return seen.quiet and (seen.pending == 0 or seen.resent > 0)


def _late(seen: Seen) -> bool:
    return seen.late


def _once_closed(rule: Rule) -> Rule:
    return lambda seen: seen.open == 0 and rule(seen)


ALL_HELD, ALL_ANSWERED, NO_MOVEMENT = "all-held", "all-answered", "no-movement"

HOLD: Rules = (
    (ALL_HELD, _all_held),
    ("table-full", _table_full),
    (ALL_ANSWERED, _all_answered),
    (NO_MOVEMENT, _quiet),
    ("deadline", _late),
)
# what is open is going to be closed: until then a quiet load is only one that waits
CHURN: Rules = (
    (ALL_HELD, _once_closed(_all_held)),
    ("table-full", _table_full),
    (ALL_ANSWERED, _once_closed(_all_answered)),
    (NO_MOVEMENT, _once_closed(_quiet)),
    ("deadline", _late),
)
# a full table refuses what is sent, which is an answer, and says nothing of what is still to be sent
FLOOD: Rules = (
    (ALL_HELD, _all_held),
    (ALL_ANSWERED, _all_answered),
    ("deadline", _late),
)
# what a router, or the other side, drops is lost without a word: when nothing arrives any more, all has
SENT: Rules = (
    (ALL_HELD, _all_held),
    (ALL_ANSWERED, _all_answered),
    (NO_MOVEMENT, lambda seen: seen.quiet and seen.progress["attempted"] == seen.wanted),
    ("deadline", _late),
)
NEWCOMERS: Rules = tuple(rule for rule in HOLD if rule[0] != "table-full")


def first_that_holds(rules: Rules, seen: Seen) -> Optional[str]:
    """How the load has ended, or None."""
    return next((name for name, rule in rules if rule(seen)), None)
