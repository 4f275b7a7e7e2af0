"""Guest images: a root disk, kernel and initial RAM disk, made from a Debian mirror's packages and kept in the cache.

An image is a folder `images/TARGET-DIGEST` of the cache. The digest is that of the recipe, so another recipe is another
image; the mirror is no part of it, nor are the packages' versions, which lie beside it in packages.txt.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from lab.core.errors import LabError, PrerequisiteError
from lab.core.text import printable
from lab.host import initrd
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
from lab.host.targets import Target

T = TypeVar("T")

MIRROR_VARIABLE = "LAB_DEBIAN_MIRROR"

# 1 - first version
LAYOUT_VERSION = 1

_DESCRIPTION = "image.json"
# the name of each file in an image's folder
_FILES = {
    "root_disk": "root.ext4",
    "kernel": "vmlinuz",
    "initrd": "initrd.cpio",
    "config": "config",
    "busybox": "busybox",
    "packages": "packages.txt",
    "programs": "programs.txt",
}

# measured: 600 MB at the peak (the tree, apt's archives and lists, then the disk beside the tree)
_BUILD_BYTES = 1_000_000_000
_POLL_SECONDS = 0.2
_HEARTBEAT_SECONDS = 10.0
_TAIL_LINES = 5
_LINE_CHARACTERS = 300
_ERROR_MARKS = ("E: ", "Err:", "error: ", "dpkg: error")

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MERGED_USR_HOOKS = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"

# The program that makes Debian's own initial RAM disk, which is not used: 15 s with initramfs-tools, and the small one
# does not run where nothing can be mounted (a container). /bin/true stands in for it.
_INITRD_MAKER = "/usr/sbin/update-tirfs"

# never unpacked: what only people read, and what makes that initial RAM disk
_EXCLUDED = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/bug/*",
    "/usr/share/bash-completion/*",
    "/boot/System.map-*",
    "/etc/kernel/postinst.d/*",
    _INITRD_MAKER,
)

# removed at the end: traces of the host and of the mirror, what is kept outside of the disk, logs and backups
_REMOVED = (
    "etc/resolv.conf",
    "etc/apt/sources.list",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/*-",
    _INITRD_MAKER.lstrip("/"),
    "boot/*",
    "vmlinuz*",
    "initrd.img*",
    "var/log/*.log",
    "var/log/apt/*",
    "var/cache/apt/*.bin",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dpkg/*-old",
)

_WRITTEN = {
    "etc/hostname": "lab\n",
    "etc/hosts": "127.0.0.1 localhost lab\n::1 localhost\n",
}

# A kernel of 3.10 mounts it: no metadata_csum, 64bit, orphan_file or journal. "none" first, as the defaults differ
# between versions of mke2fs, and an older one does not know the names of newer features.
_EXT4_FEATURES = "none,extent,filetype,sparse_super,large_file,huge_file,dir_index,dir_nlink,extra_isize,flex_bg"
_BLOCK_BYTES = 4096
_INODE_BYTES = 256

# what mmdebstrap says -> what a person reads
_STAGES = (
    ("running apt-get update", "reading the package lists"),
    ("setup-hook", "reading the package lists"),
    ("downloading packages", "downloading packages"),
    ("extracting archives", "unpacking the essential packages"),
    ("installing essential packages", "installing the essential packages"),
    ("installing remaining packages", "installing Python, the netfilter tools and the kernel"),
    ("cleaning package lists", "cleaning up"),
)

_SUB_IDS_HINT = (
    "build as root (sudo), or: sudo apt install uidmap; "
    "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER; "
    "and where AppArmor forbids it: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
)


@dataclass(frozen=True)
class Image:
    """A complete image in the cache. `initrd` is the kernel part alone, which an agent part must follow."""

    name: str
    digest: str
    directory: Path
    kernel_release: str
    sha256s: Mapping[str, str]
    built: str

    @property
    def root_disk(self) -> Path:
        """ext4 on the whole disk, for reading only."""
        return self.directory / _FILES["root_disk"]

    @property
    def kernel(self) -> Path:
        """The kernel as QEMU takes it (bzImage)."""
        return self.directory / _FILES["kernel"]

    @property
    def initrd(self) -> Path:
        """The kernel part of the initial RAM disk (lab.host.initrd)."""
        return self.directory / _FILES["initrd"]

    @property
    def config(self) -> Path:
        """The kernel's configuration."""
        return self.directory / _FILES["config"]

    @property
    def busybox(self) -> Path:
        """The static busybox that this image's userspace comes with; other kernels' initial RAM disks use it too."""
        return self.directory / _FILES["busybox"]

    @property
    def packages(self) -> Path:
        """One line for each package: name, version, architecture."""
        return self.directory / _FILES["packages"]

    def programs(self) -> frozenset[str]:
        """The names of the programs on the guest's PATH."""
        return frozenset((self.directory / _FILES["programs"]).read_text().split())

    @property
    def size_bytes(self) -> int:
        """What the image takes on the host's disk."""
        return sum(path.stat().st_blocks * 512 for path in self.directory.iterdir())


@dataclass(frozen=True)
class Program:
    """A program that the host must have, and the Debian package that brings it."""

    name: str
    package: str


@dataclass(frozen=True)
class Sandbox:
    """A way to be root over a tree of files: a command prefix that other programs run behind."""

    prefix: tuple[str, ...]


# The PID namespace makes a killed builder take all of its children along; the mount namespace what they mounted.
_NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child=KILL")
_ROOT_SANDBOXES = (
    Sandbox(("unshare", *_NAMESPACES)),
    # in a chroot whose / is no mount point, its propagation cannot be changed
    Sandbox(("unshare", *_NAMESPACES, "--propagation", "unchanged")),
    # a container without CAP_SYS_ADMIN: mmdebstrap then does without mounts
    Sandbox(()),
)
_USER_SANDBOXES = (Sandbox(("unshare", "--user", "--map-root-user", "--map-auto", *_NAMESPACES)),)

PROGRAMS = (
    Program("mmdebstrap", "mmdebstrap"),
    Program("apt-get", "apt"),
    Program("mke2fs", "e2fsprogs"),
    Program("unshare", "util-linux"),
    Program("setpriv", "util-linux"),
)
_USER_PROGRAMS = (Program("newuidmap", "uidmap"),)


def images_folder() -> Path:
    """Where the images lie."""
    return cache_root() / "images"


def recipe_digest(target: Target) -> str:
    """The SHA-256 of all that decides what an image of `target` is made of, but for the mirror."""
    recipe = {
        "layout": LAYOUT_VERSION,
        "files": sorted(_FILES.values()),
        "target": asdict(target),
        "excluded": _EXCLUDED,
        "removed": _REMOVED,
        "written": _WRITTEN,
        "ext4": _EXT4_FEATURES,
        "drivers": [asdict(driver) for driver in initrd.DRIVERS],
        "soft_dependencies": dict(initrd.SOFT_DEPENDENCIES),
        "applets": initrd.APPLETS,
        "init": initrd.init_script().decode(),
    }
    del recipe["target"]["summary"]  # type: ignore[attr-defined]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def load(target: Target) -> Image | None:
    """The image of `target` by today's recipe, None if it was not built. Raises PrerequisiteError if it is unreadable.

    Its content is not looked at: verify() does that.
    """
    folder = final_folder(target)
    return read_image(folder) if folder.exists() else None


def read_image(folder: Path) -> Image:
    """The image in `folder`. Raises PrerequisiteError that names what is wrong with its description."""
    path = folder / _DESCRIPTION
    try:
        fields = json.loads(path.read_text())
        image = Image(
            name=str(fields["name"]),
            digest=str(fields["digest"]),
            directory=folder,
            kernel_release=str(fields["kernel_release"]),
            sha256s={file: str(fields["sha256s"][file]) for file in _FILES.values()},
            built=str(fields["built"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        name = folder.name.rpartition("-")[0]
        raise PrerequisiteError(f"image {name} is damaged: {path}: {error!r}", hint=_rebuild_hint(name)) from error
    return image


def verify(image: Image) -> None:
    """Return if each file of `image` is as it was built.

    Raises PrerequisiteError that names the first file that is not, with both checksums.
    """
    verify_files(f"image {image.name}", image.directory, image.sha256s, _rebuild_hint(image.name))


def verify_files(what: str, folder: Path, sha256s: Mapping[str, str], hint: str) -> None:
    """Return if the files in `folder` have these SHA-256; else raises PrerequisiteError that names the first other."""
    for name, expected in sha256s.items():
        path = folder / name
        try:
            actual = sha256_of(path)
        except OSError as error:
            raise PrerequisiteError(f"{what} is damaged: {path}: {error.strerror}", hint=hint) from error
        if actual != expected:
            raise PrerequisiteError(f"{what} is damaged: {path}: sha256 is {actual}, expected {expected}", hint=hint)


def list_images() -> tuple[Image, ...]:
    """All readable images of the cache by name, those of older recipes too."""
    return tuple(sorted(_readable_images(), key=lambda image: (image.name, image.built)))


def with_files(sha256s: Mapping[str, str]) -> Image | None:
    """The image in the cache whose files had these digests when it was built, of whatever recipe; None without one.

    Its content is not looked at: verify() does that.
    """
    return next((image for image in list_images() if dict(image.sha256s) == dict(sha256s)), None)


def is_current(image: Image, target: Target) -> bool:
    """Whether `image` is what build(target) would make."""
    return image.digest == recipe_digest(target)


def remove(name: str, *, deadline_seconds: float = 60.0, cancelled: threading.Event | None = None) -> tuple[Path, ...]:
    """Remove every image named `name`, of whatever recipe; gives the folders that went, waits for a build of it."""
    deadline = Deadline.after(deadline_seconds, f"removing image {name}", cancelled)
    folders = []
    with exclusive(_lock_name(name), deadline):
        for folder in images_folder().glob(f"{name}-*"):
            if re.fullmatch(r"[0-9a-f]{12}", folder.name.removeprefix(f"{name}-")):
                remove_tree(folder)
                folders.append(folder)
    return tuple(folders)


def build(
    target: Target,
    *,
    mirror: str | None = None,
    progress: Progress,
    detail: Progress = lambda line: None,
    deadline_seconds: float = 900.0,
    cancelled: threading.Event | None = None,
    rebuild: bool = False,
) -> Image:
    """The image of `target`: built now, unless it exists and `rebuild` is not asked for.

    `mirror` is the URL of a Debian archive; without it LAB_DEBIAN_MIRROR counts, then what the host's apt uses.
    `progress` is called with a line now and then, also while nothing happens, `detail` with every line that mmdebstrap
    prints. Two builds of one target wait for each
    other, and the second takes what the first made. Raises PrerequisiteError for what the host lacks and for a failed
    installation, LabError past the deadline, and Cancelled; none of them leaves anything half-made.
    """
    wish = BuildWish(progress, mirror, detail, deadline_seconds, cancelled, rebuild)
    product = Product(f"image {target.name}", final_folder(target), _lock_name(target.name), PROGRAMS, _BUILD_BYTES)

    def fill(folder: Path, source: str, report: BuildReporter, deadline: Deadline) -> None:
        _build_in(folder, target, source, find_sandbox(), report, deadline)

    return build_once(product, wish, lambda: load(target), fill)


@dataclass(frozen=True)
class BuildWish:
    """How something is to be built from packages; the fields are build()'s arguments."""

    progress: Progress
    mirror: str | None = None
    detail: Progress = lambda line: None
    deadline_seconds: float = 900.0
    cancelled: threading.Event | None = None
    rebuild: bool = False


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
    wish: BuildWish,
    find: Callable[[], T | None],
    fill: Callable[[Path, str, BuildReporter, Deadline], None],
) -> T:
    """What `find` finds, made by `fill` if it is missing or is to be made anew; errors are those of build().

    `fill` gets an empty folder, which becomes the product's when it returns, and the URL of a Debian archive.
    """
    deadline = Deadline.after(wish.deadline_seconds, f"building {product.what}", wish.cancelled)
    report = BuildReporter(product.what, wish.progress, wish.detail)
    with exclusive(product.lock, deadline, on_wait=report.wait):
        remove_stale(make_folder(product.folder.parent), product.lock)
        # whoever waited for a build has what a rebuild would give
        if (not wish.rebuild or report.waited) and (found := find()):
            return found
        require_programs(product.programs if os.geteuid() == 0 else (*product.programs, *_USER_PROGRAMS))
        require_space(product.folder.parent, product.build_bytes, f"building {product.what}")
        source = wish.mirror or find_mirror()
        with staging(product.folder, product.lock) as folder:
            fill(folder, source, report, deadline)
    report.stage("built")
    made = find()
    if made is None:
        raise LabError(f"{product.what} went away while it was built", hint="build it again")
    return made


def find_mirror() -> str:
    """The URL of a Debian archive: LAB_DEBIAN_MIRROR, or the one that the host's apt uses.

    Raises PrerequisiteError on a host that names none.
    """
    if chosen := os.environ.get(MIRROR_VARIABLE):
        return chosen
    hint = f"set {MIRROR_VARIABLE} to the URL of a Debian archive, or use --mirror"
    if shutil.which("apt-get") is None:
        raise PrerequisiteError("this host has no apt, so no Debian mirror is known", hint=hint)
    argv = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages")
    listing = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL)
    if mirror := choose_mirror(listing.stdout):
        return _resolve_mirror_list(mirror)
    raise PrerequisiteError("this host's apt knows no mirror of the Debian archive", hint=hint)


def choose_mirror(listing: str) -> str | None:
    """The Debian main archive among lines of "URI LABEL", None if there is none.

    The label is that of the Release file, absent before the first `apt update`; then the URI's last part decides.
    """
    rows = [(uri.rstrip("/"), label) for uri, _, label in (line.partition(" ") for line in listing.splitlines())]
    labelled = (uri for uri, label in rows if label == "Debian")
    by_path = (uri for uri, label in rows if not label and re.search(r"/debian(\.list)?$", uri))
    return next(itertools.chain(labelled, by_path), None)


def mmdebstrap_argv(target: Target, mirror: str, tree: Path, apt_options: Path) -> tuple[str, ...]:
    """The command that fills `tree` with the packages of `target`."""
    signed_by = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    options = ['--aptopt=Acquire::Languages "none"', f"--aptopt={apt_options}", "--dpkgopt=force-unsafe-io"]
    if not target.check_valid_until:
        options.append('--aptopt=Acquire::Check-Valid-Until "false"')
    if target.merge_usr:
        options.append(f"--hook-dir={_MERGED_USR_HOOKS}")
    return (
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        "--variant=essential",
        "--architectures=amd64",
        *options,
        f'--setup-hook=mkdir -p "$1{os.path.dirname(_INITRD_MAKER)}" && ln -s /bin/true "$1{_INITRD_MAKER}"',
        *(f"--dpkgopt=path-exclude={path}" for path in _EXCLUDED),
        f"--include={','.join((*target.packages, target.kernel_package))}",
        target.suite,
        str(tree),
        *(f"deb {signed_by}{mirror} {suite} main" for suite in (target.suite, *target.extra_suites)),
    )


def parse_packages(status: str) -> tuple[str, ...]:
    """dpkg's status file as sorted lines of "name version architecture", installed packages only."""
    packages = []
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"[A-Z][\w-]*: ", line))
        if fields.get("Status", "").endswith(" installed"):
            packages.append(f"{fields['Package']} {fields['Version']} {fields['Architecture']}")
    return tuple(sorted(packages))


def make_disk(disk: Path, tree: Path, label: str, deadline: Deadline, sandbox_prefix: Sequence[str] = ()) -> None:
    """Write the ext4 file system `disk` with the content of `tree`, as small as it goes. Raises PrerequisiteError."""
    usage = run_program((*sandbox_prefix, "du", "-s", f"--block-size={_BLOCK_BYTES}", str(tree)), deadline)
    counted = run_program((*sandbox_prefix, "du", "-s", "--inodes", str(tree)), deadline)
    inodes = int(counted[-1].split()[0]) + 64
    # inode tables, then block groups' own blocks and indirect extents; spare blocks stay holes in the file
    blocks = int(usage[-1].split()[0]) + inodes * _INODE_BYTES // _BLOCK_BYTES
    blocks += blocks // 50 + 2048
    run_program(
        (
            *(*sandbox_prefix, "mke2fs", "-q", "-F", "-t", "ext4", "-O", _EXT4_FEATURES, "-m", "0", "-L", label),
            *("-b", str(_BLOCK_BYTES), "-I", str(_INODE_BYTES), "-N", str(inodes)),
            *("-E", "lazy_itable_init=0,root_owner=0:0", "-d", str(tree), str(disk), str(blocks)),
        ),
        deadline,
    )


def require_programs(programs: Sequence[Program]) -> None:
    """Return if the host has them all. Raises PrerequisiteError that names the packages of those it lacks."""
    lacking = [program for program in programs if _which(program.name) is None]
    if lacking:
        packages = " ".join(dict.fromkeys(program.package for program in lacking))
        raise PrerequisiteError(
            f"this host lacks {', '.join(program.name for program in lacking)}",
            hint=f"apt install {packages}, or run scripts/setup",
        )


def run_program(
    argv: Sequence[str],
    deadline: Deadline,
    *,
    on_line: Callable[[str], None] = lambda line: None,
    on_idle: Callable[[], None] = lambda: None,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Run a program to its end; gives the lines it printed (both streams), each passed to `on_line` as it comes.

    It has a session of its own and dies with the lab, and with the deadline. Raises PrerequisiteError with its last
    lines when it fails.
    """
    lines: list[str] = []
    with _session(argv, environment or {}) as process:
        for line in _lines_of(process, deadline, on_idle):
            lines.append(line)
            on_line(line)
        try:
            status = process.wait(timeout=max(0.1, deadline.ends_at_seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            deadline.check()
            raise
    if status:
        tail = "; ".join(telling_lines(lines)) or "it printed nothing"
        raise PrerequisiteError(
            f"{deadline.what} failed (status {status}): {tail}",
            hint="lab doctor says whether this host lacks a program or space; then try again",
        )
    return lines


def telling_lines(lines: Sequence[str]) -> list[str]:
    """The few lines of a failed program that say why: apt's and mmdebstrap's errors, which come before the lines about
    cleaning up; of a program that marks none, the last ones.
    """
    errors = dict.fromkeys(line.strip()[:_LINE_CHARACTERS] for line in lines if line.startswith(_ERROR_MARKS))
    return list(errors)[:_TAIL_LINES] or [line[:_LINE_CHARACTERS] for line in lines[-_TAIL_LINES:] if line]


@contextlib.contextmanager
def _session(argv: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own, all of which is killed when the block ends."""
    # setpriv's parent-death signal is kept across execve; it comes when the thread that started the program ends, so
    # that thread must stay. In a session of its own, a terminal's Ctrl-C reaches the program only from here.
    process = subprocess.Popen(
        ("setpriv", "--pdeathsig", "KILL", "--", *argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=_environment(environment),
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


class BuildReporter:
    """Turns what happens into lines of progress, each with the seconds since the start."""

    def __init__(self, what: str, progress: Progress, detail: Progress) -> None:
        self.waited = False
        self._detail = detail
        self._what = what
        self._progress = progress
        self._started_seconds = self._spoken_seconds = time.monotonic()
        self._stage = ""

    def wait(self) -> None:
        """Another process builds the same."""
        self.waited = True
        self._progress(f"{self._what}: waiting for another build of it")

    def stage(self, text: str) -> None:
        """A new stage begins."""
        self._stage = text
        self._say(text)

    def line(self, line: str) -> None:
        """mmdebstrap printed `line`, which may begin a stage."""
        self._detail(f"{self._what}: {printable(line)}")
        text = next((text for mark, text in _STAGES if line.startswith("I: ") and mark in line), None)
        if text and text != self._stage:
            self.stage(text)

    def idle(self) -> None:
        """Time passes."""
        if time.monotonic() - self._spoken_seconds >= _HEARTBEAT_SECONDS:
            self._say(f"still {self._stage}")

    def _say(self, text: str) -> None:
        self._spoken_seconds = time.monotonic()
        self._progress(f"{self._what}: {text} ({self._spoken_seconds - self._started_seconds:.0f} s)")


def _build_in(
    folder: Path, target: Target, mirror: str, sandbox: Sandbox, report: BuildReporter, deadline: Deadline
) -> None:
    tree, temporary = folder / "tree", folder / "tmp"
    tree.mkdir()
    temporary.mkdir()
    report.stage(f"starting, from {mirror}")
    install_packages(target, mirror, tree, temporary, sandbox, report, deadline)
    report.stage("making the initial RAM disk")
    release = take_kernel(tree, folder)
    report.stage("making the root disk")
    tidy(tree)
    make_disk(folder / _FILES["root_disk"], tree, "lab-root", deadline, sandbox.prefix)
    for path in (tree, temporary):
        remove_tree(path)
    description = {
        "layout_version": LAYOUT_VERSION,
        "name": target.name,
        "suite": target.suite,
        "digest": recipe_digest(target),
        "kernel_release": release,
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256s": {name: sha256_of(folder / name) for name in _FILES.values()},
    }
    (folder / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
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
    """Fill `tree` with the target's packages. Raises PrerequisiteError that names the log."""
    apt_options = temporary / "apt.conf"
    apt_options.write_text(_host_apt_options())
    log_path = make_folder(cache_root() / "logs") / f"image-{target.name}.log"
    argv = (*sandbox.prefix, *mmdebstrap_argv(target, mirror, tree, apt_options))
    environment = {"TMPDIR": str(temporary), "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    with log_path.open("w") as log:

        def on_line(line: str) -> None:
            log.write(f"{line}\n")
            report.line(line)

        try:
            run_program(argv, deadline, on_line=on_line, on_idle=report.idle, environment=environment)
        except PrerequisiteError as error:
            hint = f"the whole log is in {log_path}; is {mirror} right, and within reach?"
            raise PrerequisiteError(str(error), hint=hint) from error


def take_kernel(tree: Path, folder: Path) -> str:
    """Copy kernel, configuration, busybox and package list out of `tree`, make the kernel part; gives the release."""
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
        shutil.copyfile(source, folder / _FILES[name])
    modules = _first_existing(tree / "usr/lib/modules" / release, tree / "lib/modules" / release)
    part = initrd.kernel_part(modules, busybox, config=config.read_text())
    (folder / _FILES["initrd"]).write_bytes(part)
    packages = parse_packages((tree / "var/lib/dpkg/status").read_text())
    (folder / _FILES["packages"]).write_text("".join(f"{line}\n" for line in packages))
    (folder / _FILES["programs"]).write_text("".join(f"{name}\n" for name in _programs_in(tree)))
    return release


def _programs_in(tree: Path) -> list[str]:
    """The names in the folders of the guest's PATH; alternatives are absolute links that lead nowhere from here."""
    folders = (tree / "usr" / name for name in ("sbin", "bin", "local/sbin", "local/bin"))
    paths = (path for folder in folders if folder.is_dir() for path in folder.iterdir())
    return sorted({path.name for path in paths if path.is_symlink() or os.access(path, os.X_OK)})


def tidy(tree: Path, keep: frozenset[str] = frozenset()) -> None:
    """Leave in `tree` what a guest needs, and the patterns to `keep`.

    All of it belongs to this user: root of the namespace is the user outside.
    """
    for pattern in (one for one in _REMOVED if one not in keep):
        for path in tree.glob(pattern):
            path.unlink()
    for name, content in _WRITTEN.items():
        (tree / name).write_text(content)
        (tree / name).chmod(0o644)


def find_sandbox() -> Sandbox:
    """The first sandbox that this host allows. Raises PrerequisiteError if it allows none."""
    complaint = ""
    for sandbox in _ROOT_SANDBOXES if os.geteuid() == 0 else _USER_SANDBOXES:
        done = subprocess.run((*sandbox.prefix, "true"), capture_output=True, text=True, check=False, timeout=20)
        if done.returncode == 0:
            return sandbox
        complaint = done.stderr.strip()
    raise PrerequisiteError(
        f"this host does not let an unprivileged user build images: {complaint}", hint=_SUB_IDS_HINT
    )


def _host_apt_options() -> str:
    """The host's settings of apt's downloads (proxies, certificates), which mmdebstrap does not look at."""
    argv = ("apt-config", "dump", "--format", '%F "%v";%n', "Acquire::http", "Acquire::https")
    dump = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL)
    return "".join(f"{line}\n" for line in dump.stdout.splitlines() if not line.endswith(' "";'))


def _resolve_mirror_list(mirror: str) -> str:
    """`mirror`, or the first URL of the file it names where it is one of apt's lists of mirrors ("mirror+file:")."""
    prefix, mark, path = mirror.partition("mirror+file:")
    if prefix or not mark:
        return mirror
    lines = Path("/" + path.lstrip("/")).read_text().splitlines()
    return next(line.split()[0].rstrip("/") for line in lines if re.match(r"\w+:", line))


def _lines_of(process: subprocess.Popen[bytes], deadline: Deadline, on_idle: Callable[[], None]) -> Iterator[str]:
    """What `process` prints, line by line, until it closes its output; raises what `deadline.check()` raises."""
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            deadline.check()
            on_idle()
            if not selector.select(_POLL_SECONDS):
                continue
            chunk = os.read(process.stdout.fileno(), 65536)
            *complete, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace").rstrip("\r") for line in complete)
            if not chunk:
                break
    if rest:
        yield rest.decode(errors="replace")


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    # a user's PATH on Debian lacks the sbin folders, where mke2fs and depmod are
    path = f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/local/sbin:/usr/sbin:/sbin"
    return {**os.environ, "PATH": path, **extra}


def _which(program: str) -> str | None:
    return shutil.which(program, path=_environment({})["PATH"])


def _readable_images() -> Iterator[Image]:
    for folder in images_folder().glob("[!.]*"):
        with contextlib.suppress(PrerequisiteError):
            yield read_image(folder)


def _first_existing(*paths: Path) -> Path:
    return next((path for path in paths if path.exists()), paths[-1])


def final_folder(target: Target) -> Path:
    """Where the image of `target` by today's recipe lies, or would; its name identifies the recipe."""
    return images_folder() / f"{target.name}-{recipe_digest(target)[:12]}"


def _lock_name(name: str) -> str:
    return f"image-{name}"


def _rebuild_hint(name: str) -> str:
    return f"lab image build --rebuild {name}"
