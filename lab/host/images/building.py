"""Building an image: packages installed into a tree by mmdebstrap, then kernel, initial RAM disk and root disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from lab.core.errors import LabError, PrerequisiteError
from lab.host.cache import (
    Deadline,
    Progress,
    cache_root,
    exclusive,
    make_folder,
    remove_stale,
    remove_tree,
    require_space,
    sha256_of,
    staging,
)
from lab.host.images import initrd
from lab.host.images.build_reporter import BuildReporter
from lab.host.images.disk import make_disk
from lab.host.images.image import DESCRIPTION, Image, final_folder, load, lock_name
from lab.host.images.mirror import MIRROR_VARIABLE, find_mirror, host_apt_options
from lab.host.images.modules import DEPMOD, list_modules, unpack_modules
from lab.host.images.recipe import FILES, LAYOUT_VERSION, REMOVED, WRITTEN, mmdebstrap_argv, recipe_digest
from lab.host.images.sandbox import Sandbox, find_sandbox
from lab.host.programs import Program, require_programs, run_program
from lab.host.releases import Target

T = TypeVar("T")

# measured: 600 MB at the peak (the tree, apt's archives and lists, then the disk beside the tree)
_BUILD_BYTES = 1_000_000_000

# what apt says of a package that its lists do not have; "no candidate" is one that others only mention
_NO_PACKAGE = re.compile(r"Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate")
PROGRAMS = (
    Program("mmdebstrap", "mmdebstrap"),
    Program("apt-get", "apt"),
    Program("mke2fs", "e2fsprogs"),
    Program("unshare", "util-linux"),
    Program("setpriv", "util-linux"),
    *DEPMOD,
)
_USER_PROGRAMS = (Program("newuidmap", "uidmap"),)


@dataclass(frozen=True)
class BuildOptions:
    """How something is built from packages.

    `mirror` is the URL of a Debian archive; without it LAB_DEBIAN_MIRROR counts, then what the host's apt uses.
    `progress` is called with a line now and then, also while nothing happens, `detail` with every line that mmdebstrap
    prints. `rebuild` builds also what exists.
    """

    progress: Progress
    mirror: str | None = None
    detail: Progress = lambda line: None
    deadline_seconds: float = 900.0
    cancelled: threading.Event | None = None
    rebuild: bool = False


class PackagesLacking(PrerequisiteError):
    """The suite has no such packages, so no image with them can be made of it."""

    @classmethod
    def because(cls, reason: str) -> PackagesLacking:
        """The error of a reason that names the suite and the packages."""
        hint = "packages are Debian's of the target's release: look for the name there, or choose another target"
        return cls(reason, hint=hint)


def build(target: Target, options: BuildOptions) -> Image:
    """The image of `target`: built now, unless it exists.

    Two builds of one target wait for each other, and the second takes what the first made. Raises PrerequisiteError for
    what the host lacks and for a failed installation, LabError past the deadline, and Cancelled; none of them leaves
    anything half-made.
    """
    product = Product(f"image {target.name}", final_folder(target), lock_name(target.name), PROGRAMS, _BUILD_BYTES)

    def fill(folder: Path, source: str, report: BuildReporter, deadline: Deadline) -> None:
        _build_in(folder, target, source, find_sandbox(), report, deadline)

    return build_once(product, options, lambda: load(target), fill)


@dataclass(frozen=True)
class Product:
    """Something that is built from packages, in a folder of its own in the cache."""

    what: str
    folder: Path
    lock: str
    programs: Sequence[Program]
    build_bytes: int


def build_once(
    product: Product,
    options: BuildOptions,
    find: Callable[[], T | None],
    fill: Callable[[Path, str, BuildReporter, Deadline], None],
) -> T:
    """What `find` finds, made by `fill` if it is missing or is to be made again; errors are those of build().

    `fill` gets an empty folder, which becomes the product's when it returns, and the URL of a Debian archive.
    """
    deadline = Deadline.after(options.deadline_seconds, f"building {product.what}", options.cancelled)
    report = BuildReporter(product.what, options.progress, options.detail)
    with exclusive(product.lock, deadline, on_wait=report.wait):
        remove_stale(make_folder(product.folder.parent), product.lock)
        # whoever waited for a build has what a rebuild would give
        if (not options.rebuild or report.waited) and (found := find()):
            return found
        require_programs(product.programs if os.geteuid() == 0 else (*product.programs, *_USER_PROGRAMS))
        require_space(product.folder.parent, product.build_bytes, f"building {product.what}")
        source = options.mirror or find_mirror()
        with staging(product.folder, product.lock) as folder:
            fill(folder, source, report, deadline)
    report.stage("built")
    made = find()
    if made is None:
        raise LabError(f"{product.what} went away while it was built", hint="build it again")
    return made


def parse_packages(status: str) -> tuple[str, ...]:
    """dpkg's status file as sorted lines of "name version architecture", installed packages only."""
    packages = []
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"[A-Z][\w-]*: ", line))
        if fields.get("Status", "").endswith(" installed"):
            packages.append(f"{fields['Package']} {fields['Version']} {fields['Architecture']}")
    return tuple(sorted(packages))


def _build_in(
    folder: Path, target: Target, mirror: str, sandbox: Sandbox, report: BuildReporter, deadline: Deadline
) -> None:
    tree, temporary = folder / "tree", folder / "tmp"
    tree.mkdir()
    temporary.mkdir()
    report.stage(f"starting, from {mirror}")
    install_packages(target, mirror, tree, temporary, sandbox, report, deadline)
    report.stage("making the initial RAM disk")
    release = take_kernel(tree, folder, deadline)
    report.stage("making the root disk")
    tidy(tree)
    make_disk(folder / FILES["root_disk"], tree, "lab-root", deadline, sandbox.prefix)
    for path in (tree, temporary):
        remove_tree(path)
    description = {
        "layout_version": LAYOUT_VERSION,
        "name": target.name,
        "suite": target.suite,
        "digest": recipe_digest(target),
        "kernel_release": release,
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256s": {name: sha256_of(folder / name) for name in FILES.values()},
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    deadline.check()


def install_packages(
    target: Target,
    mirror: str,
    tree: Path,
    temporary: Path,
    sandbox: Sandbox,
    report: BuildReporter,
    deadline: Deadline,
) -> None:
    """Fill `tree` with the target's packages. Raises PackagesLacking, and PrerequisiteError that names the log."""
    apt_options = temporary / "apt.conf"
    apt_options.write_text(host_apt_options())
    log_path = make_folder(cache_root() / "logs") / f"image-{target.name}.log"
    argv = (*sandbox.prefix, *mmdebstrap_argv(target, mirror, tree, apt_options))
    environment = {"TMPDIR": str(temporary), "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    with log_path.open("w") as log:
        lacking: list[str] = []

        def on_line(line: str) -> None:
            log.write(f"{line}\n")
            report.line(line)
            if found := _NO_PACKAGE.search(line):
                lacking.append(found[1] or found[2])

        try:
            run_program(argv, deadline, on_line=on_line, on_idle=report.idle, environment=environment)
        except PrerequisiteError as error:
            if lacking:
                packages = " and no ".join(dict.fromkeys(lacking))
                raise PackagesLacking.because(f"{target.suite} has no package {packages}") from error
            hint = f"the whole log is in {log_path}; is {mirror} right, and within reach?"
            raise PrerequisiteError(str(error), hint=hint) from error


def take_kernel(tree: Path, folder: Path, deadline: Deadline) -> str:
    """Copy kernel, configuration, busybox and package list out of `tree`, unpack its modules, make the kernel part.

    Returns the release.
    """
    kernels = list((tree / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        names = ", ".join(sorted(kernel.name for kernel in kernels)) or "none"
        raise PrerequisiteError(
            f"one kernel was to be installed in the image, and these were: {names}",
            hint=f"try another mirror with --mirror or {MIRROR_VARIABLE}, whose kernel package depends on one kernel",
        )
    kernel = kernels[0]
    release = kernel.name.removeprefix("vmlinuz-")
    config = tree / "boot" / f"config-{release}"
    busybox = _first_existing(tree / "usr/bin/busybox", tree / "bin/busybox")
    for source, name in ((kernel, "kernel"), (config, "config"), (busybox, "busybox")):
        shutil.copyfile(source, folder / FILES[name])
    modules = _first_existing(tree / "usr/lib/modules" / release, tree / "lib/modules" / release)
    if unpack_modules(modules, deadline):
        list_modules(tree, release, deadline)
    part = initrd.kernel_part(modules, busybox, config=config.read_text())
    (folder / FILES["initrd"]).write_bytes(part)
    packages = parse_packages((tree / "var/lib/dpkg/status").read_text())
    (folder / FILES["packages"]).write_text("".join(f"{line}\n" for line in packages))
    (folder / FILES["programs"]).write_text("".join(f"{name}\n" for name in programs_in(tree)))
    return release


def programs_in(tree: Path) -> list[str]:
    """The names in the folders of the guest's PATH; alternatives are absolute links that lead nowhere from here.

    Before Debian 12 a tree of mmdebstrap has /bin and /sbin apart from /usr.
    """
    folders = (tree / name for name in ("usr/sbin", "usr/bin", "usr/local/sbin", "usr/local/bin", "sbin", "bin"))
    paths = (path for folder in folders if folder.is_dir() for path in folder.iterdir())
    return sorted({path.name for path in paths if path.is_symlink() or os.access(path, os.X_OK)})


def tidy(tree: Path, keep: frozenset[str] = frozenset()) -> None:
    """Leave in `tree` what a guest needs, and the patterns to `keep`.

    All of it belongs to this user: root of the namespace is the user outside.
    """
    for pattern in (pattern for pattern in REMOVED if pattern not in keep):
        for path in tree.glob(pattern):
            path.unlink()
    for name, content in WRITTEN.items():
        (tree / name).write_text(content)
        (tree / name).chmod(0o644)


def _first_existing(*paths: Path) -> Path:
    return next((path for path in paths if path.exists()), paths[-1])
