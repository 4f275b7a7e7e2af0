"""From evidence to a finding: a table of rules, the first that speaks decides.

They begin with what makes evidence worthless, so silence never passes for a result. Then comes what the table did to
the load, then whether the load was tracked, then what else was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lab.core.evidence import Evidence, Snapshot
from lab.core.judging import attachment, wording
from lab.core.judging.attribution import LoadEntries, Unattributed
from lab.core.judging.losses import FULL_TABLE, UNDER_WAY, UNKNOWN
from lab.core.judging.measured import MAX_SETTING, Measured
from lab.core.kernel.conntrack import conntrack_modules, modules
from lab.core.plan.steps import broken_step
from lab.core.result import Loss
from lab.core.text import shortened

_MOST_COMMAND = 400  # characters of a command in a sentence
_MOST_SAID = 2000  # of what it printed
_MODULE_LISTS = ("modules", "modules_after")

Losses = tuple[Loss, ...]
Verdict = tuple[str, str, str | None]  # finding, reason, cause
Rule = Callable[[Evidence, Measured, Losses], Verdict | None]


def _skipped(evidence: Evidence, _: Measured, __: Losses) -> Verdict | None:
    return None if evidence.skipped is None else ("skipped", evidence.skipped, None)


def _lost(evidence: Evidence, _: Measured, __: Losses) -> Verdict | None:
    return None if evidence.lost is None else ("inconclusive", f"the machine was lost: {evidence.lost}", None)


def _no_path(evidence: Evidence, _: Measured, __: Losses) -> Verdict | None:
    if evidence.path_error is None:
        return None
    return "inconclusive", f"the load's path could not be made: {shortened(evidence.path_error, _MOST_SAID)}", None


def _broken_step(evidence: Evidence, _: Measured, __: Losses) -> Verdict | None:
    """A program that is missing or does not end says nothing about the kernel, whatever the step expected of it."""
    for step in evidence.steps:
        why = broken_step(step)
        if why is not None:
            return "inconclusive", f"`{_named(step)}` {why}", None
    return None


def _named(step: Mapping[str, Any]) -> str:
    """A step by what it ran or wrote."""
    written = step.get("values")
    values = " ".join(f"{name}={value}" for name, value in written.items()) if isinstance(written, dict) else ""
    words = " ".join(step.get("argv", [])) or step.get("path") or values or step.get("key") or "a step"
    return shortened(words, _MOST_COMMAND)


def _refused(evidence: Evidence, _: Measured, __: Losses) -> Verdict | None:
    if evidence.reached is not False or not evidence.steps:
        return None
    step = evidence.steps[-1]
    what = _named(step)
    said = shortened((step.get("stderr") or step.get("stdout") or "").strip(), _MOST_SAID)
    if step.get("exit_status") == 0:
        return "state-refused", f"`{what}` should have been refused, but succeeded", None
    status = step.get("exit_status")
    return "state-refused", f"`{what}` ended with status {status}: {said or 'it printed nothing'}", None


def _not_reached(evidence: Evidence, _: Measured, __: Losses) -> Verdict | None:
    if evidence.reached is None:
        return "inconclusive", "the starting state was not applied to its end", None
    if evidence.before is None or evidence.settings is None:
        return "inconclusive", "the state before the load was not recorded", None
    return None


def _observer_effect(evidence: Evidence, _: Measured, __: Losses) -> Verdict | None:
    for name, snapshot in (("before", evidence.before), ("after", evidence.after)):
        loaded = _loaded_meanwhile(snapshot)
        if loaded:
            when = f"loaded while the state {name} the load was recorded, by the recording or by something else"
            return "inconclusive", f"{when}: {', '.join(loaded)}", None
    return None


def _not_set(evidence: Evidence, _: Measured, __: Losses) -> Verdict | None:
    for name, outcome in (evidence.settings or {}).items():
        if outcome["before"] is None and outcome["error"] == "ENOENT":
            continue  # this state has no table to set anything of
        if outcome["error"] or (name == MAX_SETTING and outcome["after"] != str(outcome["wanted"])):
            shown = outcome["error"] or f"it is {outcome['after']}"
            return "inconclusive", f"{name} could not be set to {outcome['wanted']}: {shown}", None
    return None


def _not_driven(evidence: Evidence, measured: Measured, _: Losses) -> Verdict | None:
    if evidence.load is None:
        return "inconclusive", "the load did not end", None
    if measured.connections is None:
        return "inconclusive", f"the load could not be driven: {evidence.load.get('error')}", None
    if not evidence.samples:
        return "inconclusive", "the load left no samples", None
    return None


def _during_failed(evidence: Evidence, _: Measured, __: Losses) -> Verdict | None:
    """A step that was to come under the load did not do what it should."""
    during = (evidence.load or {}).get("during") or {}
    if during.get("reached", True) or not during.get("steps"):
        return None
    step = during["steps"][-1]
    what = shortened(" ".join(step.get("argv", [])) or "a step", _MOST_COMMAND)
    said = shortened((step.get("stderr") or step.get("stdout") or "").strip(), _MOST_SAID)
    ended = f"ended with status {step.get('exit_status')}"
    return "inconclusive", f"under the load `{what}` {ended}: {said or 'it printed nothing'}", None


def _table_full(evidence: Evidence, measured: Measured, losses: Losses) -> Verdict | None:
    """The table was full, dropped, and not only what was somebody else's."""
    dropped = measured.dropped_for_room
    if not dropped or not _concerns_load(measured, losses):
        return None
    others = [loss for loss in losses if loss.cause not in (FULL_TABLE, UNDER_WAY)]
    reason = (
        f"{wording.table_state(measured)} and the kernel dropped {dropped} packets, the first after "
        f"{wording.seconds(measured.first_drop_seconds)}; {wording.held(measured)}; {wording.message(measured)}"
    )
    lost = f"; lost otherwise: {wording.loss_sentence(others)}" if others else ""
    return "table-full", reason + lost + wording.besides(evidence, measured), None


def _end_table_full(evidence: Evidence, measured: Measured, losses: Losses) -> Verdict | None:
    """The table of a remote end was the full one: its namespace has rules of its own, as a container has."""
    if measured.dropped_for_room or not any(loss.cause == FULL_TABLE for loss in losses):
        return None
    end = max(measured.ends, key=lambda one: one.dropped_for_room, default=None)
    if end is None or not end.dropped_for_room:
        return None
    held_by = attachment.end_holder(evidence, end.role)
    own = f"this machine's own table had at most {measured.entries_peak or 0} entries"
    reason = (
        f"the table of the {end.role}'s network namespace {end.namespace} reached its max ({end.entries_peak} of "
        f"{end.table_max} entries) and the kernel dropped {end.dropped_for_room} packets there{held_by}; {own}; "
        f"{wording.held(measured)}; {wording.message(measured)}"
    )
    return "table-full", reason, None


def _concerns_load(measured: Measured, losses: Losses) -> bool:
    """Whether packets that a full table dropped were the load's: it lost connections that nothing else accounts for, or
    a connection had to send its SYN again.
    """
    if losses:
        return any(loss.cause == FULL_TABLE for loss in losses)
    found = measured.attribution
    bypassed = isinstance(found, LoadEntries) and found.none
    return not bypassed and measured.held_resent != 0


def _evicted(evidence: Evidence, measured: Measured, _: Losses) -> Verdict | None:
    if not (measured.reached_max and measured.early_drops and measured.drops is not None):
        return None
    if measured.dropped_for_room or (measured.all_held and _had_room(measured)):
        return None
    reason = (
        f"{wording.table_state(measured)} and {measured.early_drops} entries were evicted for new ones, none dropped; "
        f"{wording.held(measured)}"
    )
    return "evicted", reason + wording.besides(evidence, measured), None


def _had_room(measured: Measured) -> bool:
    """Whether the load needed nobody's entry and kept all of its own, so that others were evicted for others."""
    found, fullest = measured.attribution, measured.fullest
    if not isinstance(found, LoadEntries) or fullest is None:
        return False
    room = (fullest.table_max or 0) - (measured.entries_before or 0)
    return found.none or (found.last >= wording.tried(measured) and found.peak <= room)


def _unknown_counter(_: Evidence, measured: Measured, __: Losses) -> Verdict | None:
    if measured.absent:
        return None
    if measured.entries_peak is None or measured.entries_before is None:
        return "inconclusive", "conntrack is in this kernel, but nf_conntrack_count cannot be read", None
    # with fewer entries than the max in every sample, the max may still have been met, and left, between two of them
    new = measured.new_entries if measured.load_entries is None else measured.load_entries
    if measured.reached_max or not measured.all_held or (new or 0) > 0:
        for name, count in (("drop", measured.drops), ("early_drop", measured.early_drops)):
            if count is None:
                return "inconclusive", f"conntrack is in this kernel, but its {name} counter cannot be read", None
    return None


def _all_held(evidence: Evidence, measured: Measured, _: Losses) -> Verdict | None:
    if not measured.all_held:
        return None
    found = measured.attribution
    held = wording.held(measured)
    if measured.absent:
        loaded = "nf_conntrack is not loaded, and not built into this kernel"
        return "untracked", f"{loaded}, and all {held}{wording.besides(evidence, measured)}", None
    if isinstance(found, Unattributed) and found.recorded and measured.entries_peak:
        return "inconclusive", f"{found.why}, so whether the load has any of them cannot be told; all {held}", None
    rest = wording.not_the_loads(measured) + wording.besides(evidence, measured)
    new = measured.new_entries if isinstance(found, Unattributed) else found.peak
    if (new or 0) > 0:
        rest += wording.cost(measured.memory)
        return "tracked", f"{wording.new_entries(measured)} (max {measured.table_max}), and all {held}{rest}", None
    if isinstance(found, LoadEntries) and found.cut:
        return (
            "inconclusive",
            f"the table could not be read to its end, and no entry of the load was seen; {held}",
            None,
        )
    against = attachment.contradiction(evidence)
    if against is not None and isinstance(found, LoadEntries):
        return "inconclusive", f"{wording.new_entries(measured)}, but {against}; all {held}{rest}", None
    other = attachment.other_family(evidence)
    return "untracked", f"{wording.new_entries(measured)}, and all {held}{rest}{other}", None


def _fell_short(_: Evidence, measured: Measured, losses: Losses) -> Verdict | None:
    counts = measured.connections or {}
    counted = bool(losses) and all(loss.cause not in (UNDER_WAY, UNKNOWN) for loss in losses)
    moving = measured.ended == "deadline" and not (counts.get("failed") or counts.get("lost") or counted)
    if losses and not all(loss.cause == UNDER_WAY for loss in losses) and not moving:
        return None
    under_way = f"; {wording.loss_sentence(losses)}" if losses else ""
    return "inconclusive", f"the load fell short within its time: {wording.held(measured)}{under_way}", None


def _undecided(_: Evidence, measured: Measured, losses: Losses) -> Verdict | None:
    """Nothing accounts for what was lost, and a full table dropped what may have been it, or somebody else's."""
    if not losses or losses[0].cause != UNKNOWN:
        return None
    held = wording.held(measured)
    if measured.dropped_for_room:
        bypassed = "the connections that were held have no entry, so whose packets these were cannot be told"
        reason = (
            f"{held}; a full table dropped {measured.dropped_for_room} packets, but {bypassed} (a counted rule would)"
        )
        return "inconclusive", reason, None
    if measured.resets and measured.reached_max:
        reset = "the drop counter began again meanwhile, so whether the full table dropped them cannot be told"
        return "inconclusive", f"{held}; the table was full, but {reset}", None
    return None


def _other_loss(evidence: Evidence, measured: Measured, losses: Losses) -> Verdict | None:
    cause = losses[0].cause if losses else UNKNOWN
    room = measured.dropped_for_room
    between = f"; {wording.table_state(measured)}, and drop rose by {room}" if room else ""
    lost = wording.loss_sentence(losses) or UNKNOWN
    rest = between + wording.besides(evidence, measured)
    return "other-loss", f"{wording.held(measured)}; lost: {lost}{rest}", cause


RULES: tuple[Rule, ...] = (
    _lost,
    _skipped,
    _no_path,
    _broken_step,
    _refused,
    _not_reached,
    _observer_effect,
    _not_set,
    _not_driven,
    _during_failed,
    _table_full,
    _end_table_full,
    _evicted,
    _unknown_counter,
    _all_held,
    _fell_short,
    _undecided,
    _other_loss,
)


def _loaded_meanwhile(snapshot: Snapshot | None) -> list[str]:
    """The conntrack modules that came while the observation was made."""
    if snapshot is None or not {"modules", "modules_after"} <= snapshot.texts.keys():
        return []
    first, last = ({m.name for m in conntrack_modules(modules(snapshot.texts[name]))} for name in _MODULE_LISTS)
    return sorted(last - first)
