"""tests/fuzz for a time: again and again, each time with another seed and more examples than scripts/test tries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass

_FACTOR = 20
_ROUND_SECONDS = 3600.0
_EXAMPLES = re.compile(r"- (\d+) passing(?: \w+)*, (\d+) failing")


@dataclass
class Fuzzed:
    """What was tried, and what came of it."""

    rounds: int = 0
    examples: int = 0
    failed: int = 0

    def text(self, seconds: float) -> str:
        """For people."""
        return f"{self.examples} examples in {self.rounds} rounds, {seconds:.0f} s: {self.failed} rounds failed"


def fuzz(seconds: float, seed: int) -> Fuzzed:
    """Rounds of tests/fuzz until the time is over; a round that fails prints what it found, shrunk."""
    started, done = time.monotonic(), Fuzzed()
    environment = {**os.environ, "LAB_FUZZ_FACTOR": str(_FACTOR)}
    while time.monotonic() - started < seconds:
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/fuzz"]
        argv += [f"--hypothesis-seed={seed + done.rounds}", "--hypothesis-show-statistics"]
        tried = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_ROUND_SECONDS)
        done.rounds += 1
        done.examples += counted(tried.stdout)
        if tried.returncode != 0:
            done.failed += 1
            sys.stdout.write(tried.stdout + tried.stderr)
        sys.stderr.write(f"{done.text(time.monotonic() - started)}\n")
        sys.stderr.flush()
    sys.stdout.write(f"{done.text(time.monotonic() - started)}\n")
    return done


def counted(statistics: str) -> int:
    """The examples that hypothesis says it tried."""
    return sum(int(passing) + int(failing) for passing, failing in _EXAMPLES.findall(statistics))
