"""How Dask is set up here: who may connect, what it keeps, and how soon it takes somebody for lost."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask
from distributed.security import Security

from lab.core.errors import LabError
from lab.host.fleet import patience
from lab.host.fleet.address import TLS, Address
from lab.host.fleet.keys import CA, certificate_file, check_keys, key_file

_SETTINGS: Mapping[str, Any] = {
    # a task whose worker died comes back to the client, which knows what of it is left to do
    "distributed.scheduler.allowed-failures": 0,
    # results travel as events: what is kept of them, and for how long after their client has gone
    "distributed.admin.low-level-log-length": 100,
    "distributed.scheduler.events-cleanup-delay": "60s",
    # pages to look at; without the proxy, which leads to other hosts
    "distributed.scheduler.http.routes": [
        "distributed.http.scheduler.prometheus",
        "distributed.http.scheduler.info",
        "distributed.http.scheduler.json",
        "distributed.http.health",
        "distributed.http.statics",
    ],
    "distributed.worker.http.routes": ["distributed.http.health"],
    # a worker has no data worth moving: a finished task is a line of text
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.profile.enabled": False,
}


def set_up(loudest: int = logging.ERROR) -> None:
    """Set Dask up for this process; of its log comes what is at least as important as `loudest`."""
    dask.config.set(_SETTINGS)
    for name, seconds in (
        ("distributed.scheduler.worker-ttl", patience.HANG_SECONDS),
        ("distributed.comm.timeouts.connect", patience.CONNECT_SECONDS),
        ("distributed.comm.timeouts.tcp", patience.CUT_SECONDS),
    ):
        dask.config.set({name: f"{seconds:g}s"})
    logging.getLogger("distributed").setLevel(loudest)


def security(address: Address, role: str, folder: Path | None) -> Security | None:
    """The keys of a role, without which nobody connects; None for `tcp://`, which is loopback's. Raises LabError."""
    if address.scheme != TLS:
        return None
    if folder is None:
        raise LabError(f"{address}: needs keys", hint="--keys DIR; lab fleet keys DIR makes them")
    check_keys(folder, role)
    return Security(  # type: ignore[no-untyped-call]
        require_encryption=True,
        tls_min_version=ssl.TLSVersion.TLSv1_3,
        tls_ca_file=str(certificate_file(folder, CA)),
        **{
            f"tls_{role}_cert": str(certificate_file(folder, role)),
            f"tls_{role}_key": str(key_file(folder, role)),
        },
    )
