"""`lab fleet`: keys, scheduler and workers of a fleet, on which `lab run --fleet` runs cells."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from lab.host.cli.console import say, wait_for
from lab.host.cli.parsing import command
from lab.host.fleet import with_dask
from lab.host.fleet.address import DEFAULT_PORT, LOOPBACK, parse_address
from lab.host.options import positive

_DAYS = 365
_KEYS = "the folder with the fleet's keys, which tls:// needs"


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    parser = commands.add_parser("fleet", help="run cells on many machines: keys, scheduler, workers")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    keys = command(actions, "keys", _keys, "make a CA, and certificates for a fleet", "lab fleet keys ~/fleet")
    keys.add_argument("keys", metavar="DIR", type=Path, help="where they are made")
    keys.add_argument("--days", type=positive, default=_DAYS, metavar="N", help=f"how long they are good ({_DAYS})")
    example = "lab fleet scheduler --keys ~/fleet --listen tls://192.0.2.1:8786"
    scheduler = command(actions, "scheduler", _scheduler, "run the scheduler of a fleet", example)
    listen = f"tls://{LOOPBACK}:{DEFAULT_PORT}"
    scheduler.add_argument("--listen", default=listen, metavar="ADDRESS", help=f"where it is reached ({listen})")
    scheduler.add_argument("--keys", type=Path, metavar="DIR", help=_KEYS)
    help_of_dashboard = "show Dask's pages on this port of loopback (needs bokeh)"
    scheduler.add_argument("--dashboard", type=positive, metavar="PORT", help=help_of_dashboard)
    example = "lab fleet worker tls://192.0.2.1:8786 --keys ~/fleet --listen 192.0.2.7"
    worker = command(actions, "worker", _worker, "run cells for the clients of a scheduler", example)
    worker.add_argument("scheduler", metavar="SCHEDULER", help="its address")
    worker.add_argument("--keys", type=Path, metavar="DIR", help=_KEYS)
    worker.add_argument("--slots", type=positive, metavar="N", help="cells at once (as processors and memory carry)")
    help_of_listen = f"this host's address in the scheduler's network ({LOOPBACK})"
    worker.add_argument("--listen", default=LOOPBACK, metavar="HOST", help=help_of_listen)
    worker.add_argument("--name", default=os.uname().nodename, help="what it is called (this host's name)")
    help_of_cache = "where it keeps images and kernels (fleet/NAME in the user's cache)"
    worker.add_argument("--cache", type=Path, metavar="DIR", help=help_of_cache)
    help_of_artifacts = "a web server that is asked for images and kernels before the client is"
    worker.add_argument("--artifacts", metavar="URL", help=help_of_artifacts)


def _keys(options: argparse.Namespace) -> int:
    with with_dask():
        from lab.host.fleet.keys import make_keys
    for path in make_keys(options.keys, options.days):
        print(path)
    return 0


def _scheduler(options: argparse.Namespace) -> int:
    address = parse_address(options.listen)
    with with_dask():
        from lab.host.fleet.scheduler import serve
    wait_for(serve(address, options.keys, options.dashboard, say))
    return 0


def _worker(options: argparse.Namespace) -> int:
    from lab.host.cache import cache_root

    address = parse_address(options.scheduler)
    with with_dask():
        from lab.host.fleet.fetching import parse_base
        from lab.host.fleet.worker import WorkerSettings, serve, slots_here
    artifacts = None if options.artifacts is None else parse_base(options.artifacts)
    cache = options.cache or cache_root() / "fleet" / options.name
    slots = options.slots or slots_here()
    settings = WorkerSettings(address, options.keys, slots, options.name, cache, options.listen, artifacts)
    wait_for(serve(settings, say))
    return 0
