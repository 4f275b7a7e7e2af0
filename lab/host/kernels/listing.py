"""What kernels can be had, as lines for people: the suites, a suite's kernels, what is in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lab.core.errors import LabError
from lab.host.kernels.apt import AptPackage
from lab.host.kernels.bundle import all_bundles
from lab.host.kernels.suites import SUITES, Suite


def suite_lines() -> Iterator[str]:
    """A line for each suite with whether it can be had here, then the kernels that are prepared in the cache."""
    obstacles = _obstacles()
    for suite in SUITES.values():
        obstacle = obstacles[suite.archive.name] or _lacks_keys(suite)
        yield f"apt:{suite.name:20}  {suite.summary:42}  {obstacle or 'can be had here'}"
    yield "apt:SUITE/PACKAGE takes another kernel of a suite; lab kernel list SUITE shows them"
    for bundle in all_bundles():
        yield f"in the cache: {bundle.release}  {bundle.directory}"


def kernel_lines(suite: str, packages: Sequence[AptPackage]) -> Iterator[str]:
    """A line for each kernel of a suite: what to give to --kernel, its version, and its size or what it leads to."""
    width = max((len(package.name) for package in packages), default=0) + len(suite) + len("apt:/")
    for package in packages:
        leads_to = next((name for name in package.depends if name.startswith("linux-image-")), None)
        size = f"{package.size_bytes / 10**6:.0f} MB" if leads_to is None else f"-> {leads_to}"
        size = f"unavailable: the suite no longer has {', '.join(package.lacks)}" if package.lacks else size
        yield f"{f'apt:{suite}/{package.name}':{width}}  {package.version}  {size}"


def _obstacles() -> Mapping[str, str | None]:
    """Why each archive cannot be reached from here, by its name; None where a mirror is known."""
    found: dict[str, str | None] = {}
    for suite in SUITES.values():
        if suite.archive.name not in found:
            try:
                suite.mirror()
                found[suite.archive.name] = None
            except LabError:
                found[suite.archive.name] = f"needs {suite.archive.variable}=URL"
    return found


def _lacks_keys(suite: Suite) -> str | None:
    try:
        suite.keys.existing()
    except LabError:
        return f"needs apt install {suite.keys.package}"
    return None
