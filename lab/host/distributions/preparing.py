"""An image made into a target: looked into by a guest once, and kept in the cache by its digest."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from lab.core.distribution.packages import MANAGERS
from lab.core.distribution.settings import SETTINGS
from lab.host.cache import (
    Deadline,
    Progress,
    exclusive,
    make_folder,
    remove_stale,
    remove_tree,
    require_space,
    scratch,
    sha256_of,
    staging,
)
from lab.host.distributions import bundle, early
from lab.host.distributions.bundle import DistributionBundle, bundles, distributions_folder, find_bundle, read_bundle
from lab.host.distributions.examining import Examined
from lab.host.distributions.image_file import ImageFile
from lab.host.images import Image

# 1 - first version; 2 - tells whether its programs need a newer processor
LAYOUT_VERSION = 2

_LOCK = "distributions"
_BYTES = 200 * 10**6  # a kernel, the modules on the way to the root, and both again in the initial RAM disk
Look = Callable[[ImageFile, Path], Examined]


def prepare(
    image: ImageFile, userspace: Image, look: Look, name: str, progress: Progress, deadline: Deadline
) -> DistributionBundle:
    """The distribution in an image, from the cache if it was prepared before. `look` boots the guest that examines it,
    and takes its files to a folder.

    Raises ScenarioError for an image that cannot be used, PrerequisiteError, GuestLost, and LabError past the deadline.
    """
    folder = make_folder(distributions_folder())
    with exclusive(_LOCK, deadline, on_wait=lambda: progress(f"{name}: waiting for another one")):
        remove_stale(folder, _LOCK)
        key = _key(image, userspace)
        if found := find_bundle(key):
            return found
        require_space(folder, _BYTES, f"preparing {name}")
        progress(f"{name}: looking into the image")
        with scratch(folder, _LOCK) as work:
            examined = look(image, work)
            deadline.check()
            made = _make(examined, image, userspace, key)
        progress(f"{name}: {made.root.name}, Linux {made.release}")
        return made


def remove(name: str) -> tuple[Path, ...]:
    """Remove what was prepared under a name, as `lab image list` has it; gives the folders that went. The publisher's
    image stays.
    """
    with exclusive(_LOCK, Deadline.after(60.0, f"removing {name}")):
        gone = [made.directory for made in bundles() if made.directory.name.rpartition("-")[0] == name]
        for folder in gone:
            remove_tree(folder)
    return tuple(gone)


def _make(examined: Examined, image: ImageFile, userspace: Image, key: str) -> DistributionBundle:
    root = examined.root
    final = distributions_folder() / f"{_folder_name(root.name)}-{key[:12]}"
    part = early.kernel_part(
        examined.modules,
        userspace.busybox,
        examined.config,
        f"/dev/{root.partition}",
        root.filesystem,
        root.options,
    )
    with staging(final, _LOCK) as folder:
        (folder / bundle.INITRD).write_bytes(part)
        shutil.copyfile(examined.kernel, folder / bundle.VMLINUZ)
        if examined.config:
            (folder / bundle.CONFIG).write_text(examined.config)
        description = {
            "layout_version": LAYOUT_VERSION,
            "root": asdict(root),
            "release": examined.release,
            "image_sha256": image.sha256,
            "newest_processor": examined.newest_processor,
            "packages": dict(examined.packages),
            "settings": asdict(examined.settings),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "sha256s": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
        }
        (folder / bundle.DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    return read_bundle(final)


def _key(image: ImageFile, userspace: Image) -> str:
    """The SHA-256 of all that decides what is made of an image."""
    shaped_by = {
        "layout": LAYOUT_VERSION,
        "image": image.sha256,
        "busybox": userspace.sha256s["busybox"],
        "early": early.recipe(),
        "looked_at": [SETTINGS, [manager.argv for manager in MANAGERS]],
    }
    return hashlib.sha256(json.dumps(shaped_by, sort_keys=True).encode()).hexdigest()


def _folder_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", name)[:40].strip("_.") or "unknown"
