"""Where the scenarios are that show facts of kernels."""

from __future__ import annotations

from pathlib import Path

from lab.core.kernel.facts import KernelFact
from tests import ROOT


def scenario_path(fact: KernelFact) -> Path:
    """The shipped scenario of a fact, or the one that is there for its test. Raises ValueError where it has neither."""
    if fact.scenario is not None:
        return ROOT / "scenarios" / f"{fact.scenario}.toml"
    if fact.trial is not None:
        return ROOT / "tests" / "vm" / "facts" / f"{fact.trial}.toml"
    raise ValueError(f"no scenario shows it: {fact.what}")
