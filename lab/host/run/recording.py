"""Driving one cell in one machine, and keeping every word that it says, also of a machine that is lost half-way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.core.errors import GuestLost
from lab.core.facts import parse_facts
from lab.core.kernel.conntrack import stat_totals
from lab.core.kernel.kmsg import LOAD_BEGINS, LOAD_ENDS
from lab.core.plan import CellPlan, describe_outcome, step_request
from lab.core.scenario import DEFAULT_PATH
from lab.guest import PROTOCOL_VERSION
from lab.guest.observe import ITEM_NAMES
from lab.host.machines.machine import Event, Machine
from lab.host.options import Deadlines
from lab.host.results.recording import Recording

MAX_SAMPLES = 100_000
# in characters: of JSON in ASCII, where one takes up to 12 bytes, the agent takes requests of 4 MiB
_LONG_TEXT = 16 * 1024
_PART = 256 * 1024
GUEST_SPARE_SECONDS = 65.0  # the load's processes may take 30 s to start, and 30 s to count up at the end


@dataclass(frozen=True)
class Progress:
    """Where a cell is, for people."""

    stage: str
    held: int | None = None
    connections: int | None = None
    entries: str | None = None
    table_max: str | None = None
    drops: int | None = None
    mitigation: bool = False  # of the second machine, in which the holders are removed
    step: str | None = None  # what became of the step that has just ended, in a line


OnProgress = Callable[[Progress], None]


async def record(
    machine: Machine,
    plan: CellPlan,
    deadlines: Deadlines,
    recording: Recording,
    on_progress: OnProgress,
    kernel_config: str | None = None,
    with_peer: bool = False,
) -> None:
    """Run the plan in the machine, filling `recording` as it goes. Raises GuestLost.

    `with_peer` tries connections with other hosts when all else is recorded. `kernel_config` is what is known of the
    kernel's configuration from outside, for machines that do not have it.
    """
    await reach_state(machine, plan, deadlines, recording, on_progress, kernel_config)
    if recording.skipped is not None:
        return
    with recording.stage("collect"):
        recording.before = await _observe(machine, deadlines.collect, list_hooks=False)
    if recording.reached:
        await _load(machine, plan, deadlines, recording, on_progress)
    on_progress(Progress("collect"))
    with recording.stage("collect"):
        recording.after = await _observe(machine, deadlines.collect, list_hooks=True)
        for end in plan.touched_ends if recording.reached else ():
            recording.ends[end] = await _observe(machine, deadlines.collect, list_hooks=False, end=end)
        if recording.load is not None:
            await _check_load(machine, deadlines, recording)
        log = await machine.call("kernel_log", deadline_seconds=deadlines.collect)
        recording.kernel_log = _text(log, "text")
        # an agent that does not tell of holes leaves it unknown whether there are any
        recording.kernel_log_holes = {name: log[name] for name in ("overwritten", "truncated") if name in log} or None
    if with_peer and recording.load is not None:
        with recording.stage("collect"):
            recording.peer = await _try_peers(machine, deadlines)


async def reach_state(
    machine: Machine,
    plan: CellPlan,
    deadlines: Deadlines,
    recording: Recording,
    on_progress: OnProgress,
    kernel_config: str | None = None,
) -> None:
    """Apply a plan's steps and the table's settings. Raises GuestLost; a refusal is recorded, not raised.

    A machine that lacks what the scenario requires is left as it is, and the recording says why.
    """

    def on_step(event: Event) -> None:
        recording.steps.append(_content(event))
        on_progress(Progress("state", step=describe_outcome(plan, recording.steps[-1])))

    seconds = deadlines.state
    on_progress(Progress("state"))
    with recording.stage("state"):
        await _greet(machine, plan, seconds, recording, kernel_config)
        if recording.skipped is not None:
            return
        await machine.call("begin", deadline_seconds=seconds, marker=f"conntrack-lab: {plan.cell} begins")
        path: dict[str, Any] = {"name": plan.machine.path or DEFAULT_PATH, "families": list(plan.families)}
        if plan.machine.path is not None or plan.load.family is not None:
            recording.topology = await machine.call("path", deadline_seconds=seconds, **path)
        if (recording.topology or {}).get("error"):
            return
        steps = await _send_texts(machine, [step_request(step) for step in plan.steps], seconds)
        outcome = await machine.call("apply", deadline_seconds=seconds, steps=steps, on_event=on_step)
        recording.reached = outcome.get("reached") is True
        if not recording.reached:
            return
        if recording.topology is not None:
            touched = list(plan.touched_ends)
            ends = await machine.call("untrack_ends", deadline_seconds=seconds, **path, touched=touched)
            recording.reached = "error" not in ends
            recording.topology = {**recording.topology, "untracked_ends": ends, "error": ends.get("error")}
        recording.settings = await machine.call("set", deadline_seconds=seconds, values=dict(plan.settings))


async def _greet(
    machine: Machine, plan: CellPlan, seconds: float, recording: Recording, kernel_config: str | None
) -> None:
    """Record what the machine says of itself, and why it cannot have the scenario, if it cannot. Raises GuestLost."""
    programs = sorted({program for program in plan.programs if "/" not in program})
    said = dict(await machine.call("hello", deadline_seconds=seconds, programs=programs))
    if said.get("kernel_config") is None:
        said["kernel_config"] = kernel_config
    recording.machine = said
    if said.get("protocol") != PROTOCOL_VERSION:
        raise GuestLost(f"the agent speaks protocol {said.get('protocol')!r}, not {PROTOCOL_VERSION}")
    recording.skipped = _unmet(plan, said)


async def _send_texts(machine: Machine, steps: Sequence[Mapping[str, Any]], seconds: float) -> list[Mapping[str, Any]]:
    """The steps as `apply` takes them: long texts are sent before, in parts that fit the agent's requests."""
    sent = []
    for step in steps:
        text = step.get("text", "")
        if len(text) > _LONG_TEXT:
            for start in range(0, len(text), _PART):
                part = text[start : start + _PART]
                await machine.call("keep", deadline_seconds=seconds, key=step["key"], text=part)
        sent.append({**step, "text": ""} if len(text) > _LONG_TEXT else step)
    return sent


def _unmet(plan: CellPlan, said: Mapping[str, Any]) -> str | None:
    lacking = said.get("programs_missing")
    if isinstance(lacking, list) and lacking:
        return f"this machine has no {', '.join(map(str, lacking))}"[:200]
    try:
        return plan.requires.unmet(parse_facts(plan.target, said))
    except ValueError as error:
        raise GuestLost(f"the agent described its machine in a way that cannot be read: {error}") from error


async def _load(
    machine: Machine,
    plan: CellPlan,
    deadlines: Deadlines,
    recording: Recording,
    on_progress: OnProgress,
) -> None:
    request: Mapping[str, Any] = plan.to_json()
    asked = plan.load.connections
    first: list[int | None] = []

    def on_sample(event: Event) -> None:
        if len(recording.samples) >= MAX_SAMPLES:
            raise GuestLost(f"the load sent more than {MAX_SAMPLES} samples")
        sample = _content(event)
        recording.samples.append(json.dumps(sample, sort_keys=True))
        drops = _drops(sample)
        if not first:
            first.append(drops)
        on_progress(_progress_of(sample, asked, first[0], drops))

    on_progress(Progress("load", connections=asked))
    with recording.stage("load"):
        recording.load = await machine.call(
            "load",
            # the guest ends the load by itself at its own deadline; ours is for a guest that does not
            deadline_seconds=deadlines.load + GUEST_SPARE_SECONDS,
            load_seconds=deadlines.load,
            on_event=on_sample,
            path=plan.machine.path or DEFAULT_PATH,
            during=request.get("during", []),
            marks=[LOAD_BEGINS, LOAD_ENDS],
            **request["load"],
        )


async def _try_peers(machine: Machine, deadlines: Deadlines) -> Mapping[str, Any]:
    """What worked, or why nothing could be tried: the evidence is whole without it."""
    try:
        return await machine.call("peer", deadline_seconds=deadlines.collect)
    except GuestLost as lost:
        return {"attempts": None, "error": str(lost)[:1000]}


async def _check_load(machine: Machine, deadlines: Deadlines, recording: Recording) -> None:
    """What was observed after the load is of a load that still held everything, or the load was not driven."""
    said = await machine.call("check", deadline_seconds=deadlines.collect)
    if said.get("crash") is not None:
        recording.load = {"ended": "not-driven", "error": f"while evidence was collected: {said['crash']}"}


async def _observe(
    machine: Machine, deadline_seconds: float, *, list_hooks: bool, end: str | None = None
) -> dict[str, Mapping[str, Any]]:
    """One observation, of the machine or in an end of the path. Listing the hooks may load modules (none of
    conntrack's), so that is done after the load.
    """
    items: dict[str, Mapping[str, Any]] = {}

    def on_item(event: Event) -> None:
        name = event.get("name")
        if not isinstance(name, str) or name not in ITEM_NAMES:  # it becomes a file's name
            raise GuestLost(f"the guest sent evidence of an unknown name: {name!r:.80}")
        items[name] = {key: event.get(key) for key in ("text", "error", "truncated")}

    await machine.call("observe", deadline_seconds=deadline_seconds, on_event=on_item, list_hooks=list_hooks, end=end)
    return items


def _content(event: Event) -> dict[str, Any]:
    """What an event says, without what the channel needs to carry it."""
    return {name: value for name, value in event.items() if name not in ("id", "event")}


def _progress_of(sample: Mapping[str, Any], asked: int, first: int | None, drops: int | None) -> Progress:
    return Progress(
        "load",
        held=sample.get("held") if isinstance(sample.get("held"), int) else None,
        connections=asked,
        entries=_number(sample.get("count")),
        table_max=_number(sample.get("max")),
        drops=drops - first if drops is not None and first is not None else None,
    )


def _drops(sample: Mapping[str, Any]) -> int | None:
    """For the progress display only: the finding is made from the stored text."""
    try:
        return stat_totals(sample["stat"]).get("drop") if isinstance(sample.get("stat"), str) else None
    except ValueError:
        return None


def _number(text: Any) -> str | None:
    return text.strip()[:12] if isinstance(text, str) and text.strip().isdigit() else None


def _text(reply: Mapping[str, Any], name: str) -> str | None:
    value = reply.get(name)
    if value is not None and not isinstance(value, str):
        raise GuestLost(f"the guest sent {name} that is no text: {value!r:.80}")
    return value
