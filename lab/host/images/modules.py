"""Compressed kernel modules, unpacked before a guest loads them.

Some a guest could not read at all; of others each load would unpack them anew, which an emulated processor does slowly.
A module's signature is within it, so it stays valid.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.host.cache import Deadline
from lab.host.images.initrd import read_module
from lab.host.programs import Program, require_programs, run_program

DEPMOD = (Program("depmod", "kmod"),)
ZSTD = (Program("zstd", "zstd"),)
NOT_MODULES = ("build", "source")

# Debian's kmod reads xz in every release, zstd from 12 on, gz in none.
UNREADABLE = (".gz", ".zst")
# What is unpacked although a guest could read it: what states load. `modprobe` of nf_conntrack takes 0.16 s then, not
# 0.23 (6.12, emulated). All of a general kernel's would be some hundred MB.
LOADED_BY_STATES = ("crypto", "lib", "net")
_BATCH = 500  # command lines are bounded, execve(2)


def module_files(folder: Path) -> Iterator[Path]:
    """Every file of a folder of modules, in order, lists and modules; links into a source tree are passed over."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] not in NOT_MODULES:
            yield path


def unpack_modules(folder: Path, deadline: Deadline) -> bool:
    """Unpack what is to be unpacked of lib/modules/RELEASE; whether there was any, so that its lists are to be made
    again. Raises PrerequisiteError without zstd, LabError past the deadline.
    """
    packed = [path for path in module_files(folder) if ".ko." in path.name and _is_unpacked(path.relative_to(folder))]
    by_zstd = [path for path in packed if path.suffix == ".zst"]
    if by_zstd:
        require_programs(ZSTD)
    for start in range(0, len(by_zstd), _BATCH):
        _make_writable(by_zstd[start : start + _BATCH])
        names = [str(path) for path in by_zstd[start : start + _BATCH]]
        run_program(("zstd", "--decompress", "--rm", "--force", "--quiet", "--", *names), deadline)
    for path in packed:
        if path.suffix != ".zst":
            deadline.check()
            unpacked = path.with_suffix("")
            unpacked.write_bytes(read_module(path))
            unpacked.chmod(stat.S_IMODE(path.stat().st_mode))
            path.unlink()
    return bool(packed)


def list_modules(tree: Path, release: str, deadline: Deadline) -> None:
    """Write the lists that modprobe reads, of the modules of `tree`; depmod(8). Raises PrerequisiteError without it."""
    require_programs(DEPMOD)
    run_program(("depmod", "--basedir", str(tree), release), deadline)


def _is_unpacked(path: Path) -> bool:
    """Of a module's path below lib/modules/RELEASE."""
    loaded = path.parts[0] == "kernel" and path.parts[1] in LOADED_BY_STATES
    return path.suffix in UNREADABLE or (loaded and path.suffix == ".xz")


def _make_writable(paths: Sequence[Path]) -> None:
    for path in paths:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
