"""How long every parser takes for a text of each shape: a guest may print what it likes, and is judged all the same.

The time is of this process's CPU, so that a busy machine does not count, and of the best turn, for a parser does the
same work each time. The target is 1 s for each MB, for any shape.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from bench.common import Metric, Table, progress, report, summary
from bench.shapes import SHAPES, Shape

TARGET_SECONDS_PER_MB = 1.0
BYTES_PER_MB = 1_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(argv)
    chosen = {name: shape for name, shape in SHAPES.items() if not options.only or options.only in name}
    size = int(options.megabytes * BYTES_PER_MB)
    metrics = []
    for name, shape in chosen.items():
        progress(name)
        seconds = summary([_seconds_per_mb(shape, size) for _ in range(options.turns)])
        metrics.append(Metric(name, seconds.low, "s/MB", TARGET_SECONDS_PER_MB, "lower", seconds))
    rows = [
        (one.name, f"{one.median:.2f}", one.summary.text(2))
        for one in metrics
        if one.median is not None and one.summary
    ]
    table = Table(f"{options.megabytes:g} MB of each shape", ("shape", "s/MB", "turns"), rows)
    return report("parse", metrics, [table], options.json)


def _seconds_per_mb(shape: Shape, size: int) -> float:
    text = shape.make(size)
    began = time.process_time()
    shape.read(text)
    return (time.process_time() - began) * BYTES_PER_MB / len(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench/parse", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--megabytes", type=float, default=1.0, help="size of each text (default: 1)")
    parser.add_argument("--turns", type=int, default=3, help="how often each is read (default: 3)")
    parser.add_argument("--only", metavar="TEXT", help="only shapes with TEXT in their names")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON goes (default: bench/results/)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
