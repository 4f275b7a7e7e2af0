"""What `--kernels SET` means: a folder of packages, a list, a glob of files, or kernels of a suite by a glob."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lab.core.bisecting.points import Point, in_order
from lab.core.errors import LabError, ScenarioError
from lab.core.text import plural
from lab.host.cache import Deadline, Progress, sha256_of
from lab.host.kernels.apt import AptPackage
from lab.host.kernels.fetch import kernels_in
from lab.host.kernels.find import find_kernel
from lab.host.kernels.header import read_release
from lab.host.kernels.source import SEPARATOR, AptPart, is_fetched, parse_source
from lab.host.kernels.suites import find_suite
from lab.host.kernels.unpack import is_package
from lab.host.machines.qemu.targets import kernel_label, split_kernel

_APT_GLOB = re.compile(r"apt:([^/]+)/(.*[*?\[].*)", re.DOTALL)
_GLOB = re.compile(r"[*?\[]")
# NAME_VERSION_ARCHITECTURE.deb, where a colon may be written %3a
_DEB_VERSION = re.compile(r"[^_]+_(?:\d+%3a)?([^_]+)_[^_]+\.deb")
_LIST_BYTES = 1 << 20
_MOST_KERNELS = 5000
_LIST_SECONDS = 900.0


def expand(sets: Sequence[str], progress: Progress) -> tuple[Point, ...]:
    """The kernels of all sets together, in version order. Raises LabError for one that cannot be read or means none."""
    reader = _Reader(progress)
    found = [point for text in sets for point in reader.expand(text)]
    if len(found) > _MOST_KERNELS:
        raise ScenarioError(f"these are {len(found)} kernels, at most {_MOST_KERNELS} can be tested", hint="name fewer")
    return in_order(found)


@dataclass
class _Reader:
    """Reads sets; the lists of each suite once."""

    progress: Progress
    suites: dict[str, Sequence[AptPackage]] = field(default_factory=dict)

    def expand(self, text: str, *, in_list: bool = False) -> list[Point]:
        """The kernels of one set; a list does not name lists."""
        if match := _APT_GLOB.fullmatch(text):
            return self._matching(match[1], match[2])
        label, source = split_kernel(text)
        path = Path(source).expanduser()
        if label is not None or is_fetched(source) or (SEPARATOR in source and not path.exists()):
            return [self._named(source, label)]
        if path.is_dir():
            return _in_folder(path)
        if path.is_file() and (is_package(path) or _is_bzimage(path)):
            return [_local((path,))]
        if path.is_file() and not in_list:
            return self._listed(path)
        paths = [Path(name) for name in sorted(glob.glob(str(path)))] if _GLOB.search(source) else []
        if not paths:
            what = "is neither a package nor a bzImage" if path.exists() else "no such file or folder"
            hint = "a folder of packages, a list, a glob of files, or apt:SUITE/GLOB"
            raise ScenarioError(f"--kernels {text}: {what}", hint=hint)
        return _local_points(paths)

    def _matching(self, suite: str, pattern: str) -> list[Point]:
        parse_source(f"apt:{suite}")  # refuses what is no name of a suite
        packages = [package for package in self._packages(suite) if not (_leads_elsewhere(package) or package.lacks)]
        matching = [package for package in packages if fnmatch.fnmatchcase(package.name, pattern)]
        if not matching:
            some = ", ".join(package.name for package in packages[:3])
            hint = f"lab kernel list {suite} shows them" + (f", for example {some}" if some else "")
            raise ScenarioError(f"--kernels apt:{suite}/{pattern}: no kernel of the suite matches", hint=hint)
        return [_packaged(suite, package) for package in matching]

    def _named(self, source: str, label: str | None) -> Point:
        """A kernel that is named as with --kernel; one of a suite with the version that its package has."""
        parts = parse_source(source)
        if len(parts) == 1 and isinstance(parts[0], AptPart):
            suite = parts[0].suite
            packages = {package.name: package for package in self._packages(suite)}
            package = packages.get(parts[0].package or find_suite(suite).kernel)
            while package is not None and _leads_elsewhere(package):
                package = next((packages[name] for name in package.depends if name in packages), None)
            if package is not None:
                point = _packaged(suite, package)
                return replace(point, name=label or point.name)
        return Point(label or kernel_label(source), source)

    def _packages(self, suite: str) -> Sequence[AptPackage]:
        if suite not in self.suites:
            deadline = Deadline.after(_LIST_SECONDS, f"reading the lists of {suite}")
            self.progress(f"apt:{suite}: reading its lists")
            self.suites[suite] = kernels_in(suite, self.progress, deadline)
            if gone := [package.name for package in self.suites[suite] if package.lacks]:
                what = f"{plural(len(gone), 'kernel')} of which the suite no longer has the modules"
                self.progress(f"apt:{suite}: without {what}, {gone[0]} to {gone[-1]}")
        return self.suites[suite]

    def _listed(self, path: Path) -> list[Point]:
        """The kernels of a text file, a set in each line; a `#` begins a comment."""
        try:
            with path.open("rb") as file:
                text = file.read(_LIST_BYTES).decode()
        except UnicodeDecodeError as error:
            raise ScenarioError(
                f"--kernels {path}: is neither a package, a bzImage nor a list of kernels", hint="a KERNEL in each line"
            ) from error
        found = []
        for number, line in enumerate(text.splitlines(), start=1):
            # the digest of a URL follows its # without a space
            if kernel := re.sub(r"(^|\s)#.*", "", line).strip():
                try:
                    found += self.expand(kernel, in_list=True)
                except LabError as error:
                    raise type(error)(f"{path}:{number}: {error}", hint=error.hint) from error
        return found


def _leads_elsewhere(package: AptPackage) -> bool:
    """Whether it is a metapackage: another kernel's name is all that it has."""
    return any(name.startswith("linux-image-") for name in package.depends)


def _packaged(suite: str, package: AptPackage) -> Point:
    name = package.name.removeprefix("linux-image-")
    return Point(name, f"apt:{suite}/{package.name}", package.version, package.sha256)


def _in_folder(folder: Path) -> list[Point]:
    """A folder that is a kernel itself, or one of packages and of kernels' folders."""
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if any(map(is_package, inside)):
        return _local_points([path for path in inside if is_package(path)])
    if _holds_kernel(folder):
        return [_local((folder,))]
    points = _local_points([path for path in inside if path.is_dir() and _holds_kernel(path)])
    if not points:
        raise ScenarioError(
            f"--kernels {folder}: has neither packages of kernels nor folders with a kernel",
            hint="packages end in .deb, .rpm, .apk, .pkg.tar.zst; a folder has boot/vmlinuz-RELEASE or a build",
        )
    return points


def _is_bzimage(path: Path) -> bool:
    try:
        read_release(path)
    except ScenarioError:
        return False
    return True


def _holds_kernel(folder: Path) -> bool:
    try:
        find_kernel(folder)
    except LabError as error:
        return "holds several kernels" in str(error)
    return True


def _local_points(paths: Sequence[Path]) -> list[Point]:
    """The kernels in these files and folders; packages of one release make one kernel."""
    by_release: dict[str, list[Path]] = {}
    for path in paths:
        key = kernel_label(str(path)) if is_package(path) else str(path)
        by_release.setdefault(key, []).append(path)
    points = [_local(tuple(group)) for group in by_release.values()]
    names = [point.name for point in points]
    # builds of one release are called by their folders
    return [point if names.count(point.name) == 1 else replace(point, name=_stem(point)) for point in points]


def _stem(point: Point) -> str:
    return re.sub(r"[^A-Za-z0-9._+~-]+", "_", Path(point.source.partition(SEPARATOR)[0]).name)[:40]


def _local(paths: Sequence[Path]) -> Point:
    source = SEPARATOR.join(map(str, paths))
    versions = (match[1] for path in paths if (match := _DEB_VERSION.fullmatch(path.name)))
    files = all(path.is_file() for path in paths)
    return Point(kernel_label(source), source, next(versions, ""), _digest(paths) if files else None)


def _digest(paths: Sequence[Path]) -> str:
    """One file by its own digest, as a suite's lists have it."""
    digests = sorted(map(sha256_of, paths))
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()
