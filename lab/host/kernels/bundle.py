"""A prepared kernel: a folder `kernels/RELEASE-KEY` of the cache, with everything that a guest boots of it.

The key covers the kernel, its modules and everything of ours that shapes what is made of them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import PrerequisiteError
from lab.host.cache import cache_root
from lab.host.images.image import verify_files

DESCRIPTION = "kernel.json"
VMLINUZ = "vmlinuz"
INITRD = "initrd.cpio"
CONFIG = "config"
MODULES_DISK = "modules.ext4"


@dataclass(frozen=True)
class KernelBundle:
    """A kernel ready to boot. `modules_disk` and `config` are None where the kernel came without.

    `digest` is the SHA-256 over the kernel and its modules as they came; `initrd` is the kernel part of the initial RAM
    disk, which an agent part must follow; `modules_disk` goes to the guest as its second disk. `given` are the files
    that it was made of, by name, with their SHA-256; empty for a folder.
    """

    release: str
    vmlinuz: Path
    initrd: Path
    modules_disk: Path | None
    config: Path | None
    digest: str
    directory: Path
    sha256s: Mapping[str, str]
    given: Mapping[str, str]


def kernels_folder() -> Path:
    """Where the prepared kernels lie."""
    return cache_root() / "kernels"


def verify(bundle: KernelBundle) -> None:
    """Return if each file of `bundle` is as it was made. Raises PrerequisiteError that names the first that is not."""
    hint = f"remove {bundle.directory}; it is made again when needed"
    verify_files(f"kernel {bundle.release}", bundle.directory, bundle.sha256s, hint)


def bundles_of(digest: str) -> Iterator[KernelBundle]:
    """The prepared kernels in the cache that were made of the kernel and modules with this digest, the newest first."""
    for bundle in all_bundles():
        if bundle.digest == digest:
            yield bundle


def all_bundles() -> Iterator[KernelBundle]:
    """Every readable kernel in the cache, the newest first."""
    found = kernels_folder().glob(f"[!.]*/{DESCRIPTION}")
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        with contextlib.suppress(PrerequisiteError):
            yield read_bundle(path.parent)


def find_bundle(fingerprint: str) -> KernelBundle | None:
    """The prepared kernel with this key, None where there is none. Raises PrerequisiteError for a damaged one."""
    found = sorted(kernels_folder().glob(f"[!.]*-{fingerprint[:12]}/{DESCRIPTION}"))
    return read_bundle(found[0].parent) if found else None


def read_bundle(folder: Path) -> KernelBundle:
    """The prepared kernel in `folder`. Raises PrerequisiteError that names what is wrong with its description."""
    path = folder / DESCRIPTION
    try:
        fields = json.loads(path.read_text())
        sha256s = {str(name): str(value) for name, value in fields["sha256s"].items()}
        return KernelBundle(
            release=str(fields["release"]),
            vmlinuz=folder / VMLINUZ,
            initrd=folder / INITRD,
            modules_disk=folder / MODULES_DISK if MODULES_DISK in sha256s else None,
            config=folder / CONFIG if CONFIG in sha256s else None,
            digest=str(fields["digest"]),
            directory=folder,
            sha256s=sha256s,
            given={str(name): str(value) for name, value in fields.get("given", {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PrerequisiteError(
            f"the prepared kernel {folder.name} is damaged: {path}: {error!r}",
            hint=f"remove {folder}; it is made again when needed",
        ) from error
