"""`--kernel PATH`: another kernel under a target's userspace, unpacked and prepared once in the cache.

PATH is a Debian package (linux-image-*.deb), a folder that holds a kernel and its modules, or a kernel alone (bzImage).
A prepared kernel is a folder `kernels/RELEASE-KEY` of the cache; the key covers the kernel, its modules and everything
of ours that shapes what is made of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host import images, initrd
from lab.host.cache import (
    Deadline,
    Progress,
    cache_root,
    exclusive,
    make_folder,
    remove_stale,
    require_space,
    scratch,
    sha256_of,
    staging,
)
from lab.host.images import Program

# 1 - first version
LAYOUT_VERSION = 1

_DESCRIPTION = "kernel.json"
_VMLINUZ = "vmlinuz"
_INITRD = "initrd.cpio"
_CONFIG = "config"
_MODULES_DISK = "modules.ext4"
_LOCK = "kernels"

# where kernels, modules and configurations lie: a package's tree, a distribution's root, a kernel's build tree
_KERNEL_PLACES = (
    "boot/vmlinuz*",
    "vmlinuz*",
    "bzImage*",
    "arch/x86/boot/bzImage",
    "lib/modules/*/vmlinuz",
    "usr/lib/modules/*/vmlinuz",
)
_MODULES_PLACES = ("usr/lib/modules/*", "lib/modules/*", "modules/lib/modules/*", "modules/*", "MODULES/*", "*")
_CONFIG_PLACES = ("boot/config-{release}", "config-{release}", "config", ".config", "lib/modules/{release}/config")
# what tells a folder of modules from another one
_MODULES_SIGNS = ("kernel", "modules.dep", "modules.builtin", "modules.order")
# links into the source tree that the modules were built in
_NOT_MODULES = ("build", "source")

# Documentation/arch/x86/boot.rst: the magic, and the pointer (less 0x200) to the version's text
_MAGIC_OFFSET, _MAGIC = 0x202, b"HdrS"
_VERSION_POINTER_OFFSET = 0x20E
_SETUP_BYTES = 0x10000

_DEPMOD = (Program("depmod", "kmod"),)
_MKE2FS = (Program("mke2fs", "e2fsprogs"), Program("setpriv", "util-linux"))
_DPKG = (Program("dpkg-deb", "dpkg"), Program("setpriv", "util-linux"))


@dataclass(frozen=True)
class KernelBundle:
    """A kernel ready to boot. `modules_disk` and `config` are None where the kernel came without.

    `digest` is the SHA-256 over the kernel and its modules as they came; `initrd` is the kernel part of the initial RAM
    disk, which an agent part must follow; `modules_disk` goes to the guest as its second disk.
    """

    release: str
    vmlinuz: Path
    initrd: Path
    modules_disk: Path | None
    config: Path | None
    digest: str
    directory: Path
    sha256s: Mapping[str, str]


@dataclass(frozen=True)
class KernelSource:
    """The parts of a kernel where the user has them; `modules` is the folder lib/modules/RELEASE, if there is one."""

    release: str
    vmlinuz: Path
    modules: Path | None
    config: Path | None


def prepare(
    path: Path,
    *,
    busybox: Path,
    modules: Path | None = None,
    progress: Progress,
    deadline_seconds: float = 300.0,
    cancelled: threading.Event | None = None,
) -> KernelBundle:
    """The kernel at `path`, from the cache if it was prepared before.

    `busybox` is that of the target's image (Image.busybox); `modules` is the folder of the kernel's modules, for a
    kernel that does not bring them. Raises ScenarioError when `path` holds no kernel, or none that fits its modules;
    PrerequisiteError when the kernel cannot boot a guest or the host lacks something; LabError past the deadline.
    """
    if not path.exists():
        raise ScenarioError(
            f"no kernel at {path}: no such file or folder",
            hint="name a .deb, a folder, or a bzImage with --modules",
        )
    deadline = Deadline.after(deadline_seconds, f"preparing the kernel {path}", cancelled)
    folder = make_folder(kernels_folder())
    with exclusive(_LOCK, deadline, on_wait=lambda: progress(f"kernel {path}: waiting for another one")):
        remove_stale(folder, _LOCK)
        fingerprint = _fingerprint(path, modules, busybox)
        if found := _find(fingerprint):
            return found
        progress(f"kernel {path}: preparing")
        with scratch(folder, _LOCK) as work:
            source = _find_source(path, modules, work / "package", deadline)
            return _prepare_in(work / "tree", source, fingerprint, busybox, deadline)


def verify(bundle: KernelBundle) -> None:
    """Return if each file of `bundle` is as it was made. Raises PrerequisiteError that names the first that is not."""
    hint = f"remove {bundle.directory}; it is made again when needed"
    images.verify_files(f"kernel {bundle.release}", bundle.directory, bundle.sha256s, hint)


def kernels_folder() -> Path:
    """Where the prepared kernels lie."""
    return cache_root() / "kernels"


def bundles_of(digest: str) -> Iterator[KernelBundle]:
    """The prepared kernels in the cache that were made of the kernel and modules with this digest, the newest first."""
    found = kernels_folder().glob(f"[!.]*/{_DESCRIPTION}")
    for path in sorted(found, key=lambda one: one.stat().st_mtime, reverse=True):
        with contextlib.suppress(PrerequisiteError):
            bundle = _read(path.parent)
            if bundle.digest == digest:
                yield bundle


def find_kernel(path: Path, modules: Path | None = None) -> KernelSource:
    """The kernel in the folder (or file) `path`, with its modules from there or from `modules`.

    Raises ScenarioError if there is none, if there are several, and if kernel and modules are of different releases.
    """
    kernels = [path] if path.is_file() else _existing(path, _KERNEL_PLACES)
    if not kernels:
        raise ScenarioError(
            f"no kernel in {path}", hint=f"looked for {', '.join(_KERNEL_PLACES)}; a kernel alone can be named itself"
        )
    releases = {read_release(kernel): kernel for kernel in reversed(kernels)}
    if len(releases) > 1:
        names = ", ".join(sorted(releases))
        raise ScenarioError(f"{path} holds several kernels: {names}", hint="name one file, and its modules")
    ((release, kernel),) = releases.items()
    folder = _modules_of(release, kernel, modules or (path if path.is_dir() else None), required=modules is not None)
    return KernelSource(release, kernel, folder, _config_of(release, path if path.is_dir() else path.parent))


def read_release(kernel: Path) -> str:
    """The release of a bzImage, from its header. Raises ScenarioError if the file is not a bzImage or unreadable."""
    try:
        with kernel.open("rb") as file:
            setup = file.read(_SETUP_BYTES)
    except OSError as error:
        raise ScenarioError(
            f"cannot read the kernel {kernel}: {error.strerror}", hint="check its permissions, or name a copy of it"
        ) from error
    release = parse_release(setup)
    if release is None:
        raise ScenarioError(f"{kernel} is not a bzImage", hint="for x86 it is arch/x86/boot/bzImage, not vmlinux")
    return release


def parse_release(setup: bytes) -> str | None:
    """The release in the first 64 KB of a bzImage ("6.1.0 (builder) #1 ..."), None if they are of something else."""
    if setup[_MAGIC_OFFSET : _MAGIC_OFFSET + len(_MAGIC)] != _MAGIC:
        return None
    start = int.from_bytes(setup[_VERSION_POINTER_OFFSET : _VERSION_POINTER_OFFSET + 2], "little") + 0x200
    version = setup[start : start + 256].partition(b"\0")[0].partition(b" ")[0].decode("ascii", errors="replace")
    return version if re.fullmatch(r"[\w.+~-]+", version) else None


def _prepare_in(tree: Path, source: KernelSource, fingerprint: str, busybox: Path, deadline: Deadline) -> KernelBundle:
    final = kernels_folder() / f"{source.release}-{fingerprint[:12]}"
    modules = _copy_modules(source, tree, deadline) if source.modules else None
    config = source.config.read_text(errors="replace") if source.config else ""
    with staging(final, _LOCK) as folder:
        part = initrd.kernel_part(modules, busybox, config=config, modules_disk=modules is not None)
        (folder / _INITRD).write_bytes(part)
        shutil.copyfile(source.vmlinuz, folder / _VMLINUZ)
        if config:
            (folder / _CONFIG).write_text(config)
        if modules:
            images.require_programs(_MKE2FS)
            images.make_disk(folder / _MODULES_DISK, modules.parent, "lab-modules", deadline)
        description = {
            "layout_version": LAYOUT_VERSION,
            "release": source.release,
            "fingerprint": fingerprint,
            "digest": _digest(source),
            "sha256s": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
        }
        (folder / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    return _read(final)


def _find_source(path: Path, modules: Path | None, unpacked: Path, deadline: Deadline) -> KernelSource:
    """What find_kernel() finds in `path`, after unpacking it to `unpacked` if it is a Debian package."""
    if path.is_dir() or path.suffix != ".deb":
        return find_kernel(path, modules)
    images.require_programs(_DPKG)
    images.run_program(("dpkg-deb", "--extract", str(path), str(unpacked)), deadline)
    try:
        return find_kernel(unpacked, modules)
    except ScenarioError as error:
        # the user knows the package, not where it was unpacked
        raise ScenarioError(str(error).replace(str(unpacked), str(path)), hint=error.hint) from error


def _copy_modules(source: KernelSource, tree: Path, deadline: Deadline) -> Path:
    """A copy of the modules as `tree`/usr/lib/modules/RELEASE, with the lists that modprobe needs."""
    assert source.modules is not None
    needed_bytes = 3 * sum(path.stat().st_size for path in _files_of(source.modules))
    require_space(kernels_folder(), needed_bytes, f"the modules of {source.release}")
    folder = tree / "usr" / "lib" / "modules" / source.release
    shutil.copytree(source.modules, folder, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_MODULES))
    if not (folder / "modules.dep").exists():
        # which of the two places depmod takes was chosen when it was compiled
        (tree / "lib").symlink_to("usr/lib")
        images.require_programs(_DEPMOD)
        images.run_program(("depmod", "--basedir", str(tree), source.release), deadline)
    return folder


def _modules_of(release: str, kernel: Path, place: Path | None, *, required: bool) -> Path | None:
    if place is None:
        return None
    if not place.is_dir():
        raise ScenarioError(
            f"no folder of modules at {place}", hint=f"name the folder lib/modules/{release}, or one that has it in it"
        )
    folders = {place} if _is_modules(place) else set(filter(_is_modules, _existing(place, _MODULES_PLACES)))
    named = {folder.name: folder for folder in sorted(folders, reverse=True)}
    if release in named:
        return named[release]
    if named:
        others = ", ".join(sorted(named))
        raise ScenarioError(
            f"the kernel {kernel} is {release}, but the modules in {place} are of {others}",
            hint=f"give the modules folder lib/modules/{release}",
        )
    if required:
        raise ScenarioError(f"no modules in {place}", hint=f"looked for {', '.join(_MODULES_PLACES)}")
    return None


def _is_modules(folder: Path) -> bool:
    # by the name too: in a kernel's build tree most folders have a modules.order
    return folder.name[:1].isdigit() and any((folder / sign).exists() for sign in _MODULES_SIGNS)


def _config_of(release: str, folder: Path) -> Path | None:
    places = [place.format(release=release) for place in _CONFIG_PLACES]
    return next(filter(Path.is_file, _existing(folder, places)), None)


def _existing(folder: Path, places: Sequence[str]) -> list[Path]:
    # exists() leaves out dangling links, such as a distribution's "vmlinuz" without its /boot
    return [path for place in places for path in sorted(folder.glob(place)) if path.exists()]


def _fingerprint(path: Path, modules: Path | None, busybox: Path) -> str:
    """The SHA-256 of all that decides what is made of a kernel: it as it came, and what the lab adds."""
    shaped_by = {
        "layout": LAYOUT_VERSION,
        "kernel": sha256_of(path) if path.is_file() else _digest(find_kernel(path, modules)),
        "modules": _tree_digest(modules) if modules and path.is_file() else "",
        "busybox": sha256_of(busybox),
        "init": initrd.init_script().decode(),
        "drivers": [asdict(driver) for driver in initrd.DRIVERS],
    }
    return hashlib.sha256(json.dumps(shaped_by, sort_keys=True).encode()).hexdigest()


def _digest(source: KernelSource) -> str:
    modules = _tree_digest(source.modules) if source.modules else ""
    return hashlib.sha256(f"{sha256_of(source.vmlinuz)} {modules}".encode()).hexdigest()


def _tree_digest(folder: Path) -> str:
    names = hashlib.sha256()
    for path in _files_of(folder):
        names.update(f"{path.relative_to(folder)}\0{sha256_of(path)}\n".encode())
    return names.hexdigest()


def _files_of(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] not in _NOT_MODULES:
            yield path


def _find(fingerprint: str) -> KernelBundle | None:
    found = sorted(kernels_folder().glob(f"[!.]*-{fingerprint[:12]}/{_DESCRIPTION}"))
    return _read(found[0].parent) if found else None


def _read(folder: Path) -> KernelBundle:
    path = folder / _DESCRIPTION
    try:
        fields = json.loads(path.read_text())
        sha256s = {str(name): str(value) for name, value in fields["sha256s"].items()}
        return KernelBundle(
            release=str(fields["release"]),
            vmlinuz=folder / _VMLINUZ,
            initrd=folder / _INITRD,
            modules_disk=folder / _MODULES_DISK if _MODULES_DISK in sha256s else None,
            config=folder / _CONFIG if _CONFIG in sha256s else None,
            digest=str(fields["digest"]),
            directory=folder,
            sha256s=sha256s,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PrerequisiteError(
            f"the prepared kernel {folder.name} is damaged: {path}: {error!r}",
            hint=f"remove {folder}; it is made again when needed",
        ) from error
