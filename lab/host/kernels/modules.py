"""A kernel's modules as a guest gets them: readable by its kmod, with the lists that modprobe needs."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from lab.host.cache import Deadline, require_space, sha256_of
from lab.host.images.modules import NOT_MODULES, list_modules, module_files, unpack_modules

_TIMES_LARGER = 5  # than it came, is a folder whose modules are unpacked


def place(modules: Path, tree: Path, release: str, deadline: Deadline, *, move: bool) -> Path:
    """The modules as `tree`/usr/lib/modules/RELEASE, moved there or copied. Raises PrerequisiteError."""
    folder = tree / "usr" / "lib" / "modules" / release
    folder.parent.mkdir(parents=True)
    if move:
        modules.rename(folder)
    else:
        needed_bytes = _TIMES_LARGER * sum(path.stat().st_size for path in module_files(modules))
        require_space(tree.parent, needed_bytes, f"the modules of {release}")
        shutil.copytree(modules, folder, symlinks=True, ignore=shutil.ignore_patterns(*NOT_MODULES))
    changed = unpack_modules(folder, deadline)
    if changed or not (folder / "modules.dep").exists():
        # which of the two places depmod takes was chosen when it was compiled
        (tree / "lib").symlink_to("usr/lib")
        list_modules(tree, release, deadline)
    return folder


def tree_digest(folder: Path) -> str:
    """A SHA-256 over the names and contents of a folder of modules, in hexadecimal."""
    names = hashlib.sha256()
    for path in module_files(folder):
        names.update(f"{path.relative_to(folder)}\0{sha256_of(path)}\n".encode())
    return names.hexdigest()
