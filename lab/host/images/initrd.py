"""The initial RAM disk: a newc cpio archive of busybox, the modules on the way to the root disk, and `data/init`.

Two archives, one behind the other, make the whole: the kernel part (`kernel_part`, cached with the kernel) and the
agent part (`agent_part`, made when a guest starts). The kernel unpacks any number of concatenated archives
(Documentation/driver-api/early-userspace/buffer-format.rst), each of which begins at a multiple of four bytes.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

from lab.core.errors import PrerequisiteError

_DECOMPRESS_DEADLINE_SECONDS = 60
_CPIO_END = "TRAILER!!!"

# the busybox commands that data/init calls, each a symbolic link
APPLETS = ("cp", "insmod", "ln", "mdev", "mkdir", "mount", "sh", "switch_root", "umount", "usleep")
_FOLDERS = ("bin", "dev", "disk", "modules", "proc", "root", "sys", "writes")


@dataclass(frozen=True)
class Entry:
    """One member of a cpio archive; `mode` as in stat(2), `device` (major, minor) for a device node."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Driver:
    """A driver that the way to the root disk may need: the module's name, and the option that builds it."""

    module: str
    option: str
    mandatory: bool = True


# In load order; what they depend on comes from modules.dep.
DRIVERS = (
    Driver("virtio_pci", "CONFIG_VIRTIO_PCI"),
    Driver("virtio_mmio", "CONFIG_VIRTIO_MMIO", mandatory=False),
    Driver("virtio_blk", "CONFIG_VIRTIO_BLK"),
    Driver("ext4", "CONFIG_EXT4_FS"),
    Driver("overlay", "CONFIG_OVERLAY_FS", mandatory=False),
    Driver("virtio_console", "CONFIG_VIRTIO_CONSOLE"),
)

# What a driver asks for by name when it runs, so that modules.dep does not show it (a "softdep"): ext4 takes "crc32c"
# from the crypto API. Loaded only if that driver is a module, as libcrc32c is also one of nf_conntrack's.
SOFT_DEPENDENCIES: Mapping[str, tuple[str, ...]] = {"ext4": ("crc32c_generic", "crc32c_intel", "libcrc32c")}


def cpio(entries: Iterable[Entry]) -> bytes:
    """`entries` as a newc archive, owned by root, without times: equal entries give equal bytes.

    The format is in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    archive = bytearray()
    for inode, entry in enumerate((*entries, Entry(_CPIO_END, 0)), start=1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        fields = (inode, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        archive += _padding(archive)
        archive += entry.content
        archive += _padding(archive)
    return bytes(archive)


def agent_part(zipapp: bytes) -> bytes:
    """The archive that brings the agent as /agent.pyz; to be put behind a kernel part."""
    return cpio([Entry("agent.pyz", stat.S_IFREG | 0o644, zipapp)])


def kernel_part(
    modules_folder: Path | None,
    busybox: Path,
    *,
    config: str = "",
    modules_disk: bool = False,
    init: bytes | None = None,
) -> bytes:
    """The archive that reaches the root disk with this kernel and this (static) busybox.

    `modules_folder` is lib/modules/RELEASE with its modules.dep, None for a kernel without modules; `config` is the
    kernel's .config where it is known; `modules_disk` says that the modules lie on a second disk of the guest; `init`
    is another first program than `data/init`.
    Raises PrerequisiteError that names the option which the kernel lacks, or the program that unpacks its modules.
    """
    files = _module_files(modules_folder, config)
    modules = {_plain_name(path): read_module(path) for path in files}
    return cpio(
        (
            *(Entry(name, stat.S_IFDIR | 0o755) for name in _FOLDERS),
            # the kernel opens it for /init before anything is mounted
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Entry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3)),
            Entry("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()),
            *(Entry(f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox") for name in APPLETS),
            Entry("init", stat.S_IFREG | 0o755, init_script() if init is None else init),
            *(Entry(f"modules/{name}", stat.S_IFREG | 0o644, content) for name, content in modules.items()),
            Entry("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in modules).encode()),
            *([Entry("modules/disk", stat.S_IFREG | 0o644)] if modules_disk else []),
        )
    )


def init_script() -> bytes:
    """The script that the guest's kernel starts first (`data/init`)."""
    return resources.files("lab.host").joinpath("data/init").read_bytes()


def parse_dependencies(modules_dep: str) -> dict[str, tuple[str, ...]]:
    """modules.dep as: file -> all the files it needs, in load order (depmod writes them in the order of unloading)."""
    lines = (line.partition(":") for line in modules_dep.splitlines() if ":" in line)
    return {file: tuple(reversed(needs.split())) for file, _, needs in lines}


def parse_builtin(modules_builtin: str) -> frozenset[str]:
    """The names of the modules that modules.builtin lists."""
    return frozenset(module_name(line) for line in modules_builtin.splitlines() if line.strip())


def parse_config(config: str) -> dict[str, str]:
    """A kernel's .config as option -> value; options that are not set are left out."""
    lines = (line.partition("=") for line in config.splitlines() if line.startswith("CONFIG_"))
    return {option: value for option, _, value in lines}


def module_name(file: str) -> str:
    """The name by which the kernel knows a module's file: `kernel/lib/crc32c-intel.ko.xz` is `crc32c_intel`."""
    return PurePosixPath(file).name.partition(".ko")[0].replace("-", "_")


def load_order(modules: Sequence[str], dependencies: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The files to load for these modules, each after what it needs; modules without a file are left out."""
    file_of = {module_name(file): file for file in dependencies}
    order: dict[str, None] = {}
    for driver in filter(file_of.get, modules):
        for name in (*SOFT_DEPENDENCIES.get(driver, ()), driver):
            if file := file_of.get(name):
                order.update(dict.fromkeys((*dependencies[file], file)))
    return tuple(order)


def missing_options(present: frozenset[str], options: Mapping[str, str]) -> tuple[str, ...]:
    """The options of mandatory drivers that are neither `present` (as modules or built in) nor "y" in `options`."""
    lacking = (driver for driver in DRIVERS if driver.mandatory and driver.module not in present)
    return tuple(driver.option for driver in lacking if options.get(driver.option) != "y")


def read_module(path: Path) -> bytes:
    """A module's ELF content, unpacked where it is compressed. Raises PrerequisiteError when that cannot be done."""
    content = path.read_bytes()
    unpack = _UNPACKERS.get(path.suffix)
    if unpack is None:
        return content
    try:
        return unpack(content)
    except (OSError, EOFError, lzma.LZMAError, subprocess.SubprocessError) as error:
        raise PrerequisiteError(
            f"cannot unpack the kernel module {path}: {error}",
            hint="the file is damaged: unpack or install the kernel's package again",
        ) from error


def _module_files(folder: Path | None, config: str) -> list[Path]:
    text = _read_texts(folder, ("modules.dep", "modules.builtin"))
    dependencies = parse_dependencies(text["modules.dep"])
    present = parse_builtin(text["modules.builtin"]) | frozenset(map(module_name, dependencies))
    options = parse_config(config)
    # of a kernel without list and configuration nothing is known: its boot will tell
    if (text["modules.builtin"] or options) and (missing := missing_options(present, options)):
        raise PrerequisiteError(
            f"this kernel cannot boot a guest: it lacks {', '.join(missing)}"
            + (f" (no such module in {folder})" if folder else ""),
            hint="build these options in, or give the folder of the kernel's modules (--modules DIR)",
        )
    modules = [driver.module for driver in DRIVERS]
    return [folder / file for file in load_order(modules, dependencies) if (folder / file).exists()] if folder else []


def _read_texts(folder: Path | None, names: Sequence[str]) -> Mapping[str, str]:
    paths = {name: folder / name if folder else None for name in names}
    return {name: path.read_text() if path and path.exists() else "" for name, path in paths.items()}


def _plain_name(path: Path) -> str:
    return path.name.partition(".ko")[0] + ".ko"


def _padding(archive: bytearray) -> bytes:
    return b"\0" * (-len(archive) % 4)


def _unpack_zstd(content: bytes) -> bytes:
    if shutil.which("zstd") is None:
        raise PrerequisiteError("this kernel's modules need zstd", hint="apt install zstd, or run scripts/setup")
    argv = ("zstd", "--decompress", "--stdout", "--quiet")
    return subprocess.run(
        argv, input=content, capture_output=True, check=True, timeout=_DECOMPRESS_DEADLINE_SECONDS
    ).stdout


_UNPACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
    ".zst": _unpack_zstd,
}
