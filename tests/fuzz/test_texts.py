"""Parsers of what kernels and programs print: from any text comes a value, or a ValueError that says what is wrong."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping

import pytest

from lab.core import evidence, sums
from lab.core.errors import ScenarioError
from lab.core.facts import parse_config
from lab.core.kernel import conntrack, kmsg
from lab.core.scenario import parse_scenario
from tests.fuzz.mutations import another_text
from tests.recordings import GOLDEN

ROUNDS = int(os.environ.get("LAB_FUZZ_ROUNDS", "40"))
SEED = int(os.environ.get("LAB_FUZZ_SEED", "0"))
CELLS = GOLDEN / "cells"

# the name of recorded files -> what reads them
PARSERS: Mapping[str, Callable[[str], object]] = {
    "kmsg.log": lambda text: kmsg.table_full(kmsg.records(text)),
    "console.log": kmsg.console_troubles,
    "samples.jsonl": lambda text: evidence.parse_samples(text.splitlines()),
    "modules.txt": conntrack.modules,
    "stat.txt": conntrack.stat_totals,
    "slabinfo.txt": conntrack.slab,
    "SHA256SUMS": sums.parse_sums,
    "config.txt": parse_config,
    "scenario.toml": lambda text: parse_scenario(text, "x.toml"),
}


def recorded(name: str) -> list[str]:
    paths = sorted(CELLS.rglob(name))
    return [path.read_bytes().decode() for path in paths[:6]] or ["a 1 2\n"]


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_raises_nothing_but_value_errors(name: str) -> None:
    chance, texts = random.Random(f"{SEED} {name}"), recorded(name)
    for _ in range(ROUNDS):
        text = another_text(chance, chance.choice(texts))
        try:
            PARSERS[name](text)
        except (ValueError, ScenarioError):
            continue
