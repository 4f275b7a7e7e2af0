"""A kernel's modules as a guest gets them: readable by its kmod, with the lists that modprobe needs."""

from __future__ import annotations

import hashlib
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from lab.host.cache import Deadline, require_space, sha256_of
from lab.host.images.initrd import read_module
from lab.host.kernels.find import NOT_MODULES, module_files
from lab.host.programs import Program, require_programs, run_program

DEPMOD = (Program("depmod", "kmod"),)
ZSTD = (Program("zstd", "zstd"),)

# Debian's kmod reads xz in every release, zstd from 12 on, gz in none: those two are unpacked.
UNPACKED = (".gz", ".zst")
_BATCH = 500  # command lines are bounded, execve(2)


def place(modules: Path, tree: Path, release: str, deadline: Deadline, *, move: bool) -> Path:
    """The modules as `tree`/usr/lib/modules/RELEASE, moved there or copied. Raises PrerequisiteError."""
    folder = tree / "usr" / "lib" / "modules" / release
    folder.parent.mkdir(parents=True)
    if move:
        modules.rename(folder)
    else:
        needed_bytes = 3 * sum(path.stat().st_size for path in module_files(modules))
        require_space(tree.parent, needed_bytes, f"the modules of {release}")
        shutil.copytree(modules, folder, symlinks=True, ignore=shutil.ignore_patterns(*NOT_MODULES))
    changed = _unpack_all(folder, deadline)
    if changed or not (folder / "modules.dep").exists():
        # which of the two places depmod takes was chosen when it was compiled
        (tree / "lib").symlink_to("usr/lib")
        require_programs(DEPMOD)
        run_program(("depmod", "--basedir", str(tree), release), deadline)
    return folder


def tree_digest(folder: Path) -> str:
    """A SHA-256 over the names and contents of a folder of modules, in hexadecimal."""
    names = hashlib.sha256()
    for path in module_files(folder):
        names.update(f"{path.relative_to(folder)}\0{sha256_of(path)}\n".encode())
    return names.hexdigest()


def _unpack_all(folder: Path, deadline: Deadline) -> bool:
    """Unpack the modules that are compressed so that a guest could not read them; whether there were any."""
    packed = [path for path in module_files(folder) if path.suffix in UNPACKED and ".ko." in path.name]
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
            path.with_suffix("").write_bytes(read_module(path))
            path.unlink()
    return bool(packed)


def _make_writable(paths: Sequence[Path]) -> None:
    for path in paths:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
