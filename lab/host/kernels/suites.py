"""The suites that `apt:SUITE` can name: in which archive each is, who signs it, and its usual kernel. A table."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host.images.mirror import DEBIAN, Archive, find_mirror

DEBIAN_SECURITY = Archive(
    "Debian's security archive", "Debian-Security", "debian-security", "LAB_DEBIAN_SECURITY_MIRROR"
)
# once a release has left the mirrors
DEBIAN_OLD = Archive("Debian's archive of old releases", "", "debian-archive/debian", "LAB_DEBIAN_OLD_MIRROR")
UBUNTU = Archive("the Ubuntu archive", "Ubuntu", "ubuntu", "LAB_UBUNTU_MIRROR")


@dataclass(frozen=True)
class Keyring:
    """The keys that a suite's Release file is checked with, and the package that brings them."""

    files: tuple[str, ...]
    package: str
    variable: str  # of the environment: another file of keys

    def existing(self) -> tuple[Path, ...]:
        """The files of keys on this host. Raises PrerequisiteError when there are none."""
        chosen = os.environ.get(self.variable)
        paths = tuple(path for path in map(Path, [chosen] if chosen else self.files) if path.is_file())
        if not paths:
            raise PrerequisiteError(
                f"no keys to check signatures with: {chosen or ', '.join(self.files)} is not there",
                hint=f"apt install {self.package}, or set {self.variable} to a file of keys",
            )
        return paths


_KEYS = "/usr/share/keyrings"
_DEBIAN_KEYS = Keyring((f"{_KEYS}/debian-archive-keyring.gpg",), "debian-archive-keyring", "LAB_DEBIAN_KEYRING")
_OLD_DEBIAN_KEYS = Keyring(
    (f"{_KEYS}/debian-archive-removed-keys.gpg", f"{_KEYS}/debian-archive-keyring.gpg"),
    "debian-archive-keyring",
    "LAB_DEBIAN_KEYRING",
)
_UBUNTU_KEYS = Keyring(
    (f"{_KEYS}/ubuntu-archive-keyring.gpg", f"{_KEYS}/ubuntu-archive-removed-keys.gpg"),
    "ubuntu-keyring",
    "LAB_UBUNTU_KEYRING",
)


@dataclass(frozen=True)
class Suite:
    """A suite of packages. `dist` is its folder in the mirror's dists/; `kernel` the package that `apt:SUITE` means."""

    name: str
    summary: str
    archive: Archive
    keys: Keyring
    kernel: str
    dist: str
    # False where the Release file may be past its Valid-Until: archived suites, and rolling ones of a stale mirror
    check_valid_until: bool = True

    def sources(self) -> str:
        """apt's line for it. Raises PrerequisiteError where no mirror or no keys are known."""
        signed_by = ",".join(map(str, self.keys.existing()))
        options = f"arch=amd64 signed-by={signed_by}" + ("" if self.check_valid_until else " check-valid-until=no")
        return f"deb [{options}] {self.mirror()} {self.dist} main\n"

    def mirror(self) -> str:
        """The URL of a mirror that has it. Raises PrerequisiteError that names the variable to set."""
        try:
            return find_mirror(self.archive)
        except PrerequisiteError as error:
            raise PrerequisiteError(f"apt:{self.name}: {error}", hint=by_hand(self)) from error


# code name, number, kernel, whether the mirrors still have it
_DEBIAN_RELEASES = (
    ("squeeze", "6", "2.6.32", False),
    ("wheezy", "7", "3.2", False),
    ("jessie", "8", "3.16", False),
    ("stretch", "9", "4.9", False),
    ("buster", "10", "4.19", False),
    ("bullseye", "11", "5.10", True),
    ("bookworm", "12", "6.1", True),
    ("trixie", "13", "6.12", True),
    ("forky", "14, in the making", "its newest", True),
)
_UBUNTU_RELEASES = (
    ("trusty", "14.04", "3.13"),
    ("xenial", "16.04", "4.4"),
    ("bionic", "18.04", "4.15"),
    ("focal", "20.04", "5.4"),
    ("jammy", "22.04", "5.15"),
    ("noble", "24.04", "6.8"),
    ("resolute", "26.04", "its own"),
)
_DEBIAN_KERNEL, _UBUNTU_KERNEL = "linux-image-amd64", "linux-image-virtual"


def _debian() -> Iterator[Suite]:
    for code, number, kernel, current in _DEBIAN_RELEASES:
        archive, keys = (DEBIAN, _DEBIAN_KEYS) if current else (DEBIAN_OLD, _OLD_DEBIAN_KEYS)
        rolling = code == "forky"
        about = f"Debian {number}"
        yield Suite(code, f"{about}, Linux {kernel}", archive, keys, _DEBIAN_KERNEL, code, current and not rolling)
        backports = f"{code}-backports"
        yield Suite(backports, f"{about}, backports", archive, keys, _DEBIAN_KERNEL, backports, current)
        if current:
            security = f"{code}-security"
            yield Suite(security, f"{about}, security", DEBIAN_SECURITY, keys, _DEBIAN_KERNEL, security, not rolling)
    for code, summary in (("sid", "Debian unstable"), ("experimental", "what Debian tries out")):
        yield Suite(code, f"{summary}, its newest Linux", DEBIAN, _DEBIAN_KEYS, _DEBIAN_KERNEL, code, False)


def _ubuntu() -> Iterator[Suite]:
    for code, number, kernel in _UBUNTU_RELEASES:
        for pocket in ("", "-updates", "-security"):
            name = code + pocket
            about = f"Ubuntu {number}{pocket.replace('-', ', ')}, Linux {kernel}"
            yield Suite(name, about, UBUNTU, _UBUNTU_KEYS, _UBUNTU_KERNEL, name)


SUITES: Mapping[str, Suite] = {suite.name: suite for suite in (*_debian(), *_ubuntu())}


def find_suite(name: str) -> Suite:
    """The suite of that name. Raises ScenarioError that names the nearest."""
    if suite := SUITES.get(name):
        return suite
    near = difflib.get_close_matches(name, SUITES, n=1)
    hint = f"did you mean apt:{near[0]}?" if near else "lab kernel list names the suites"
    raise ScenarioError(f"unknown suite {name!r}", hint=hint)


def by_hand(suite: Suite) -> str:
    """Where a person finds what apt could not get."""
    return (
        f"set {suite.archive.variable} to the URL of a mirror that has it, or get the package by hand from "
        f"{suite.archive.name} (Debian's snapshot service and Ubuntu's Launchpad keep every version), "
        "then --kernel FILE.deb"
    )
