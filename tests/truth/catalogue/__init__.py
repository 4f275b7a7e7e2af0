"""Every misleading state, by subject."""

from tests.truth.catalogue import drops, entries, limits, listeners, moments, paths, reported, strangers, undecided
from tests.truth.state import State

STATES: tuple[State, ...] = (
    *reported.STATES,
    *strangers.STATES,
    *entries.STATES,
    *limits.STATES,
    *moments.STATES,
    *drops.STATES,
    *listeners.STATES,
    *paths.STATES,
)
UNDECIDED: tuple[State, ...] = undecided.STATES
