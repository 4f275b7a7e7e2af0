"""Packages of any distribution, unpacked by libarchive's bsdtar: what a guest takes of them, and never more.

bsdtar runs as a program of its own, so that a malformed package can crash it and not the lab; without -P it refuses
absolute names, "..", and names that lead through a link (its manual, bsdtar(1)).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host.cache import Deadline
from lab.host.programs import Program, run_program

PROGRAMS = (
    Program("bsdtar", "libarchive-tools"),
    Program("prlimit", "util-linux"),
    Program("setpriv", "util-linux"),
)

PACKAGE_ENDINGS = (".deb", ".rpm", ".apk", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2")

# the packages that bring a kernel's modules, by the ending of those that were given
MODULE_PACKAGES = {
    ".deb": "the package linux-modules-{release} (Ubuntu, and Debian from 14 on)",
    ".rpm": "the packages kernel-modules-core-{release} and kernel-modules-{release} (SUSE: kernel-default-{release})",
}

# A whole distribution's modules, unpacked, are about 600 MB; the largest of them is below 50 MB.
TREE_BYTES = 3 * 10**9
_FILE_BYTES = 512 * 2**20
_TREE_FILES = 100_000

# what a kernel's packages have beside it (bsdtar fails on an --include that nothing matches)
_LEFT_OUT = ("usr/share", "usr/src", "usr/lib/debug", "usr/lib/firmware", "lib/firmware", "boot/System.map*", "dtb*")
_SAFELY = ("--no-same-owner", "--no-same-permissions", "--no-acls", "--no-xattrs", "--no-fflags")


def is_package(path: Path) -> bool:
    """Whether a file's name is one of a package (or of an archive of a kernel's `make tar-pkg`)."""
    return path.name.endswith(PACKAGE_ENDINGS)


def unpack(package: Path, tree: Path, deadline: Deadline) -> None:
    """Add a package's kernel, modules and configuration to `tree`.

    Raises ScenarioError that names the package when it is no package, damaged or cut off, or larger than a kernel is.
    """
    tree.mkdir(parents=True, exist_ok=True)
    before = _measure(tree)
    archive = _inner_archive(package, tree.parent, deadline) if package.name.endswith(".deb") else package
    left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    _run_bsdtar(package, ["-x", "-f", str(archive), "-C", str(tree), *_SAFELY, *left_out], tree, deadline)
    if archive != package:
        archive.unlink()
    if _measure(tree) == before:
        raise ScenarioError(
            f"{package}: brings neither a kernel nor modules", hint="it is cut off, or a package of something else"
        )
    _remove_links_out_of(tree)


def _inner_archive(package: Path, folder: Path, deadline: Deadline) -> Path:
    """The member of a Debian package (deb(5)) that holds its files."""
    parts = folder / "deb"
    parts.mkdir()
    _run_bsdtar(package, ["-x", "-f", str(package), "-C", str(parts), *_SAFELY, "--include=data.tar*"], parts, deadline)
    found = sorted(parts.iterdir())
    if len(found) != 1:
        raise ScenarioError(f"{package}: is no Debian package: it has no data.tar", hint="fetch it again")
    archive = found[0].rename(folder / found[0].name)
    parts.rmdir()
    return archive


def _run_bsdtar(package: Path, arguments: Sequence[str], target: Path, deadline: Deadline) -> None:
    argv = ("prlimit", f"--fsize={_FILE_BYTES}", "bsdtar", *arguments)
    try:
        run_program(argv, deadline, on_idle=_bound(package, target), environment={"LC_ALL": "C.UTF-8"})
        _check_size(package, target)
    except PrerequisiteError as error:
        said = str(error).partition(": ")[2].replace("bsdtar: ", "")
        raise ScenarioError(
            f"{package}: cannot be unpacked: {said}",
            hint="it is damaged, cut off, or no package: fetch it again, and compare its checksum",
        ) from error


def _bound(package: Path, target: Path) -> Callable[[], None]:
    """What is called several times a second while bsdtar runs, and looks at what it has written now and then."""
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls % 5 == 0:
            _check_size(package, target)

    return check


def _check_size(package: Path, target: Path) -> None:
    size_bytes, files = _measure(target)
    if size_bytes > TREE_BYTES or files > _TREE_FILES:
        raise ScenarioError(
            f"{package}: unpacks to more than {TREE_BYTES // 10**6} MB or {_TREE_FILES} files, which no kernel does",
            hint="name the kernel's own packages",
        )


def _measure(tree: Path) -> tuple[int, int]:
    """How many bytes and files there are."""
    size_bytes = files = 0
    for folder, _, names in os.walk(tree):
        files += len(names)
        size_bytes += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
    return size_bytes, files


def _remove_links_out_of(tree: Path) -> None:
    """Links to a source tree are of no use here; any other that leads out of the tree must not be followed."""
    root = tree.resolve()
    for folder, folders, names in os.walk(tree):
        for name in (*folders, *names):
            path = Path(folder, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                path.unlink()


def missing_modules_hint(release: str, packages: Sequence[Path]) -> str:
    """Which package to add where the modules of `release` are not in `packages`."""
    named = next((MODULE_PACKAGES[path.suffix] for path in packages if path.suffix in MODULE_PACKAGES), None)
    where = named.format(release=release) if named else f"the package that has lib/modules/{release}"
    return f"add {where}: --kernel takes several files"
