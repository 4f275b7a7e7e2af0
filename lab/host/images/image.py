"""The images in the cache: what each holds, and whether it is as it was built."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import PrerequisiteError
from lab.host.cache import Deadline, cache_root, exclusive, remove_tree
from lab.host.images.recipe import FILES, recipe_digest
from lab.host.known_digests import known_sha256
from lab.host.releases import Target

DESCRIPTION = "image.json"


@dataclass(frozen=True)
class Image:
    """A complete image in the cache. `initrd` is the kernel part alone, which an agent part must follow."""

    name: str
    digest: str
    directory: Path
    kernel_release: str
    sha256s: Mapping[str, str]
    built: str

    @property
    def root_disk(self) -> Path:
        """ext4 on the whole disk, for reading only."""
        return self.directory / FILES["root_disk"]

    @property
    def kernel(self) -> Path:
        """The kernel as QEMU takes it (bzImage)."""
        return self.directory / FILES["kernel"]

    @property
    def initrd(self) -> Path:
        """The kernel part of the initial RAM disk (lab.host.images.initrd)."""
        return self.directory / FILES["initrd"]

    @property
    def config(self) -> Path:
        """The kernel's configuration."""
        return self.directory / FILES["config"]

    @property
    def busybox(self) -> Path:
        """The static busybox that this image's userspace comes with; other kernels' initial RAM disks use it too."""
        return self.directory / FILES["busybox"]

    @property
    def packages(self) -> Path:
        """One line for each package: name, version, architecture."""
        return self.directory / FILES["packages"]

    def programs(self) -> frozenset[str]:
        """The names of the programs on the guest's PATH."""
        return frozenset((self.directory / FILES["programs"]).read_text().split())

    @property
    def size_bytes(self) -> int:
        """What the image takes on the host's disk."""
        return sum(path.stat().st_blocks * 512 for path in self.directory.iterdir())


def images_folder() -> Path:
    """Where the images lie."""
    return cache_root() / "images"


def load(target: Target) -> Image | None:
    """The image of `target` by today's recipe, None if it was not built. Raises PrerequisiteError if it is unreadable.

    Its content is not looked at: verify() does that.
    """
    folder = final_folder(target)
    return read_image(folder) if folder.exists() else None


def read_image(folder: Path) -> Image:
    """The image in `folder`. Raises PrerequisiteError that names what is wrong with its description."""
    path = folder / DESCRIPTION
    try:
        fields = json.loads(path.read_text())
        image = Image(
            name=str(fields["name"]),
            digest=str(fields["digest"]),
            directory=folder,
            kernel_release=str(fields["kernel_release"]),
            sha256s={file: str(fields["sha256s"][file]) for file in FILES.values()},
            built=str(fields["built"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        name = folder.name.rpartition("-")[0]
        raise PrerequisiteError(f"image {name} is damaged: {path}: {error!r}", hint=_rebuild_hint(name)) from error
    return image


def verify(image: Image) -> None:
    """Return if each file of `image` is as it was built.

    Raises PrerequisiteError that names the first file that is not, with both checksums.
    """
    verify_files(f"image {image.name}", image.directory, image.sha256s, _rebuild_hint(image.name))


def verify_files(what: str, folder: Path, sha256s: Mapping[str, str], hint: str) -> None:
    """Return if the files in `folder` have these SHA-256; else raises PrerequisiteError that names the first other."""
    for name, expected in sha256s.items():
        path = folder / name
        try:
            actual = known_sha256(path)
        except OSError as error:
            raise PrerequisiteError(f"{what} is damaged: {path}: {error.strerror}", hint=hint) from error
        if actual != expected:
            raise PrerequisiteError(f"{what} is damaged: {path}: sha256 is {actual}, expected {expected}", hint=hint)


def list_images() -> tuple[Image, ...]:
    """All readable images of the cache by name, those of older recipes too."""
    return tuple(sorted(_readable_images(), key=lambda image: (image.name, image.built)))


def with_files(sha256s: Mapping[str, str]) -> Image | None:
    """The image in the cache whose files had these digests when it was built, of whatever recipe; None without one.

    Its content is not looked at: verify() does that.
    """
    return next((image for image in list_images() if dict(image.sha256s) == dict(sha256s)), None)


def is_current(image: Image, target: Target) -> bool:
    """Whether `image` is what build(target) would make."""
    return image.digest == recipe_digest(target)


def remove(name: str, *, deadline_seconds: float = 60.0, cancelled: threading.Event | None = None) -> tuple[Path, ...]:
    """Remove every image named `name`, of whatever recipe; gives the folders that went, waits for a build of it."""
    deadline = Deadline.after(deadline_seconds, f"removing image {name}", cancelled)
    folders = []
    with exclusive(lock_name(name), deadline):
        for folder in images_folder().glob(f"{name}-*"):
            if re.fullmatch(r"[0-9a-f]{12}", folder.name.removeprefix(f"{name}-")):
                remove_tree(folder)
                folders.append(folder)
    return tuple(folders)


def _readable_images() -> Iterator[Image]:
    for folder in images_folder().glob("[!.]*"):
        with contextlib.suppress(PrerequisiteError):
            yield read_image(folder)


def final_folder(target: Target) -> Path:
    """Where the image of `target` by today's recipe lies, or would; its name identifies the recipe."""
    return images_folder() / f"{target.name}-{recipe_digest(target)[:12]}"


def lock_name(name: str) -> str:
    return f"image-{name}"


def _rebuild_hint(name: str) -> str:
    return f"lab image build --rebuild {name}"
