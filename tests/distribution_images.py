"""Images of distributions for tests, made here of a Debian mirror's packages: GPT, a /boot of its own, no Python.

    .venv/bin/python -m tests.distribution_images FOLDER [NAME...]

Each is a whole system as a publisher's cloud image has it, but for a boot loader, which the lab never runs. Nothing is
mounted, and no root is needed where user namespaces are allowed. Needs sfdisk, mke2fs, mkfs.xfs, mkfs.btrfs, qemu-img.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.host import images
from lab.host.cache import Deadline, remove_tree
from lab.host.images.mirror import find_mirror
from lab.host.releases import Target

_SECTOR_BYTES = 512
_START = 2048  # sectors; where every partition's end is rounded up to, too
_MB = 2**20
_PACKAGES = (
    "iptables",
    "nftables",
    "kmod",
    "mount",
    "procps",
    "iproute2",
    "busybox-static",
    "tiny-initramfs",
    "iptables-persistent",
)


@dataclass(frozen=True)
class Form:
    """How a stand-in is laid out: the file systems of its root and of its /boot, None for a /boot within the root."""

    root: str
    boot: str | None
    root_mb: int = 700
    boot_mb: int = 320


FORMS = {
    "ext4": Form("ext4", "ext4"),
    "xfs": Form("xfs", "xfs"),
    "btrfs": Form("btrfs", None),
}


def make_tree(folder: Path, suite: str = "trixie") -> Path:
    """A Debian system without Python in `folder`/tree, installed by mmdebstrap."""
    tree, temporary = folder / "tree", folder / "tmp"
    tree.mkdir()
    temporary.mkdir()
    target = Target(f"standin-{suite}", "a stand-in", suite, packages=_PACKAGES)
    report = images.BuildReporter("stand-in", lambda line: None, lambda line: None)
    deadline = Deadline.after(900, "making a stand-in")
    images.install_packages(target, find_mirror(), tree, temporary, images.find_sandbox(), report, deadline)
    remove_tree(temporary)
    return tree


def image_of_lab(image: images.Image, folder: Path) -> Path:
    """The quickest: the root of one of the lab's images, with the kernel that belongs to it in a /boot apart."""
    boot = folder / "boot-tree"
    boot.mkdir()
    shutil.copyfile(image.kernel, boot / f"vmlinuz-{image.kernel_release}")
    shutil.copyfile(image.config, boot / f"config-{image.kernel_release}")
    made = _filesystem("ext4", boot, folder / "boot", 64)
    _disk([("linux", made), ("linux", image.root_disk)], folder / "disk.raw")
    _run("qemu-img", "convert", "-q", "-O", "qcow2", folder / "disk.raw", folder / "distribution.qcow2")
    for path in (made, folder / "disk.raw"):
        path.unlink()
    return folder / "distribution.qcow2"


def make_image(tree: Path, form: Form, image: Path) -> Path:
    """The tree as a qcow2 image: an EFI system partition, /boot if it has one of its own, and the root."""
    work = image.parent / f"{image.name}.work"
    work.mkdir()
    parts = [("uefi", _vfat(work / "esp"))]
    if form.boot is not None:
        parts.append(("linux", _filesystem(form.boot, tree / "boot", work / "boot", form.boot_mb)))
    whole = tree if form.boot is None else _without_boot(tree, work / "root-tree")
    parts.append(("linux", _filesystem(form.root, whole, work / "root", form.root_mb)))
    _disk(parts, work / "disk.raw")
    _run("qemu-img", "convert", "-q", "-c", "-O", "qcow2", work / "disk.raw", image)
    shutil.rmtree(work)
    return image


def _vfat(file: Path) -> Path:
    """An empty FAT16 file system, of which only the boot sector is looked at."""
    sector = bytearray(512)
    sector[0:3], sector[3:11], sector[54:62], sector[510:512] = b"\xeb<\x90", b"mkfs.fat", b"FAT16   ", b"\x55\xaa"
    file.write_bytes(bytes(sector).ljust(4 * _MB, b"\0"))
    return file


def _filesystem(kind: str, tree: Path, file: Path, size_mb: int) -> Path:
    with file.open("wb") as made:
        made.truncate(size_mb * _MB)
    if kind == "ext4":
        _run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, file)
    elif kind == "btrfs":
        _run("mkfs.btrfs", "-q", "--rootdir", tree, file)
    else:
        proto = file.with_suffix(".proto")
        proto.write_text("\n".join(["boot", "0 0", *_proto(tree, 0), "$", ""]))
        _run("mkfs.xfs", "-q", "-f", "-p", proto, file)
    return file


def _proto(path: Path, depth: int) -> Iterator[str]:
    """The lines of mkfs.xfs's prototype for a tree (mkfs.xfs(8)); names with white space cannot be in one."""
    status = path.lstat()
    marks = "".join(mark if status.st_mode & bit else "-" for mark, bit in (("u", stat.S_ISUID), ("g", stat.S_ISGID)))
    mode = f"{marks}{status.st_mode & 0o777:03o}"
    name = f"{'  ' * depth}{path.name} " if depth else ""
    if stat.S_ISDIR(status.st_mode):
        yield f"{name}d{mode} 0 0"
        for child in sorted(path.iterdir()):
            if not any(character.isspace() for character in child.name):
                yield from _proto(child, depth + 1)
        if depth:
            yield f"{'  ' * depth}$"
    elif stat.S_ISLNK(status.st_mode):
        yield f"{name}l{mode} 0 0 {os.readlink(path)}"
    elif stat.S_ISREG(status.st_mode):
        yield f"{name}-{mode} 0 0 {path}"


def _without_boot(tree: Path, copy: Path) -> Path:
    """The tree as hard links, with an empty /boot."""
    _run("cp", "-al", tree, copy)
    shutil.rmtree(copy / "boot")
    (copy / "boot").mkdir()
    return copy


def _disk(parts: list[tuple[str, Path]], disk: Path) -> None:
    lines, at = ["label: gpt"], _START
    places = []
    for kind, file in parts:
        sectors = -(-file.stat().st_size // _SECTOR_BYTES // _START) * _START
        lines.append(f"start={at}, size={sectors}, type={kind}")
        places.append((at, file))
        at += sectors
    with disk.open("wb") as made:
        made.truncate((at + _START) * _SECTOR_BYTES)
    subprocess.run(["/sbin/sfdisk", "-q", str(disk)], input="\n".join(lines), text=True, check=True, timeout=60)
    for start, file in places:
        _run("dd", f"if={file}", f"of={disk}", f"seek={start}", "bs=512", "conv=notrunc,sparse", "status=none")


def _run(*argv: object) -> None:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    subprocess.run([str(word) for word in argv], check=True, timeout=600, env={**os.environ, "PATH": path})


def main(folder: Path, names: list[str]) -> None:
    """Make the named stand-ins, or all, in `folder`; their system is installed once."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = folder / "tree" if (folder / "tree").exists() else make_tree(folder)
    for name in names or FORMS:
        make_image(tree, FORMS[name], folder / f"debian-{name}.qcow2")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
