"""The client's connection with a scheduler, and what it knows of the workers there."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client

from lab.core.errors import LabError
from lab.core.manifest import FleetWorker, Host
from lab.host.fleet import patience
from lab.host.fleet.address import Address
from lab.host.fleet.keys import CLIENT
from lab.host.fleet.package import package_digest
from lab.host.fleet.settings import security, set_up
from lab.host.fleet.worker import ABOUT
from lab.host.results.records import Wrong, whole

_INSTALL_HINT = "install the same lab on every host: the same commit, or the same version from the same place"


@dataclass(frozen=True)
class WorkerSeen:
    """A worker as the scheduler knows it; `about` is what it says of itself."""

    address: str
    slots: int
    digest: str
    version: str
    kvm: bool
    provisioner: Mapping[str, Any]
    stored: FleetWorker

    @property
    def name(self) -> str:
        """What its user called it."""
        return self.stored.name

    @property
    def has_this_lab(self) -> bool:
        """Whether it is asked to run anything."""
        return self.digest == package_digest()


@contextlib.asynccontextmanager
async def connected(address: Address, keys: Path | None) -> AsyncIterator[Client]:
    """A client of the scheduler. Raises LabError where there is none, or none that takes these keys."""
    set_up(logging.CRITICAL)
    trusted = security(address, CLIENT, keys)
    client = Client(  # type: ignore[no-untyped-call]
        str(address), asynchronous=True, security=trusted, timeout=patience.CONNECT_SECONDS, set_as_default=False
    )
    try:
        try:
            await client
        except (OSError, TimeoutError, RuntimeError) as error:
            raise LabError(
                f"{address}: no scheduler answers: {error}"[:500],
                hint="start lab fleet scheduler there; its keys and these must be of one CA",
            ) from error
        yield client
    finally:
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            await client.close(timeout=2)  # type: ignore[no-untyped-call]


async def workers_of(client: Client) -> list[WorkerSeen]:
    """All workers that the scheduler has now. Raises OSError where it is gone."""
    if client.scheduler is None:
        raise OSError("not connected")
    identity = await client.scheduler.identity(n_workers=-1)
    return [*_seen(identity["workers"])]


def check_labs(workers: Sequence[WorkerSeen]) -> None:
    """Return if some worker has this lab. Raises LabError where there are workers, and all have another."""
    if workers and not any(worker.has_this_lab for worker in workers):
        raise LabError(f"no worker has this lab: {'; '.join(map(refusal, workers))}"[:1000], hint=_INSTALL_HINT)


def refusal(worker: WorkerSeen) -> str:
    """Why a worker gets no cell."""
    return f"{worker.name} has lab {worker.version} {worker.digest[:12]}, this is {package_digest()[:12]}"


def _seen(workers: Mapping[str, Mapping[str, Any]]) -> Iterable[WorkerSeen]:
    for address, known in workers.items():
        about = known.get(ABOUT)
        if known.get("status") not in ("running", "init") or not isinstance(about, dict):
            continue  # it is on its way out, or none of the lab's
        provisioner = about.get("provisioner", {})
        with contextlib.suppress(Wrong):  # it may say anything
            stored = FleetWorker(
                name=str(known.get("name"))[:100],
                host=whole(Host, about.get("host", {})),
                qemu_version=str(provisioner.get("qemu_version"))[:200],
                host_cpu=str(provisioner.get("host_cpu"))[:200],
            )
            yield WorkerSeen(
                address,
                int(known.get("nthreads", 1)),
                str(about.get("digest")),
                str(about.get("version"))[:40],
                about.get("kvm") is True,
                provisioner,
                stored,
            )
