"""A load over IPv4 and IPv6 at once: what belongs to each, so that each has a finding of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lab.core.evidence import Evidence

# Which of two findings is the cell's: what was lost says more than what was not.
_WORST_FIRST = ("table-full", "evicted", "other-loss", "inconclusive", "tracked", "untracked")


def by_family(evidence: Evidence) -> Mapping[str, Evidence]:
    """The evidence of each family's part of the load; empty where it went over one.

    Raises KeyError, TypeError or ValueError for a load that does not say what belongs to which.
    """
    load = evidence.load or {}
    parts = load.get("families") or {}
    return {family: replace(evidence, load=_part(load, family, part)) for family, part in parts.items()}


def _part(load: Mapping[str, Any], family: str, part: Mapping[str, Any]) -> Mapping[str, Any]:
    ports = {int(port) for port in part["ports"]} | {int(listener[1]) for listener in part["listeners"]}
    looks = None if load.get("looks") is None else [_look(look, family, ports) for look in load["looks"]]
    kept = {name: value for name, value in load.items() if name != "families"}
    return {**kept, **part, "family": family, "looks": looks}


def _look(look: Mapping[str, Any], family: str, ports: set[int]) -> Mapping[str, Any]:
    """A look at the table without the other family's entries of the load; its listeners have other ports."""
    mine = int(look["families"].get(family, 0))
    groups: Sequence[Any] = [group for group in look["groups"] if int(group[2]) in ports]
    rows = {name: count if name == family else 0 for name, count in look["rows"].items()}
    return {**look, "load": mine, "groups": groups, "rows": rows}


def deciding(findings: Mapping[str, str]) -> str:
    """The family whose finding is the cell's; the first of them where both have the same."""
    ranks = {name: rank for rank, name in enumerate(_WORST_FIRST)}
    return min(findings, key=lambda family: ranks.get(findings[family], -1))
