"""Where a result is false: held against what is known of the state, and against what the witness saw."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.truth.state import State
from tests.truth.witness import Seen

Json = Mapping[str, Any]
_SLACK = 0.05  # between two looks of the witness some entries come and go
# The witness looks now and then, and a read of a list that changes passes rows over: it sees hardly one twice, but may
# see too few of what comes just before the end.
_SEEN_SHARE = 0.4
_SHORT_LIVED = ("churn", "half-open")


def falsehoods(state: State, result: Json, witness: Seen) -> list[str]:
    """Every claim of the result that is not true; empty where all are. A state that did not come about is one, too.

    A witness that was not let run until the load was there can contradict nothing.
    """
    found = [*_of_the_finding(state, result)]
    if _was_there(state, result, witness):
        found += [*_of_the_state(state, witness), *_of_the_numbers(state, result, witness)]
    return found


def _was_there(state: State, result: Json, witness: Seen) -> bool:
    held = (result["connections"] or {}).get("held") or 0
    return state.load.get("kind", "hold") != "hold" or witness["established"] >= held * _SEEN_SHARE


def largest_loss(result: Json) -> str | None:
    """The cause that explains most of what was lost."""
    losses = result["losses"] or []
    return str(losses[0]["cause"]) if losses else None


def _of_the_state(state: State, witness: Seen) -> Iterator[str]:
    for name, (low, high) in state.seen.items():
        if not low * _SEEN_SHARE <= witness[name] <= high * (1 + _SLACK):
            yield f"the state did not come about: the witness saw {name} {witness[name]}, not {low} to {high}"


def _of_the_finding(state: State, result: Json) -> Iterator[str]:
    finding, reason = result["finding"], result["reason"]
    if finding not in state.findings:
        yield f"{finding}, but true is {' or '.join(state.findings)}: {reason}"
    lost = largest_loss(result)
    if state.causes and finding != "inconclusive" and lost not in state.causes:
        yield f"most is lost to {lost}, but true is {' or '.join(state.causes)}: {reason}"
    yield from (f"the reason does not say {word!r}: {reason}" for word in state.words if not re.search(word, reason))
    yield from (f"the reason says {word!r}: {reason}" for word in state.not_words if re.search(word, reason))


def _of_the_numbers(state: State, result: Json, witness: Seen) -> Iterator[str]:
    """What must hold in any state."""
    finding = result["finding"]
    if finding == "untracked" and witness["entries"]:
        yield f"untracked, but the witness saw {witness['entries']} entries of the load"
    if finding == "tracked" and not witness["entries"]:
        yield "tracked, but the witness saw no entry of the load"
    if finding == "table-full" and not witness["drop"] > witness["insert_failed"]:
        yield f"table-full, but the witness saw drop {witness['drop']}, insert_failed {witness['insert_failed']}"
    entries = (result["load_entries"] or {}).get("peak")
    steady = state.load.get("kind", "hold") not in _SHORT_LIVED and not state.mislead
    if steady and entries is not None and not entries * _SEEN_SHARE <= witness["entries"] <= entries * (1 + _SLACK):
        yield f"{entries} entries of the load, but the witness saw {witness['entries']}"
    held = (result["connections"] or {}).get("held")
    if (
        state.load.get("kind", "hold") == "hold"
        and held is not None
        and witness["established"] > held * (1 + _SLACK) + 1
    ):
        yield f"{held} held, but the witness saw {witness['established']} established"
    by_rule = sum(one["connections"] for one in result["losses"] or [] if one["cause"] == "a rule")
    if state.probe and by_rule > witness["probe"]:
        yield f"{by_rule} lost to a rule, but the witness saw it take {witness['probe']} packets"
    overflowed = sum(one["connections"] for one in result["losses"] or [] if one["cause"] == "accept backlog")
    if overflowed > witness["overflows"]:
        yield f"{overflowed} lost to an accept queue, but the witness saw {witness['overflows']} overflows"
