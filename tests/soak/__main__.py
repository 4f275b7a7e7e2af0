"""For scripts/soak: cells in real guests under random faults, and what must hold however a run is disturbed.

The lab runs as a user runs it, as a program with a cache of its own. A fault may cost a cell its finding
(`inconclusive`), and never gives it another one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from lab.host.cache import cache_root
from tests.soak.faults import dealt
from tests.soak.fuzzing import fuzz
from tests.soak.runs import Place, disturbed_run
from tests.soak.tally import Tally

_DEFAULT_SECONDS = 600.0


def main() -> int:
    """Run until the time is over or the cells are enough; 1 where something was wrong."""
    parser = argparse.ArgumentParser(prog="scripts/soak")
    parser.add_argument("--seconds", type=float, default=None, help="for how long (600, where no cells are given)")
    parser.add_argument("--cells", type=int, default=None, help="for how many cells")
    parser.add_argument("--fuzz", type=float, metavar="SECONDS", help="run tests/fuzz for so long, and no cells")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--target", default="debian12")
    options = parser.parse_args()
    seconds = options.seconds if options.seconds is not None or options.cells is not None else _DEFAULT_SECONDS
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    sys.stderr.write(f"seed {seed}\n")
    if options.fuzz is not None:
        return 1 if fuzz(options.fuzz, seed).failed else 0
    return 1 if soak(seconds, options.cells, seed, options.target).wrong else 0


def soak(seconds: float | None, cells: int | None, seed: int, target: str) -> Tally:
    """Run after run, each with a fault; what was seen, which is printed, too, after Ctrl-C as well."""
    chance, tally, started = random.Random(seed), Tally(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lab-soak-") as folder, contextlib.suppress(KeyboardInterrupt):
        place = Place(Path(folder), target)
        place.temporary.mkdir()
        (place.cache / "conntrack-lab").mkdir(parents=True)
        (place.cache / "conntrack-lab" / "images").symlink_to(cache_root() / "images")
        for name in dealt(chance, os.geteuid() == 0):
            known = len(tally.wrong)
            disturbed_run(place, name, chance, tally)
            sys.stderr.write("".join(f"{line}\n" for line in tally.wrong[known:]))
            sys.stderr.write(f"{tally.cell_count} cells, {len(tally.wrong)} wrong, after: {name}\n")
            sys.stderr.flush()
            enough_time = seconds is not None and time.monotonic() - started >= seconds
            if enough_time or (cells is not None and tally.cell_count >= cells):
                break
    sys.stdout.write(f"{tally.text(time.monotonic() - started)}\n")
    return tally


if __name__ == "__main__":
    sys.exit(main())
