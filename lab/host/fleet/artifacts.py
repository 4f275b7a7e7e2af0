"""What a worker needs of the client's cache: images and prepared kernels, each a folder known by its content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab.core.scenario import MachineSpec
from lab.host.cache import cache_root, sha256_of
from lab.host.images.image import DESCRIPTION as IMAGE_DESCRIPTION
from lab.host.images.image import Image
from lab.host.kernels.bundle import DESCRIPTION as KERNEL_DESCRIPTION
from lab.host.kernels.bundle import KernelBundle
from lab.host.machines.qemu.preparing import PreparedImage


@dataclass(frozen=True)
class ArtifactFile:
    """A file of an artifact."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Artifact:
    """A folder of the cache that travels: `parent` is `images` or `kernels`."""

    parent: str
    name: str
    files: tuple[ArtifactFile, ...]

    @cached_property
    def digest(self) -> str:
        """The SHA-256 over all files' names and digests."""
        return hashlib.sha256("".join(f"{file.sha256}  {file.name}\n" for file in self.files).encode()).hexdigest()

    @property
    def place(self) -> Path:
        """Where it lies in the cache of a worker: two builds of a recipe lie beside each other."""
        return cache_root() / self.parent / f"{self.name}-{self.digest[:12]}"

    @property
    def size_bytes(self) -> int:
        """What travels."""
        return sum(file.size_bytes for file in self.files)

    def is_there(self) -> bool:
        """Whether a worker has it; it was checked when it came, and is again before a machine is made of it."""
        return self.place.is_dir()


@dataclass(frozen=True)
class Source:
    """An artifact, and the folder of the client's that has it."""

    artifact: Artifact
    folder: Path


def sources_of(target: PreparedImage, shape: MachineSpec) -> Iterator[Source]:
    """All that a machine of this target is made of. The target's own image is needed beside that with more packages:
    its digests are what the target is known by.
    """
    image = target.image_of(shape)
    yield _of_image(target.image)
    if image != target.image:
        yield _of_image(image)
    if target.kernel is not None:
        yield _of_kernel(target.kernel)


def _of_image(image: Image) -> Source:
    return _source("images", image.name, image.directory, image.sha256s, IMAGE_DESCRIPTION)


def _of_kernel(kernel: KernelBundle) -> Source:
    return _source("kernels", kernel.release, kernel.directory, kernel.sha256s, KERNEL_DESCRIPTION)


def _source(parent: str, name: str, folder: Path, sha256s: Mapping[str, str], description: str) -> Source:
    digests = {**sha256s, description: sha256_of(folder / description)}
    files = (ArtifactFile(file, digest, (folder / file).stat().st_size) for file, digest in sorted(digests.items()))
    return Source(Artifact(parent, name, tuple(files)), folder)
