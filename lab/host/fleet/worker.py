"""`lab fleet worker`: Dask's worker with a cache of its own, which runs cells for whoever has the fleet's keys."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distributed import Worker

import lab
from lab.core.errors import LabError, PrerequisiteError
from lab.core.scenario import MachineSpec
from lab.host.cache import cache_root, make_folder
from lab.host.fleet import patience
from lab.host.fleet.address import LOOPBACK, Address, is_loopback
from lab.host.fleet.chunk import work_folder
from lab.host.fleet.fetching import Fetcher
from lab.host.fleet.keys import WORKER
from lab.host.fleet.package import package_digest, resource_name
from lab.host.fleet.processes import Processes
from lab.host.fleet.receiving import remove_arriving
from lab.host.fleet.settings import security, set_up
from lab.host.machines.accelerator import works_so_far
from lab.host.machines.kinds import machines_at_once
from lab.host.machines.qemu.binary import find_qemu
from lab.host.machines.qemu.saved_state import STATE_VERSION
from lab.host.run.manifest import host

ABOUT = "lab"  # what a worker says of itself, among what Dask's workers say
_AGAIN_SECONDS = 2.0
_HEADROOM_MB = 256  # of QEMU and the lab, beside a guest's memory
_LAB = (sys.executable, "-m", "lab.host.cli.fleet_cells")


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker was asked to be. `listen` is the address under which the scheduler reaches it."""

    scheduler: Address
    keys: Path | None
    slots: int
    name: str
    cache: Path
    listen: str = LOOPBACK
    artifacts: str | None = None  # the URL of a server that has images and kernels, too
    program: tuple[str, ...] = _LAB  # what runs a chunk
    machines: Mapping[str, Any] = field(default_factory=lambda: machines_here())


def slots_here() -> int:
    """As many cells as processors and free memory carry, of the usual machine, and always one."""
    shape = MachineSpec()
    return machines_at_once(shape.vcpus, shape.memory_mb + _HEADROOM_MB)


def machines_here() -> dict[str, Any]:
    """What makes machines on this host, as it is in a manifest, and whether KVM works as far as is known. Raises
    PrerequisiteError without QEMU.
    """
    qemu = find_qemu()
    return {
        "provisioner": {
            "name": "qemu",
            "qemu_version": qemu.version,
            "host_cpu": qemu.host_cpu,
            "state_version": STATE_VERSION,
        },
        "kvm": works_so_far(qemu),
    }


async def serve(settings: WorkerSettings, say: Callable[[str], None]) -> None:
    """Run a worker until this is cancelled. Where the scheduler is gone it tries again for some time.

    Raises LabError where it cannot be a worker, and when no scheduler came.
    """
    set_up(logging.CRITICAL)
    _check_reachable(settings)
    keys = security(settings.scheduler, WORKER, settings.keys)
    loop, most_seconds = asyncio.get_running_loop(), patience.SCHEDULER_SECONDS
    with _own_cache(settings):
        gone_at = loop.time()
        while True:
            try:
                async with _worker(settings, keys) as worker:
                    say(f"worker {settings.name}: {settings.slots} cells at once, for {settings.scheduler}")
                    await worker.finished()
                gone_at = loop.time()
                say(f"worker {settings.name}: the scheduler is gone; trying again for {most_seconds:g} s")
            except (OSError, TimeoutError, RuntimeError) as error:
                if loop.time() - gone_at > most_seconds:
                    hint = "start lab fleet scheduler there; its keys and these must be of one CA"
                    raise LabError(f"{settings.scheduler}: no scheduler: {error}"[:500], hint=hint) from error
            await asyncio.sleep(_AGAIN_SECONDS)


def _worker(settings: WorkerSettings, keys: Any) -> Worker:
    about = {
        "version": lab.__version__,
        "digest": package_digest(),
        "host": asdict(host()),
        **settings.machines,
    }
    return Worker(
        str(settings.scheduler),
        nthreads=settings.slots,
        name=settings.name,
        host=settings.listen,
        protocol=settings.scheduler.scheme,
        security=keys,
        resources={resource_name(package_digest()): settings.slots},
        startup_information={ABOUT: lambda worker: about},
        plugins=(Processes(settings.program), *((Fetcher(settings.artifacts),) if settings.artifacts else ())),
        local_directory=str(cache_root()),
        memory_limit=0,  # no bound of Dask's: it would count and kill what it did not start
        dashboard=False,
        dashboard_address=f"{LOOPBACK}:0",
        death_timeout=patience.CONNECT_SECONDS,
    )


def _check_reachable(settings: WorkerSettings) -> None:
    """Raises LabError for a worker that the scheduler's host could not reach, and for one that all could."""
    if not is_loopback(settings.scheduler.host) and is_loopback(settings.listen):
        raise LabError(
            f"{settings.scheduler}: cannot reach a worker on {settings.listen}",
            hint="--listen ADDRESS, which is this host's in the scheduler's network",
        )
    if settings.scheduler.scheme == "tcp" and not is_loopback(settings.listen):
        raise LabError(f"--listen {settings.listen}: tcp:// is for loopback only", hint="use tls://")


@contextlib.contextmanager
def _own_cache(settings: WorkerSettings) -> Iterator[None]:
    """Make a worker's cache this process's; what a worker that was killed left half-done is removed.

    Raises PrerequisiteError where another worker has it.
    """
    make_folder(settings.cache)
    descriptor = os.open(settings.cache / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.environ["XDG_CACHE_HOME"] = str(settings.cache.absolute())
        remove_arriving()
        shutil.rmtree(work_folder(), ignore_errors=True)
        yield
    except BlockingIOError:
        hint = "--name NAME gives another worker on this host a cache of its own"
        raise PrerequisiteError(f"{settings.cache}: another worker has this cache", hint=hint) from None
    finally:
        os.close(descriptor)
