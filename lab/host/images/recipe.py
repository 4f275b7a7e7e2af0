"""What an image is made of: packages, what is left out, the file system's features. All of it decides its digest."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from lab.host.images import initrd
from lab.host.images.modules import LOADED_BY_STATES
from lab.host.releases import Target

# 1 - first version
LAYOUT_VERSION = 1

# the name of each file in an image's folder
FILES = {
    "root_disk": "root.ext4",
    "kernel": "vmlinuz",
    "initrd": "initrd.cpio",
    "config": "config",
    "busybox": "busybox",
    "packages": "packages.txt",
    "programs": "programs.txt",
}
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MERGED_USR_HOOKS = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"

# The program that makes Debian's own initial RAM disk, which is not used: 15 s with initramfs-tools, and the small one
# does not run where nothing can be mounted (a container). /bin/true stands in for it.
_INITRD_MAKER = "/usr/sbin/update-tirfs"

# never unpacked: what only people read, and what makes that initial RAM disk
_EXCLUDED = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/bug/*",
    "/usr/share/bash-completion/*",
    "/boot/System.map-*",
    "/etc/kernel/postinst.d/*",
    _INITRD_MAKER,
)

# removed at the end: traces of the host and of the mirror, what is kept outside of the disk, logs and backups
REMOVED = (
    "etc/resolv.conf",
    "etc/apt/sources.list",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/*-",
    _INITRD_MAKER.lstrip("/"),
    "boot/*",
    "vmlinuz*",
    "initrd.img*",
    "var/log/*.log",
    "var/log/apt/*",
    "var/cache/apt/*.bin",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dpkg/*-old",
)
WRITTEN = {
    "etc/hostname": "lab\n",
    "etc/hosts": "127.0.0.1 localhost lab\n::1 localhost\n",
}

# A kernel of 3.10 mounts it: no metadata_csum, 64bit, orphan_file or journal. "none" first, as the defaults differ
# between versions of mke2fs, and an older one does not know the names of newer features.
EXT4_FEATURES = "none,extent,filetype,sparse_super,large_file,huge_file,dir_index,dir_nlink,extra_isize,flex_bg"


def recipe_digest(target: Target) -> str:
    """The SHA-256 of all that decides what an image of `target` is made of, but for the mirror."""
    recipe = {
        "layout": LAYOUT_VERSION,
        "files": sorted(FILES.values()),
        "target": asdict(target),
        "excluded": _EXCLUDED,
        "removed": REMOVED,
        "written": WRITTEN,
        "ext4": EXT4_FEATURES,
        "drivers": [asdict(driver) for driver in initrd.DRIVERS],
        "soft_dependencies": dict(initrd.SOFT_DEPENDENCIES),
        "applets": initrd.APPLETS,
        "init": initrd.init_script().decode(),
        "unpacked_modules": LOADED_BY_STATES,
    }
    del recipe["target"]["summary"]  # type: ignore[attr-defined]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def mmdebstrap_argv(target: Target, mirror: str, tree: Path, apt_options: Path) -> tuple[str, ...]:
    """The command that fills `tree` with the packages of `target`."""
    signed_by = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    options = ['--aptopt=Acquire::Languages "none"', f"--aptopt={apt_options}", "--dpkgopt=force-unsafe-io"]
    if not target.check_valid_until:
        options.append('--aptopt=Acquire::Check-Valid-Until "false"')
    if target.merge_usr:
        options.append(f"--hook-dir={_MERGED_USR_HOOKS}")
    return (
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        "--variant=essential",
        "--architectures=amd64",
        *options,
        f'--setup-hook=mkdir -p "$1{os.path.dirname(_INITRD_MAKER)}" && ln -s /bin/true "$1{_INITRD_MAKER}"',
        *(f"--dpkgopt=path-exclude={path}" for path in _EXCLUDED),
        f"--include={','.join((*target.packages, target.kernel_package))}",
        target.suite,
        str(tree),
        *(f"deb {signed_by}{mirror} {suite} main" for suite in (target.suite, *target.extra_suites)),
    )
