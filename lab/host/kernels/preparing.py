"""A kernel that a user named, made into one that a guest boots: fetched, unpacked, checked, and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.core.errors import LabError, ScenarioError
from lab.host.cache import Deadline, Progress, exclusive, make_folder, remove_stale, scratch, sha256_of, staging
from lab.host.images import initrd
from lab.host.images.disk import make_disk
from lab.host.images.modules import DEPMOD, LOADED_BY_STATES, UNREADABLE, ZSTD
from lab.host.kernels import bundle, requirements
from lab.host.kernels import modules as module_trees
from lab.host.kernels.bundle import KernelBundle, find_bundle, kernels_folder, read_bundle
from lab.host.kernels.fetch import fetch
from lab.host.kernels.find import KernelFiles, find_kernel, module_releases
from lab.host.kernels.source import LocalPart, parse_source
from lab.host.kernels.unpack import PACKAGE_ENDINGS, is_package, missing_modules_hint, unpack
from lab.host.kernels.unpack import PROGRAMS as _UNPACKERS
from lab.host.programs import Program, require_programs

# 1 - first version
LAYOUT_VERSION = 1

_LOCK = "kernels"
_MKE2FS = (Program("mke2fs", "e2fsprogs"), Program("setpriv", "util-linux"))
PROGRAMS = (*_UNPACKERS, *DEPMOD, *ZSTD, *_MKE2FS)

_NAME_HINT = (
    "name a package (.deb, .rpm, .apk, .pkg.tar.zst), a folder, a bzImage with --modules, apt:SUITE, or URL#sha256=HEX"
)


@dataclass(frozen=True)
class _Given:
    """The files and folders that a kernel is to be made of. `modules` is a folder that was named as such."""

    paths: tuple[Path, ...]
    modules: Path | None

    @property
    def packages(self) -> tuple[Path, ...]:
        return tuple(path for path in self.paths if is_package(path))

    @property
    def what(self) -> str:
        return ", ".join(map(str, self.paths))


def prepare(
    source: str | Path,
    *,
    busybox: Path,
    modules: Path | None = None,
    progress: Progress,
    deadline_seconds: float = 300.0,
    cancelled: threading.Event | None = None,
) -> KernelBundle:
    """The kernel that `source` names, from the cache if it was prepared before.

    `busybox` is that of the target's image (Image.busybox); `modules` is the folder or package of the kernel's modules,
    for a kernel that does not bring them. Raises ScenarioError when `source` holds no kernel, or none that fits its
    modules; PrerequisiteError when the kernel cannot boot a guest, cannot be fetched, or the host lacks something;
    LabError past the deadline.
    """
    deadline = Deadline.after(deadline_seconds, f"preparing the kernel {source}", cancelled)
    given = _given(str(source), modules, progress, deadline)
    folder = make_folder(kernels_folder())
    with exclusive(_LOCK, deadline, on_wait=lambda: progress(f"kernel {source}: waiting for another one")):
        remove_stale(folder, _LOCK)
        fingerprint = _fingerprint(given, busybox)
        if found := find_bundle(fingerprint):
            return found
        progress(f"kernel {source}: preparing")
        with scratch(folder, _LOCK) as work:
            files = _find_files(given, work / "package", deadline)
            return _prepare_in(work / "tree", files, given, fingerprint, busybox, deadline)


def _given(source: str, modules_place: Path | None, progress: Progress, deadline: Deadline) -> _Given:
    """Everything that is to be fetched fetched, everything that is named there. Raises ScenarioError."""
    paths = [
        path
        for part in parse_source(source)
        for path in ([part.path] if isinstance(part, LocalPart) else fetch(part, progress, deadline))
    ]
    if modules_place is not None and is_package(modules_place):
        paths.append(modules_place)
        modules_place = None
    for path in paths:
        if not path.exists():
            raise ScenarioError(f"no kernel at {path}: no such file or folder", hint=_NAME_HINT)
    loose = [path for path in paths if not is_package(path)]
    if len(loose) > 1 or (loose and len(paths) > 1 and loose[0].is_dir()):
        raise ScenarioError(
            f"several --kernel make one kernel, and {loose[-1]} is no package of one",
            hint=f"packages end in {', '.join(PACKAGE_ENDINGS)}; the folder of a kernel's modules is --modules",
        )
    return _Given(tuple(paths), modules_place)


def _find_files(given: _Given, tree: Path, deadline: Deadline) -> KernelFiles:
    """The kernel in what was given, checked; packages are unpacked to `tree` first."""
    if not given.packages:
        (path,) = given.paths
        files = find_kernel(path, given.modules)
        hint = f"--modules DIR names the folder lib/modules/{files.release} (of a build: make modules_install)"
        requirements.check(files, hint, whole=path.is_dir())
        return files
    require_programs(_UNPACKERS)
    for package in given.packages:
        unpack(package, tree, deadline)
    for kernel in (path for path in given.paths if path not in given.packages):
        (tree / "boot").mkdir(exist_ok=True)
        shutil.copyfile(kernel, tree / "boot" / f"vmlinuz-{kernel.name}")
    try:
        files = find_kernel(tree, given.modules)
        if others := module_releases(tree) - {files.release}:
            raise ScenarioError(
                f"{tree} holds the kernel {files.release}, and modules of {', '.join(sorted(others))} too",
                hint="name the packages of one release",
            )
        requirements.check(files, missing_modules_hint(files.release, given.packages), whole=True)
    except LabError as error:
        # the user knows the packages, not where they were unpacked
        raise type(error)(str(error).replace(str(tree), given.what), hint=_hint(error, given)) from error
    return files


def _hint(error: LabError, given: _Given) -> str:
    if str(error).startswith("no kernel in"):
        return "these packages bring no /boot/vmlinuz-RELEASE: add the kernel's own (linux-image-..., kernel-core-...)"
    return error.hint.replace("--modules DIR", "--modules") if given.modules is None else error.hint


def _prepare_in(
    tree: Path, files: KernelFiles, given: _Given, fingerprint: str, busybox: Path, deadline: Deadline
) -> KernelBundle:
    final = kernels_folder() / f"{files.release}-{fingerprint[:12]}"
    digest = _digest(files)
    config = files.options()
    placed = None
    if files.modules:
        unpacked = bool(given.packages) and given.modules is None
        placed = module_trees.place(files.modules, tree, files.release, deadline, move=unpacked)
    with staging(final, _LOCK) as folder:
        part = initrd.kernel_part(placed, busybox, config=config, modules_disk=placed is not None)
        (folder / bundle.INITRD).write_bytes(part)
        shutil.copyfile(_vmlinuz(files, placed), folder / bundle.VMLINUZ)
        if config:
            (folder / bundle.CONFIG).write_text(config)
        if placed:
            require_programs(_MKE2FS)
            make_disk(folder / bundle.MODULES_DISK, placed.parent, "lab-modules", deadline)
        description = {
            "layout_version": LAYOUT_VERSION,
            "release": files.release,
            "fingerprint": fingerprint,
            "digest": digest,
            "given": _file_digests(given.paths),
            "sha256s": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
        }
        (folder / bundle.DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    return read_bundle(final)


def _vmlinuz(files: KernelFiles, placed: Path | None) -> Path:
    """The kernel, also where it lay among its modules and went with them."""
    if placed is not None and files.modules is not None and not files.vmlinuz.exists():
        return placed / files.vmlinuz.relative_to(files.modules)
    return files.vmlinuz


def _fingerprint(given: _Given, busybox: Path) -> str:
    """The SHA-256 of all that decides what is made of a kernel: it as it came, and what the lab adds."""
    folders = [path for path in given.paths if path.is_dir()]
    kernel = [_digest(find_kernel(path, given.modules)) for path in folders] or list(
        _file_digests(given.paths).values()
    )
    shaped_by = {
        "layout": LAYOUT_VERSION,
        "kernel": sorted(kernel),
        "modules": module_trees.tree_digest(given.modules) if given.modules and not folders else "",
        "busybox": sha256_of(busybox),
        "init": initrd.init_script().decode(),
        "drivers": [asdict(driver) for driver in initrd.DRIVERS],
        "unpacked": [UNREADABLE, LOADED_BY_STATES],
    }
    return hashlib.sha256(json.dumps(shaped_by, sort_keys=True).encode()).hexdigest()


def _file_digests(paths: Sequence[Path]) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in paths if path.is_file()}


def _digest(files: KernelFiles) -> str:
    tree = module_trees.tree_digest(files.modules) if files.modules else ""
    return hashlib.sha256(f"{sha256_of(files.vmlinuz)} {tree}".encode()).hexdigest()
