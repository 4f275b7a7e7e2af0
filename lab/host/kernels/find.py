"""Where kernel, modules and configuration lie: in a package's tree, a distribution's root, a kernel's build tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import ScenarioError
from lab.host.kernels.header import read_release

_KERNEL_PLACES = (
    "boot/vmlinuz*",
    "vmlinuz*",
    "bzImage*",
    "arch/x86/boot/bzImage",
    "lib/modules/*/vmlinuz",
    "usr/lib/modules/*/vmlinuz",
)
_MODULES_PLACES = ("usr/lib/modules/*", "lib/modules/*", "modules/lib/modules/*", "modules/*", "MODULES/*", "*")
_CONFIG_PLACES = (
    "boot/config-{release}",
    "config-{release}",
    "config",
    ".config",
    "lib/modules/{release}/config",
    "usr/lib/modules/{release}/config",
)
# what tells a folder of modules from another one
_MODULES_SIGNS = ("kernel", "modules.dep", "modules.builtin", "modules.order")


@dataclass(frozen=True)
class KernelFiles:
    """The parts of a kernel where they lie; `modules` is the folder lib/modules/RELEASE, if there is one."""

    release: str
    vmlinuz: Path
    modules: Path | None
    config: Path | None

    def options(self) -> str:
        """The text of the configuration; empty where none is known."""
        return self.config.read_text(errors="replace") if self.config else ""


def find_kernel(path: Path, modules: Path | None = None) -> KernelFiles:
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
    return KernelFiles(release, kernel, folder, _config_of(release, path if path.is_dir() else path.parent))


def module_releases(tree: Path) -> frozenset[str]:
    """The releases of all folders of modules in a tree."""
    return frozenset(folder.name for folder in filter(_is_modules, _existing(tree, _MODULES_PLACES)))


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
            hint=f"give the modules of {release}: the folder lib/modules/{release}, or the package that has it",
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
