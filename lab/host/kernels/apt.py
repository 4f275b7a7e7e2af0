"""Kernels of a suite by apt itself, in a root of its own: its own sources and keys, nothing of the host but proxies.

apt checks the Release file's signature with the suite's keys, and every list and package by the digests in it.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host.cache import Deadline, Progress, cache_root, make_folder
from lab.host.images.mirror import host_apt_options
from lab.host.kernels.suites import Suite, by_hand
from lab.host.programs import Program, require_programs, run_program

PROGRAMS = (
    Program("apt-get", "apt"),
    Program("apt-cache", "apt"),
    Program("env", "coreutils"),
    Program("setpriv", "util-linux"),
)

# what a kernel is made of: metapackages lead to the rest by their dependencies
_PART = re.compile(r"linux-(?:signed-)?(?:image|binary|modules)(?:-[a-z0-9.+~-]+)?", re.ASCII)
# no kernels, or not one that is for booting
_OTHER = re.compile(r"-(?:dbg|dbgsym|unsigned|template)(?:$|-)")
_MAX_PACKAGES = 12
_MAX_DEPTH = 4
# lists younger than this are not looked for again: a bisection asks for kernel after kernel
FRESH_SECONDS = 600.0
_STAMP = "updated"

# what apt says -> what it means; the first that fits
_TROUBLES = (
    (r"NO_PUBKEY|EXPKEYSIG|BADSIG|REVKEYSIG|signatures? (?:were|was|is) (?:invalid|not)|is not signed",
     "the signature of {suite} does not verify with {keys}"),
    (r"is not valid (?:yet|anymore)|expired", "the lists of {suite} on this mirror are out of date"),
    (r"Could not resolve|Temporary failure|Could not connect|Connection|Network is unreachable|timed out",
     "the mirror of {suite} cannot be reached"),
    (r"does not have a Release file|404|403|File not found|no longer has", "this mirror does not have {suite}"),
)  # fmt: skip


@dataclass(frozen=True)
class AptPackage:
    """A package as the suite's lists describe it. `depends` are the names in its dependencies, in order; `lacks` those
    that a kernel is made of and the suite no longer has, where that was looked up.
    """

    name: str
    version: str
    size_bytes: int
    sha256: str
    depends: tuple[str, ...]
    lacks: tuple[str, ...] = ()


class AptSuite:
    """A suite whose lists are here. Made by `open_suite`."""

    def __init__(self, suite: Suite, root: Path) -> None:
        self.suite = suite
        self._root = root

    def packages(self, names: Iterable[str], deadline: Deadline) -> Mapping[str, AptPackage]:
        """Those of the named packages that the suite has, by name, each in its newest version."""
        unique = list(dict.fromkeys(names))
        if not unique:
            return {}
        options = ("-o", "APT::Cache::AllVersions=false", "--quiet=2")
        try:
            lines = self._run(("apt-cache", *options, "show", *unique), deadline)
        except PrerequisiteError as error:
            if "No packages found" not in str(error):
                raise
            return {}
        return {package.name: package for package in parse_packages("\n".join(lines))}

    def kernels(self, deadline: Deadline) -> list[AptPackage]:
        """The packages of kernels that can be named, metapackages first, by name."""
        names = self._run(("apt-cache", "pkgnames", "linux-image-"), deadline)
        found = self.packages(sorted(name for name in names if not _OTHER.search(name)), deadline)
        # an older kernel may have lost its modules, which are in a package of their own
        modules = {name: name.replace("linux-image-", "linux-modules-", 1) for name in found}
        needed = {modules[name] for name, package in found.items() if modules[name] in package.depends}
        gone = needed - self.packages(sorted(needed), deadline).keys()
        marked = (replace(one, lacks=tuple(sorted(gone & {modules[one.name]}))) for one in found.values())
        return sorted(marked, key=lambda package: (any(map(str.isdigit, package.name[:14])), package.name))

    def kernel(self, name: str | None, deadline: Deadline) -> list[AptPackage]:
        """The packages that make the kernel `name`, metapackages left out. Raises ScenarioError."""
        first = name or self.suite.kernel
        found: dict[str, AptPackage] = {}
        names = [first]
        for _ in range(_MAX_DEPTH):
            level = self.packages([name for name in names if name not in found], deadline)
            found |= level
            names = [needed for package in level.values() for needed in package.depends if _PART.fullmatch(needed)]
            names = [needed for needed in names if needed not in found]
        if first not in found:
            raise ScenarioError(
                f"{self.suite.name} has no package {first}",
                hint=f"lab kernel list {self.suite.name} shows its kernels; or {by_hand(self.suite)}",
            )
        # metapackages hold nothing but dependencies
        return [package for package in found.values() if package.size_bytes > 20_000][:_MAX_PACKAGES]

    def download(self, package: AptPackage, folder: Path, deadline: Deadline) -> Path:
        """Fetch a package into the empty `folder`; apt compares its digest. Raises PrerequisiteError."""
        argv = ("env", f"--chdir={folder}", "apt-get", "download", f"{package.name}={package.version}")
        self._run(argv, deadline)
        found = list(folder.glob("*.deb"))
        if len(found) != 1:
            raise PrerequisiteError(
                f"apt fetched no package {package.name} of {self.suite.name}", hint=by_hand(self.suite)
            )
        return found[0]

    def update(self, deadline: Deadline) -> None:
        """Fetch the lists that are newer than ours, unless that was done just now. Raises PrerequisiteError."""
        stamp = self._root / _STAMP
        if stamp.exists() and self.has_lists() and time.time() - stamp.stat().st_mtime < FRESH_SECONDS:
            return
        self._run(("apt-get", "update", "-o", "APT::Update::Error-Mode=any"), deadline)
        stamp.touch()

    def has_lists(self) -> bool:
        """Whether lists are here, of now or of an earlier time."""
        return any((self._root / "lists").glob("*_Packages*"))

    def _run(self, argv: tuple[str, ...], deadline: Deadline) -> list[str]:
        environment = {"APT_CONFIG": str(self._root / "apt.conf"), "LC_ALL": "C.UTF-8"}
        try:
            return run_program(argv, deadline, environment=environment)
        except PrerequisiteError as error:
            raise self._explained(error) from error

    def _explained(self, error: PrerequisiteError) -> PrerequisiteError:
        said = str(error)
        for pattern, meaning in _TROUBLES:
            if re.search(pattern, said):
                keys = " and ".join(path.name for path in self.suite.keys.existing())
                what = meaning.format(suite=self.suite.name, keys=keys)
                return PrerequisiteError(f"apt:{self.suite.name}: {what}: {said}", hint=by_hand(self.suite))
        return PrerequisiteError(f"apt:{self.suite.name}: {said}", hint=by_hand(self.suite))


def open_suite(suite: Suite, progress: Progress, deadline: Deadline) -> AptSuite:
    """The suite, its lists fetched; where they cannot be, but earlier ones are here, those, and it is said.

    To be called with the lock of the caller's kind held. Raises PrerequisiteError.
    """
    require_programs(PROGRAMS)
    sources = suite.sources()
    # another mirror or another key is another root: what was fetched from one is never taken for the other's
    digest = hashlib.sha256("\0".join([sources, *_key_digests(suite)]).encode()).hexdigest()
    root = make_folder(cache_root() / "apt" / f"{suite.name}-{digest[:12]}")
    _write_root(root, sources)
    apt = AptSuite(suite, root)
    try:
        apt.update(deadline)
    except PrerequisiteError as error:
        if not apt.has_lists() or "signature" in str(error):
            raise
        progress(f"apt:{suite.name}: its lists cannot be fetched now; those of an earlier time are used")
    return apt


def parse_packages(text: str) -> Iterator[AptPackage]:
    """The packages that `apt-cache show` prints (deb822); a paragraph without what is needed is left out."""
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"[A-Z][\w-]*: ", line))
        if {"Package", "Version", "Size", "SHA256"} <= fields.keys() and fields["Size"].isdigit():
            depends = f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}"
            yield AptPackage(
                fields["Package"], fields["Version"], int(fields["Size"]), fields["SHA256"], _names_in(depends)
            )


def _names_in(depends: str) -> tuple[str, ...]:
    names = (re.match(r"\s*([a-z0-9][a-z0-9.+-]*)", part) for part in re.split(r"[,|]", depends))
    return tuple(dict.fromkeys(name[1] for name in names if name))


def _key_digests(suite: Suite) -> Iterator[str]:
    for path in suite.keys.existing():
        yield hashlib.sha256(path.read_bytes()).hexdigest()


def _write_root(root: Path, sources: str) -> None:
    for name in ("lists/partial", "archives/partial", "empty"):
        make_folder(root / name)
    (root / "sources.list").write_text(sources)
    (root / "status").touch()
    settings = {
        "Dir::State": root,
        "Dir::State::lists": root / "lists",
        "Dir::State::status": root / "status",
        "Dir::Cache": root,
        "Dir::Cache::archives": root / "archives",
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": root / "empty",
        "Dir::Etc::trusted": "/dev/null",
        "Dir::Etc::trustedparts": root / "empty",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": root / "empty",
        # read after this file: the host's own settings, among them commands to run after an update
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": root / "empty",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::GzipIndexes": "true",
        "Acquire::Retries": "2",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowDowngradeToInsecureRepositories": "false",
    }
    text = "".join(f'{name} "{value}";\n' for name, value in settings.items())
    (root / "apt.conf").write_text(text + host_apt_options())
