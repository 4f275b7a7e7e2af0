"""Kernels from elsewhere: packages of a suite, files by URL and digest; each kept in the cache by its SHA-256."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import PrerequisiteError, ScenarioError
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
from lab.host.download import download
from lab.host.kernels.apt import AptPackage, AptSuite, open_suite
from lab.host.kernels.source import AptPart, LocalPart, Part, UrlPart, parse_source
from lab.host.kernels.suites import find_suite

_LOCK = "packages"
_MAX_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Fetched:
    """A file of a kernel, where it lies, and its SHA-256."""

    path: Path
    sha256: str


def packages_folder() -> Path:
    """Where fetched files lie: one folder for each, named by its SHA-256."""
    return cache_root() / "packages"


def fetch(part: AptPart | UrlPart, progress: Progress, deadline: Deadline) -> list[Path]:
    """The files of a part, from the cache or fetched now and checked. Raises ScenarioError and PrerequisiteError."""
    folder = make_folder(packages_folder())
    with exclusive(_LOCK, deadline, on_wait=lambda: progress("waiting for another one that fetches")):
        remove_stale(folder, _LOCK)
        if isinstance(part, UrlPart):
            return [_kept(part.sha256) or _download(part, progress, deadline)]
        progress(f"apt:{part.suite}: reading its lists")
        apt = open_suite(find_suite(part.suite), progress, deadline)
        packages = apt.kernel(part.package, deadline)
        return [_kept(package.sha256) or _from_apt(apt, package, progress, deadline) for package in packages]


def fetch_source(source: str, progress: Progress, deadline: Deadline) -> list[Fetched]:
    """All files of a kernel that a user named, the user's own too. Raises what fetch() raises."""
    paths = [path for part in parse_source(source) for path in _paths(part, progress, deadline)]
    return [Fetched(path, sha256_of(path)) for path in paths if path.is_file()]


def kernels_in(suite: str, progress: Progress, deadline: Deadline) -> Sequence[AptPackage]:
    """The kernels that a suite has today. Raises ScenarioError and PrerequisiteError."""
    make_folder(packages_folder())
    with exclusive(_LOCK, deadline, on_wait=lambda: progress("waiting for another one that fetches")):
        return open_suite(find_suite(suite), progress, deadline).kernels(deadline)


def _paths(part: Part, progress: Progress, deadline: Deadline) -> list[Path]:
    if not isinstance(part, LocalPart):
        return fetch(part, progress, deadline)
    if not part.path.exists():
        raise ScenarioError(f"no kernel at {part.path}: no such file or folder", hint="apt:SUITE, or URL#sha256=HEX")
    return [part.path]


def _kept(sha256: str) -> Path | None:
    """The file with this digest in the cache; one that is damaged counts as not there."""
    files = [path for path in (packages_folder() / sha256).glob("*") if path.is_file()]
    return files[0] if len(files) == 1 and sha256_of(files[0]) == sha256 else None


def _from_apt(apt: AptSuite, package: AptPackage, progress: Progress, deadline: Deadline) -> Path:
    require_space(packages_folder(), 2 * package.size_bytes, f"the package {package.name}")
    progress(f"apt:{apt.suite.name}: fetching {package.name} {package.version}, {package.size_bytes / 10**6:.0f} MB")
    with scratch(packages_folder(), _LOCK) as work:
        file = apt.download(package, work, deadline)
        _require_digest(file, package.sha256, f"the package {package.name} of {apt.suite.name}")
        return _keep(file, package.sha256)


def _download(part: UrlPart, progress: Progress, deadline: Deadline) -> Path:
    progress(f"fetching {part.url}")
    with scratch(packages_folder(), _LOCK) as work:
        file = work / part.name
        download(part.url, file, _MAX_BYTES, deadline, "get the file by hand, then --kernel FILE")
        _require_digest(file, part.sha256, part.url)
        return _keep(file, part.sha256)


def _require_digest(file: Path, expected: str, what: str) -> None:
    actual = sha256_of(file)
    if actual != expected:
        raise PrerequisiteError(
            f"{what}: its sha256 is {actual}, expected {expected}",
            hint="it is not the file that was meant, or was damaged on its way: compare with what its publisher names",
        )


def _keep(file: Path, sha256: str) -> Path:
    final = packages_folder() / sha256
    with staging(final, _LOCK) as folder:
        file.rename(folder / file.name)
    return final / file.name
