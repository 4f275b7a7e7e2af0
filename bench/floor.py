"""bench/floor.c: built once for its source, and the ways to run it of which the fastest is the floor."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.common import BenchError
from lab.guest.spread import Shard, shards

SOURCE = Path(__file__).with_name("floor.c")
_SOURCES = (SOURCE, SOURCE.with_name("floor_ring.h"))
_FLAGS = ("-O2", "-std=gnu11")


def build(static: bool = False) -> Path:
    """The program, from the cache where it was built from the same source before. Raises BenchError."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise BenchError("no C compiler: install gcc and libc6-dev (Debian's names), then run this again")
    flags = [*_FLAGS, *(["-static", "-s"] if static else [])]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES) + " ".join(flags).encode()).hexdigest()[
        :12
    ]
    program = _cache() / f"floor-{digest}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        aside = program.with_name(f"{program.name}.{os.getpid()}")
        argv = [compiler, *flags, "-o", str(aside), str(SOURCE)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"{' '.join(argv)}: {done.stderr.strip()}\nit needs libc6-dev (Debian's name)")
        aside.replace(program)
    return program


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "conntrack-lab" / "bench"


@dataclass(frozen=True)
class Place:
    """Where runs are made, as far as it decides how connections are spread."""

    processors: int
    fd_limit: int
    ephemeral_ports: int = 60999 - 32768 + 1  # of a new network namespace: inet_init_net() in net/ipv4/af_inet.c


@dataclass(frozen=True)
class Way:
    """One way to run the floor: see floor.c for what each means."""

    layout: str = "apart"
    client: str = "poll"
    batch: int = 512
    gather_ms: int = 0
    window: int = 2048  # the engine's

    @property
    def text(self) -> str:
        """For people."""
        gathered = f", gathered {self.gather_ms} ms" if self.gather_ms else ""
        return f"{self.layout}, {self.client}, batches of {self.batch}{gathered}"

    def processes(self, connections: int, place: Place) -> int:
        """Of each side, or pairs: one per processor, more where descriptors ask for it (as the engine does it)."""
        return len(self._shards(connections, place.processors, place))

    def argv(self, program: str, mode: str, connections: int, place: Place) -> list[str]:
        """The command line."""
        processes = self.processes(connections, place)
        listeners = max(len(shard.listen) for shard in self._shards(connections, processes, place))
        options = {
            "mode": mode,
            "connections": connections,
            "processes": processes,
            "listeners": listeners,
            "layout": self.layout,
            "client": self.client,
            "batch": self.batch,
            "gather-ms": self.gather_ms,
            "window": self.window,
        }
        return [program, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]

    def _shards(self, connections: int, processes: int, place: Place) -> list[Shard]:
        sides = 2 if self.layout == "pairs" else 1
        return shards(connections, processes, place.fd_limit, place.ephemeral_ports, sides=sides)


WAYS = (
    Way("pairs", "poll"),
    Way("pairs", "poll", batch=64),
    Way("pairs", "epoll", batch=64),
    Way("apart", "epoll"),
    Way("apart", "epoll", gather_ms=3),
    Way("apart", "poll", gather_ms=10),
)
QUICK_WAYS = (Way("pairs", "poll"), Way("apart", "epoll", gather_ms=3))
RING_WAYS = (Way("pairs", "ring"), Way("pairs", "ring", batch=128), Way("apart", "ring"))
QUICK_RING_WAYS = (Way("pairs", "ring"),)
GUEST_WAYS = (Way("pairs", "poll"), Way("pairs", "poll", batch=64), Way("apart", "epoll", gather_ms=10))
