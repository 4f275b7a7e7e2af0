"""A misleading state: how it is made, and what is true of it. Each is written to states/ as a scenario of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.truth import guest_script

FOLDER = Path(__file__).parent / "states"
AnyOf = tuple[str, ...]

# what many states are made of
NAT = "iptables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE"  # holds conntrack, and matches nothing on loopback
NOTRACK = "for c in OUTPUT PREROUTING; do iptables-nft -t raw -A $c -p tcp -j CT --notrack; done"
NFT = (
    "nft 'add table ip t; add chain ip t c {{ type filter hook {hook} priority {priority}; {policy} }}; "
    "add rule ip t c {rule}'"
)
SYN = "tcp flags & (syn|ack) == syn"
PLENTY = {"max": 100000}


@dataclass(frozen=True)
class State:
    """A state, and the truth. A finding, or a cause, that is one of several is not decided by the evidence."""

    name: str
    truth: str  # what is true, and why
    finding: str | AnyOf
    steps: tuple[str, ...] = ()  # of a shell
    mislead: str = ""  # Python, beside the load
    probe: str = ""  # a shell command that prints how many packets a rule has taken
    cause: str | AnyOf | None = None
    words: tuple[str, ...] = ()  # regular expressions that the reason must match
    not_words: tuple[str, ...] = ()  # and those that it must not
    seen: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)  # bounds of the witness's numbers
    load: Mapping[str, int | float | str] = field(default_factory=dict, hash=False)
    conntrack: Mapping[str, int] = field(default_factory=lambda: PLENTY, hash=False)
    timeouts: Mapping[str, int] = field(default_factory=dict, hash=False)
    topology: str = "loopback"
    core: bool = False  # whether it runs by default

    @property
    def findings(self) -> AnyOf:
        """Every finding that is true."""
        return (self.finding,) if isinstance(self.finding, str) else self.finding

    @property
    def causes(self) -> AnyOf:
        """Every cause that is true; empty where none is asked for."""
        return () if self.cause is None else (self.cause,) if isinstance(self.cause, str) else self.cause

    @property
    def path(self) -> Path:
        """The scenario's file."""
        return FOLDER / f"{self.name}.toml"


def scenario_text(state: State) -> str:
    """The state as a scenario."""
    script = guest_script.script(state.mislead, state.probe, state.topology)
    start = (
        f"setsid python3 {guest_script.PATH} >/truth.log 2>&1 </dev/null & "
        "until test -e /truth.ready; do kill -0 $! || { cat /truth.log >&2; exit 1; }; sleep 0.05; done"
    )
    parts = ["version = 1", f"name = {_text(state.name)}", f"summary = {_text(_summary(state))}", ""]
    parts += [f"# true: {state.truth}"]
    for step in state.steps:
        parts += ["[[state]]", f'run = ["sh", "-ec", {_template(step)}]']
    parts += ["[[state]]", f"file = {{ path = {_text(guest_script.PATH)}, text = {_template(script)} }}"]
    parts += ["[[state]]", f'run = ["sh", "-c", {_template(start)}]']
    if state.topology != "loopback":
        parts += ["", "[machine]", f"topology = {_text(state.topology)}"]
    parts += ["", "[conntrack]", *_keys(state.conntrack)]
    if state.timeouts:
        parts += [f"timeouts = {{ {', '.join(_keys(state.timeouts))} }}"]
    parts += ["", "[load]", *_keys({"connections": 1000} | dict(state.load))]
    if isinstance(state.finding, str):
        parts += ["", "[[expect]]", f"finding = {_text(state.finding)}", f"because = {_text(_summary(state))}"]
    return "\n".join(parts) + "\n"


def _summary(state: State) -> str:
    return state.truth if len(state.truth) <= 200 else f"{state.truth[:197]}..."


def _keys(values: Mapping[str, int | float | str]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in values.items()]


def _template(text: str) -> str:
    """A step's text: braces in it are written double."""
    return _text(text.replace("{", "{{").replace("}", "}}"))


def _text(text: str) -> str:
    """As TOML's basic string, whose escapes are those of JSON."""
    return json.dumps(text)
