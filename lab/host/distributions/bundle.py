"""A prepared distribution: a folder `distributions/NAME-KEY` of the cache, with what a machine boots beside the image.

The key covers the image's digest and everything of ours that shapes what is made of it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.core.distribution.layout import Root
from lab.core.distribution.settings import BootSettings
from lab.core.errors import PrerequisiteError
from lab.host.cache import cache_root
from lab.host.images.image import verify_files

DESCRIPTION = "distribution.json"
VMLINUZ = "vmlinuz"
INITRD = "initrd.cpio"
CONFIG = "config"


@dataclass(frozen=True)
class DistributionBundle:
    """What was found in an image, and made of it. `config` is None where the image has none of its kernel's; `packages`
    are the versions of those that matter, `settings` is what its own boot would do.
    """

    root: Root
    release: str
    image_sha256: str
    newest_processor: bool
    packages: Mapping[str, str]
    settings: BootSettings
    directory: Path
    sha256s: Mapping[str, str]
    made: str

    @property
    def vmlinuz(self) -> Path:
        """The kernel as QEMU takes it."""
        return self.directory / VMLINUZ

    @property
    def initrd(self) -> Path:
        """The kernel part of the initial RAM disk, which an agent part must follow."""
        return self.directory / INITRD

    @property
    def config(self) -> Path | None:
        """The kernel's configuration."""
        return self.directory / CONFIG if CONFIG in self.sha256s else None

    @property
    def size_bytes(self) -> int:
        """What it takes on the host's disk, beside the image."""
        return sum(path.stat().st_blocks * 512 for path in self.directory.iterdir())


def distributions_folder() -> Path:
    """Where the prepared distributions lie."""
    return cache_root() / "distributions"


def verify(bundle: DistributionBundle) -> None:
    """Return if each file of `bundle` is as it was made. Raises PrerequisiteError that names the first that is not."""
    verify_files(f"distribution {bundle.root.name}", bundle.directory, bundle.sha256s, _remove_hint(bundle.directory))


def find_bundle(key: str) -> DistributionBundle | None:
    """The prepared distribution with this key, None where there is none. Raises PrerequisiteError for a damaged one."""
    found = sorted(distributions_folder().glob(f"[!.]*-{key[:12]}/{DESCRIPTION}"))
    return read_bundle(found[0].parent) if found else None


def bundles() -> Iterator[DistributionBundle]:
    """All that are readable, by name."""
    for path in sorted(distributions_folder().glob(f"[!.]*/{DESCRIPTION}")):
        with contextlib.suppress(PrerequisiteError):
            yield read_bundle(path.parent)


def read_bundle(folder: Path) -> DistributionBundle:
    """The prepared distribution in `folder`. Raises PrerequisiteError that names what is wrong with its description."""
    path = folder / DESCRIPTION
    try:
        fields = json.loads(path.read_text())
        root = fields["root"]
        return DistributionBundle(
            root=Root(
                partition=str(root["partition"]),
                filesystem=str(root["filesystem"]),
                options=str(root["options"]),
                os_release=_texts(root["os_release"]),
            ),
            release=str(fields["release"]),
            image_sha256=str(fields["image_sha256"]),
            newest_processor=fields["newest_processor"] is True,
            packages=_texts(fields["packages"]),
            settings=BootSettings(
                modules=tuple(map(str, fields["settings"]["modules"])),
                sysctls=_texts(fields["settings"]["sysctls"]),
                services=tuple(map(str, fields["settings"]["services"])),
            ),
            directory=folder,
            sha256s=_texts(fields["sha256s"]),
            made=str(fields["made"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PrerequisiteError(
            f"the prepared distribution {folder.name} is damaged: {path}: {error!r}", hint=_remove_hint(folder)
        ) from error


def _texts(said: Mapping[str, object]) -> dict[str, str]:
    return {str(name): str(value) for name, value in said.items()}


def _remove_hint(folder: Path) -> str:
    return f"remove {folder}; it is made again when needed"
