"""How much is tried: some seconds in scripts/test; in scripts/soak --fuzz more, again and again, with other seeds."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("LAB_FUZZ_FACTOR", "0"))  # 0: few examples, always the same ones


def bounded(examples: int) -> settings:
    """Settings for a test that tries so many examples in scripts/test."""
    return settings(
        max_examples=examples * max(FACTOR, 1),
        stateful_step_count=8,
        deadline=None,
        derandomize=FACTOR == 0,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
