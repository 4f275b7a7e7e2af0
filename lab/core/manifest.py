"""A run's manifest: what shaped it. Written when the run begins, and again when it ends.

A field is a key of manifest.json, in the order of that file. None is what a manifest does not tell: of an older lab, or
a damaged one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.core.shards import Shard

# 1 - first version. Old manifests load for ever: a reader of version N reads every version up to N.
MANIFEST_VERSION = 1
# the parts that manifests of every version have, and without which nothing can be run again
ALWAYS = ("overrides", "targets", "provisioner", "scenarios", "deadlines_seconds")


@dataclass(frozen=True)
class Host:
    """The machine that the lab ran on."""

    kernel_release: str | None = None
    architecture: str | None = None
    python: str | None = None
    processors: int | None = None


@dataclass(frozen=True)
class StoredOverrides:
    """What the command line set in place of the scenarios' own."""

    connections: int | None = None
    max: int | None = None
    set: tuple[str, ...] = ()
    mitigate: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The same as options of the command line."""
        numbers = (("connections", self.connections), ("max", self.max))
        changed = [f"--{name} {value}" for name, value in numbers if value is not None]
        return (*changed, *(f"--set {chosen}" for chosen in self.set), *["--mitigate"] * self.mitigate)


@dataclass(frozen=True)
class StoredOptions:
    """What the command line set beside overrides and deadlines; the defaults are those of manifests without it."""

    repeat: int = 1
    parallel: int | None = None
    keep_failed: bool = False
    accelerator: str = "auto"
    modules: str | None = None
    provider: str = "libvirt"
    control: str = "auto"
    share_machine: bool = False


@dataclass(frozen=True)
class ScenarioFile:
    """A scenario's file as it was read."""

    path: str
    text: str


@dataclass(frozen=True)
class StoredChange:
    """Something that was not as it had been when a run was repeated."""

    what: str
    needed: bool


@dataclass(frozen=True)
class ReplayOf:
    """Of a replay, the run that was run again."""

    run: str
    started_at: str | None
    manifest_sha256: str
    differences: tuple[StoredChange, ...]


@dataclass(frozen=True)
class StoredShard:
    """Which share of a plan a run was, and the whole plan, by which shards are merged."""

    index: int  # counts from 1
    count: int
    plan_sha256: str
    plan: tuple[str, ...]  # the names of all cells, in order

    def __str__(self) -> str:
        return str(Shard(self.index, self.count))


@dataclass(frozen=True)
class MergedPart:
    """A run that was merged with others."""

    run: str  # its folder's name
    manifest_sha256: str
    shard: str | None  # I/N
    host: Host
    started_at: str | None
    ended_at: str | None


@dataclass(frozen=True)
class FleetWorker:
    """A machine of a fleet that ran cells."""

    name: str
    host: Host = Host()
    qemu_version: str | None = None
    host_cpu: str | None = None
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resumption:
    """A run was taken up again: when, where, and what was not as it had been."""

    at: str
    host: Host
    differences: tuple[StoredChange, ...]


@dataclass(frozen=True)
class Provisioner:
    """What made the machines, as far as it is read: each kind has keys of its own beside `name`."""

    name: str | None = None
    accelerator: str | None = None
    qemu_version: str | None = None
    host_cpu: str | None = None
    vagrant_version: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)  # all of it, as it is stored


@dataclass(frozen=True)
class Layer:
    """An image with the packages that scenarios asked for, or why there is none. `packages` are what it has beyond the
    target's own image.
    """

    asked: tuple[str, ...]
    lacking: str | None = None
    image: str | None = None
    image_digest: str | None = None
    image_built: str | None = None
    image_sha256s: Mapping[str, str] | None = field(default=None, hash=False)
    kernel_release: str | None = None
    packages: Mapping[str, str] | None = field(default=None, hash=False)


@dataclass(frozen=True)
class Target:
    """What a target's machines were made of, as far as it is read: each kind has keys of its own."""

    kernel_release: str | None = None
    kernel_path: str | None = None
    kernel_digest: str | None = None
    image: str | None = None
    image_digest: str | None = None
    image_built: str | None = None
    image_sha256s: Mapping[str, str] | None = field(default=None, hash=False)
    packages: Mapping[str, str] | None = field(default=None, hash=False)
    layers: tuple[Layer, ...] = ()
    distribution: str | None = None  # as a whole distribution calls itself
    distribution_sha256: str | None = None  # of its image
    box: str | None = None
    box_sha256: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)  # all of it, as it is stored


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of manifest.json."""

    schema_version: int = MANIFEST_VERSION
    tool_version: str | None = None
    command: tuple[str, ...] | None = None
    started_at: str | None = None
    ended_at: str | None = None
    complete: bool | None = None
    host: Host = Host()
    provisioner: Provisioner = Provisioner()
    agent_sha256: str | None = None
    deadlines_seconds: Mapping[str, int | float] = field(default_factory=dict, hash=False)
    overrides: StoredOverrides = StoredOverrides()
    targets: Mapping[str, Target] = field(default_factory=dict, hash=False)
    scenarios: Mapping[str, str] = field(default_factory=dict, hash=False)  # digests
    # with what follows `lab replay` runs the same again, also where the cells' folders are not kept
    cells: tuple[str, ...] | None = None
    options: StoredOptions | None = None
    scenario_files: Mapping[str, ScenarioFile] | None = field(default=None, hash=False)
    replay_of: ReplayOf | None = None
    shard: StoredShard | None = None
    parts: tuple[MergedPart, ...] | None = None
    resumed: tuple[Resumption, ...] = ()
    workers: tuple[FleetWorker, ...] = ()  # of a fleet; empty where this host ran the cells itself
