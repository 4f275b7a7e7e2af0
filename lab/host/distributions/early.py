"""The initial RAM disk of a distribution's kernel: the way to its root, then to the lab's."""

from __future__ import annotations

import stat
from importlib import resources
from pathlib import Path

from lab.core.errors import PrerequisiteError
from lab.host.images import initrd
from lab.host.images.initrd import Entry

# where data/init begins to act; before it are functions
_FIRST_CALL = b"\nmount_kernel_views\n"

# what the drivers of file systems ask for by name when they run, so that modules.dep does not show it
_SOFT_DEPENDENCIES = {
    "xfs": ("crc32c_generic", "crc32c_intel", "libcrc32c"),
    "btrfs": ("crc32c_generic", "crc32c_intel", "xxhash_generic", "sha256_generic", "blake2b_generic", "libcrc32c"),
    "f2fs": ("crc32_generic", "crc32_pclmul"),
}


def modules_asked(filesystem: str) -> tuple[str, ...]:
    """The names of all modules that the way to a root of this file system may need, in load order."""
    drivers = [driver.module for driver in initrd.DRIVERS]
    soft = [name for names in initrd.SOFT_DEPENDENCIES.values() for name in names]
    return tuple(dict.fromkeys([*soft, *drivers, *_SOFT_DEPENDENCIES.get(filesystem, ()), filesystem]))


def kernel_part(modules: Path, busybox: Path, config: str, device: str, filesystem: str, options: str) -> bytes:
    """As initrd.kernel_part, for a root that is mounted as said. `modules` is the folder lib/modules/RELEASE, of which
    it need have only modules_asked(). Raises PrerequisiteError that names what the kernel lacks.
    """
    first = initrd.kernel_part(modules, busybox, config=config, init=_init())
    dependencies = initrd.parse_dependencies(_read(modules / "modules.dep"))
    asked = (*_SOFT_DEPENDENCIES.get(filesystem, ()), filesystem)
    files = [file for file in initrd.load_order(asked, dependencies) if (modules / file).exists()]
    there = initrd.parse_builtin(_read(modules / "modules.builtin")) | {initrd.module_name(file) for file in files}
    if filesystem not in there and initrd.parse_config(config).get(f"CONFIG_{filesystem.upper()}_FS") != "y":
        raise PrerequisiteError(
            f"the image's kernel has no driver for {filesystem}, which its own root lies on",
            hint="the image is not whole: its modules are in another package, or another partition",
        )
    drivers = {initrd.module_name(file) + ".ko": initrd.read_module(modules / file) for file in files}
    return first + initrd.cpio(
        (
            Entry("distribution", stat.S_IFREG | 0o644, f"{device} {filesystem} {options}\n".encode()),
            Entry("drivers", stat.S_IFDIR | 0o755),
            *(Entry(f"drivers/{name}", stat.S_IFREG | 0o644, content) for name, content in drivers.items()),
            Entry("drivers/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in drivers).encode()),
        )
    )


def recipe() -> str:
    """All of the lab's own that decides what is made of an image, as a text."""
    return f"{_init().decode()}{initrd.DRIVERS}{sorted(initrd.SOFT_DEPENDENCIES.items())}{_SOFT_DEPENDENCIES}"


def _init() -> bytes:
    functions, mark, _ = initrd.init_script().partition(_FIRST_CALL)
    assert mark, "data/init has changed: where does it begin to act?"
    return functions + b"\n" + resources.files("lab.host").joinpath("data/distribution-init").read_bytes()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
