"""Vagrant boxes made from a Debian mirror's packages, with a boot loader, kept in the cache.

A box is a folder `boxes/NAME-DIGEST` of the cache, made as an image is (lab/host/images): same packages, and those
that make it a machine of its own (systemd, SSH, GRUB). No root, mount or loop device is needed.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from lab.core.errors import PrerequisiteError
from lab.host import images
from lab.host.cache import Deadline, cache_root, exclusive, remove_tree, sha256_of
from lab.host.images import initrd
from lab.host.programs import Program, run_program
from lab.host.releases import TARGETS, Target

_PACKAGES = (
    "systemd-sysv",
    "udev",
    "openssh-server",
    "sudo",
    "passwd",
    "grub-pc-bin",
    "grub-common",
)
_PROGRAMS = (*images.PROGRAMS, Program("qemu-img", "qemu-utils"))
_DESCRIPTION = "box.json"
_DISK_BYTES = 3 * 2**30
_PARTITION_BYTES = 2**20  # where the first partition begins; the boot loader lies before it
_SECTOR_BYTES = 512
_BUILD_BYTES = 3_000_000_000
_DATA = ("init", "setup", "Vagrantfile", "vagrant.pub")
# GRUB reads it, and no kernel older than the box's own does
_EXT4_FEATURES = "none,extent,filetype,sparse_super,large_file,huge_file,dir_index,dir_nlink,extra_isize,flex_bg"


@dataclass(frozen=True)
class BuiltBox:
    """A complete box in the cache."""

    name: str
    directory: Path
    sha256: str
    built: str
    kernel_release: str

    @property
    def file(self) -> Path:
        """What `vagrant box add` takes."""
        return self.directory / f"{self.name}.box"

    @property
    def size_bytes(self) -> int:
        """What the box takes on the host's disk."""
        return sum(path.stat().st_blocks * 512 for path in self.directory.iterdir())


def boxes_folder() -> Path:
    """Where the boxes lie."""
    return cache_root() / "boxes"


def load(target: Target) -> BuiltBox | None:
    """The box of `target` by today's recipe, None if it was not built. Raises PrerequisiteError for a damaged one."""
    folder = _final_folder(target)
    return _read(folder) if folder.exists() else None


def list_boxes() -> tuple[BuiltBox, ...]:
    """All boxes of the cache by name."""
    return tuple(_read(folder) for folder in sorted(boxes_folder().glob("[!.]*")))


def is_current(box: BuiltBox) -> bool:
    """Whether `box` is what build() would make."""
    target = TARGETS.get(box.name)
    return target is not None and box.directory == _final_folder(target)


def remove(name: str) -> tuple[Path, ...]:
    """Remove every box named `name`; gives the folders that went, waits for a build of it."""
    gone = []
    with exclusive(_lock(name), Deadline.after(60.0, f"removing box {name}")):
        for box in list_boxes():
            if box.name == name:
                remove_tree(box.directory)
                gone.append(box.directory)
    return tuple(gone)


def build(target: Target, options: images.BuildOptions) -> BuiltBox:
    """The box of `target`: built now, unless it exists and `options.rebuild` is not set.

    Raises what images.build raises.
    """
    product = images.Product(f"box {target.name}", _final_folder(target), _lock(target.name), _PROGRAMS, _BUILD_BYTES)

    def fill(folder: Path, mirror: str, report: images.BuildReporter, deadline: Deadline) -> None:
        _build_in(folder, target, mirror, report, deadline)

    return images.build_once(product, options, lambda: load(target), fill)


def _build_in(folder: Path, target: Target, mirror: str, report: images.BuildReporter, deadline: Deadline) -> None:
    tree, temporary, sandbox = folder / "tree", folder / "tmp", images.find_sandbox()
    tree.mkdir()
    temporary.mkdir()
    report.stage(f"starting, from {mirror}")
    images.install_packages(_box_target(target), mirror, tree, temporary, sandbox, report, deadline)
    report.stage("making the boot loader")
    release = images.take_kernel(tree, folder, deadline)
    _write_initrd(tree, folder, release)
    images.tidy(tree, keep=frozenset({"boot/*"}))
    _run_setup(tree, sandbox.prefix, deadline)
    report.stage("making the disk")
    disk = temporary / "box.raw"
    _make_disk(disk, tree, deadline, sandbox.prefix)
    _write_loader(disk, tree / "boot/grub")
    image = temporary / "box.img"
    convert = ("qemu-img", "convert", "-q", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd")
    run_program((*convert, str(disk), str(image)), deadline)
    box = folder / f"{target.name}.box"
    _pack(box, image)
    for path in (tree, temporary):
        remove_tree(path)
    for name in ("vmlinuz", "initrd.cpio", "config", "busybox"):
        (folder / name).unlink()
    description = {
        "name": target.name,
        "sha256": sha256_of(box),
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel_release": release,
    }
    (folder / f"{target.name}.box.sha256").write_text(f"{description['sha256']}  {box.name}\n")
    (folder / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    deadline.check()


def _write_initrd(tree: Path, folder: Path, release: str) -> None:
    """The box's kernel and initial RAM disk under the names that its boot loader reads."""
    modules = next(path for path in (tree / "usr/lib/modules", tree / "lib/modules") if path.exists()) / release
    config = (folder / "config").read_text()
    part = initrd.kernel_part(modules, folder / "busybox", config=config, init=_data("init"))
    (tree / "boot/initrd").write_bytes(part)
    (tree / "boot/vmlinuz").symlink_to(f"vmlinuz-{release}")


def _run_setup(tree: Path, prefix: tuple[str, ...], deadline: Deadline) -> None:
    (tree / "tmp/vagrant.pub").write_bytes(_data("vagrant.pub"))
    script = tree / "tmp/setup"
    script.write_bytes(_data("setup"))
    run_program((*prefix, "chroot", str(tree), "/bin/sh", "/tmp/setup"), deadline)
    script.unlink()


def _make_disk(disk: Path, tree: Path, deadline: Deadline, prefix: tuple[str, ...]) -> None:
    """A disk with one ext4 partition of the content of `tree`; sparse, and larger than that: a box is written to."""
    with disk.open("wb") as file:
        file.truncate(_DISK_BYTES)
    blocks = (_DISK_BYTES - _PARTITION_BYTES) // 4096
    run_program(
        (
            *(*prefix, "mke2fs", "-q", "-F", "-t", "ext4", "-O", _EXT4_FEATURES, "-m", "0", "-L", "lab-box"),
            *("-b", "4096", "-I", "256", "-E", f"lazy_itable_init=0,root_owner=0:0,offset={_PARTITION_BYTES}"),
            *("-d", str(tree), str(disk), str(blocks)),
        ),
        deadline,
    )


def _write_loader(disk: Path, grub: Path) -> None:
    """GRUB's first sector and, in the sectors after it, its core, as grub-install does where it may write to disks.

    grub-mkimage's core names the second sector as its own place, and boot.img the first one after itself: that is
    where they are put. The partition's entry is at offset 446 of the first sector.
    """
    core = (grub / "core.img").read_bytes()
    if len(core) > _PARTITION_BYTES - _SECTOR_BYTES:
        raise PrerequisiteError(
            f"the boot loader's core is too large for a box: {len(core)} bytes, {_PARTITION_BYTES - _SECTOR_BYTES} fit",
            hint="build the box of another release, or use its image: both have the same kernel",
        )
    start, count = _PARTITION_BYTES // _SECTOR_BYTES, (_DISK_BYTES - _PARTITION_BYTES) // _SECTOR_BYTES
    far = b"\xfe\xff\xff"  # of cylinders, heads and sectors: look at the numbers of sectors instead
    entry = b"\x80" + far + b"\x83" + far + start.to_bytes(4, "little") + count.to_bytes(4, "little")
    sector = (grub / "boot.img").read_bytes()[:440].ljust(446, b"\0") + entry.ljust(64, b"\0") + b"\x55\xaa"
    with disk.open("r+b") as file:
        file.write(sector)
        file.write(core)


def _pack(box: Path, image: Path) -> None:
    """The disk is compressed already, so the archive is not; Vagrant takes both."""
    metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": _DISK_BYTES // 2**30}
    with tarfile.open(box, "w") as archive:
        for name, content in (("metadata.json", json.dumps(metadata).encode()), ("Vagrantfile", _data("Vagrantfile"))):
            path = image.parent / name
            path.write_bytes(content)
            archive.add(path, name)
        archive.add(image, "box.img")


def _read(folder: Path) -> BuiltBox:
    try:
        fields = json.loads((folder / _DESCRIPTION).read_text())
        names = ("name", "sha256", "built", "kernel_release")
        texts: Mapping[str, str] = {name: str(fields[name]) for name in names}
    except (OSError, ValueError, KeyError) as error:
        name = folder.name.rpartition("-")[0]
        hint = f"lab image build --rebuild --format box {name}"
        raise PrerequisiteError(f"box {name} is damaged: {folder}: {error!r}", hint=hint) from error
    return BuiltBox(texts["name"], folder, texts["sha256"], texts["built"], texts["kernel_release"])


def _box_target(target: Target) -> Target:
    return replace(target, name=f"{target.name}-box", packages=(*target.packages, *_PACKAGES))


def _data(name: str) -> bytes:
    return resources.files("lab.host").joinpath(f"data/box/{name}").read_bytes()


def _digest(target: Target) -> str:
    recipe = {
        "image": images.recipe_digest(_box_target(target)),
        "files": {name: hashlib.sha256(_data(name)).hexdigest() for name in _DATA},
        "disk": [_DISK_BYTES, _PARTITION_BYTES, _EXT4_FEATURES],
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _final_folder(target: Target) -> Path:
    return boxes_folder() / f"{target.name}-{_digest(target)[:12]}"


def _lock(name: str) -> str:
    return f"box-{name}"
