"""The archives of packages that this host's apt uses, by the label of their Release files, and how it reaches them."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import PrerequisiteError

MIRROR_VARIABLE = "LAB_DEBIAN_MIRROR"
_APT_SECONDS = 120.0  # it takes one, but for a host with more to do than it can


@dataclass(frozen=True)
class Archive:
    """A collection of packages that has mirrors. `label` is that of its Release files, `path` the end of its URLs."""

    name: str
    label: str
    path: str
    variable: str  # of the environment: the URL of a mirror


DEBIAN = Archive("the Debian archive", "Debian", "debian", MIRROR_VARIABLE)


def find_mirror(archive: Archive = DEBIAN) -> str:
    """The URL of a mirror of an archive: the one in its variable, or the one that the host's apt uses.

    Raises PrerequisiteError on a host that names none.
    """
    if chosen := os.environ.get(archive.variable):
        return chosen
    hint = f"set {archive.variable} to the URL of a mirror of {archive.name}"
    hint += ", or use --mirror" if archive == DEBIAN else ""
    if shutil.which("apt-get") is None:
        raise PrerequisiteError(f"this host has no apt, so no mirror of {archive.name} is known", hint=hint)
    argv = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages")
    if mirror := choose_mirror(_said(argv), archive):
        return _resolve_mirror_list(mirror)
    raise PrerequisiteError(f"this host's apt knows no mirror of {archive.name}", hint=hint)


def choose_mirror(listing: str, archive: Archive = DEBIAN) -> str | None:
    """The mirror of an archive among lines of "URI LABEL", None if there is none.

    The label is that of the Release file, absent before the first `apt update`; then the URI's last part decides.
    """
    rows = [(uri.rstrip("/"), label) for uri, _, label in (line.partition(" ") for line in listing.splitlines())]
    labelled = (uri for uri, label in rows if label == archive.label)
    ending = re.compile(rf"/{re.escape(archive.path)}(\.list)?$")
    by_path = (uri for uri, label in rows if not label and ending.search(uri))
    return next(itertools.chain(labelled, by_path), None)


def host_apt_options() -> str:
    """The host's settings of apt's downloads (proxies, certificates), for an apt that reads no other of its files."""
    argv = ("apt-config", "dump", "--format", '%F "%v";%n', "Acquire::http", "Acquire::https")
    return "".join(f"{line}\n" for line in _said(argv).splitlines() if not line.endswith(' "";'))


def _said(argv: Sequence[str]) -> str:
    """What a program of apt's prints. Raises PrerequisiteError where it does not end."""
    try:
        ended = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=_APT_SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise PrerequisiteError(
            f"{argv[0]} {argv[1]} did not end within {_APT_SECONDS:g} s", hint="this host is busy: try again"
        ) from error
    return ended.stdout


def _resolve_mirror_list(mirror: str) -> str:
    """`mirror`, or the first URL of the file it names where it is one of apt's lists of mirrors ("mirror+file:")."""
    prefix, mark, path = mirror.partition("mirror+file:")
    if prefix or not mark:
        return mirror
    lines = Path("/" + path.lstrip("/")).read_text().splitlines()
    return next(line.split()[0].rstrip("/") for line in lines if re.match(r"\w+:", line))
