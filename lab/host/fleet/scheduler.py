"""`lab fleet scheduler`: Dask's scheduler, which only those with the fleet's keys reach."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from distributed import Scheduler

from lab.host.fleet.address import LOOPBACK, Address
from lab.host.fleet.keys import SCHEDULER
from lab.host.fleet.settings import security, set_up


async def serve(listen: Address, keys: Path | None, dashboard_port: int | None, say: Callable[[str], None]) -> None:
    """Run a scheduler until this is cancelled. Raises LabError without keys, and OSError where it cannot listen."""
    set_up(logging.WARNING)
    async with Scheduler(
        host=listen.host,
        port=listen.port,
        protocol=listen.scheme,
        security=security(listen, SCHEDULER, keys),
        # who reads these pages shows no keys: loopback, whatever the scheduler itself listens on
        dashboard_address=f"{LOOPBACK}:{dashboard_port or 0}",
        dashboard=dashboard_port is not None,
    ) as scheduler:
        say(f"scheduler: {scheduler.address}")
        if dashboard_port is not None:
            say(f"dashboard: http://{LOOPBACK}:{scheduler.http_server.port}/status")
        await scheduler.finished()
