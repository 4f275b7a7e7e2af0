"""What a worker of a fleet runs, `python -m lab.host.cli.fleet_cells`: for each line on stdin, `{"folder": ...,
"accelerator": ...}`, the cells that a run's folder lacks. What happens is said on stdout, a JSON object a line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lab.core.plan import CellPlan
from lab.host.cli.console import hush, wait_for
from lab.host.cli.ending import EXIT_INTERRUPTED, status_of
from lab.host.options import RunOptions
from lab.host.run import resuming
from lab.host.run.commands import Services, run_cells
from lab.host.run.recording import Progress

_LOAD_SECONDS = 1.0  # between two looks at a load

Tell = Callable[..., None]


def tell(**content: Any) -> None:
    """A line for the worker."""
    sys.stdout.write(f"{json.dumps(content)}\n")
    sys.stdout.flush()


def main() -> int:
    """Run a chunk for each line of standard input, until it ends; the exit status."""
    for line in sys.stdin:
        asked = json.loads(line)
        said: list[str] = []
        status = status_of(lambda: _run(Path(asked["folder"]), asked["accelerator"]), said.append)  # noqa: B023
        if said:
            error, hint = (*said, "")[:2]
            tell(error=error.removeprefix("lab: "), hint=hint.removeprefix("  hint: "))
        tell(done=status)
        if status == EXIT_INTERRUPTED:
            return status
    return 0


def _run(folder: Path, accelerator: str) -> int:
    resumed = resuming.prepare(folder, RunOptions(parallel=1, accelerator=accelerator), hush)
    services = Services(hush, in_moderation(), lambda plan, result: tell(ended=plan.cell))
    wait_for(run_cells(resumed.planned, resumed.options, services, resumed.begun))
    return 0


def in_moderation() -> Callable[[CellPlan, Progress], None]:
    """What tells a cell's progress: each stage and step, and of a load's numbers those of every second."""
    last: dict[str, tuple[Progress, float]] = {}

    def on_progress(plan: CellPlan, seen: Progress) -> None:
        now, place = time.monotonic(), replace(seen, held=None, entries=None, table_max=None, drops=None)
        before, at = last.get(plan.cell, (None, 0.0))
        if place != before or now - at >= _LOAD_SECONDS:
            last[plan.cell] = (place, now)
            tell(at=plan.cell, progress=asdict(seen))

    return on_progress


if __name__ == "__main__":
    raise SystemExit(main())
