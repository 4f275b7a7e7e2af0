"""What a user names as a kernel: the user's own files, packages of a repository, URLs with their digest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import ScenarioError

SEPARATOR = ","
_APT_MARK = "apt:"
_URL = re.compile(r"https?://\S+", re.ASCII)
_DIGEST_MARK = "#sha256="
# Debian's names of suites and packages (Debian Policy 5.6.1; a suite may have a pocket, "bookworm-security")
_SUITE = re.compile(r"[a-z][a-z0-9.-]{1,60}", re.ASCII)
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+~-]{1,120}", re.ASCII)


@dataclass(frozen=True)
class LocalPart:
    """The user's own file or folder."""

    path: Path


@dataclass(frozen=True)
class AptPart:
    """A package of a suite; `package` is None for the kernel that the suite's installations have."""

    suite: str
    package: str | None


@dataclass(frozen=True)
class UrlPart:
    """A file on the web with its SHA-256, by which it is known; `name` is the last part of its path."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """A plain name for a file, whatever the URL holds."""
        last = self.url.partition("?")[0].rstrip("/").rpartition("/")[2]
        return re.sub(r"[^\w.+~-]", "_", last)[-200:] or "kernel"


Part = LocalPart | AptPart | UrlPart


def parse_source(text: str) -> tuple[Part, ...]:
    """The parts that `text` names: `A.deb,B.deb`, `apt:bookworm/linux-image-rt-amd64`, `https://...#sha256=HEX`.

    A comma parts them. Nothing is looked up. Raises ScenarioError for a part that cannot mean anything.
    """
    parts = [part.strip() for part in text.split(SEPARATOR)]
    if not all(parts):
        raise ScenarioError(f"kernel {text!r}: an empty name between commas", hint="--kernel A.deb,B.deb")
    return tuple(_parse_part(part) for part in parts)


def join_sources(texts: Sequence[str]) -> str | None:
    """Several `--kernel`, which make one kernel, as the one text that names it; None for none."""
    return SEPARATOR.join(texts) or None


def is_fetched(part: str) -> bool:
    """Whether a part is one of a suite or the web, by its first characters alone."""
    return part.startswith((_APT_MARK, "http://", "https://"))


def local_path(text: str) -> Path | None:
    """The one file or folder that a kernel is, None where it is made of several, or has to be fetched."""
    parts = parse_source(text)
    return parts[0].path if len(parts) == 1 and isinstance(parts[0], LocalPart) else None


def _parse_part(text: str) -> Part:
    if text.startswith(_APT_MARK):
        suite, _, package = text.removeprefix(_APT_MARK).partition("/")
        if not _SUITE.fullmatch(suite) or (package and not _PACKAGE.fullmatch(package)):
            raise ScenarioError(
                f"kernel {text!r}: is no suite, or no package of one",
                hint="apt:bookworm, or apt:bookworm-security/linux-image-amd64; lab kernel list names suites",
            )
        return AptPart(suite, package or None)
    if _URL.fullmatch(text):
        url, mark, digest = text.partition(_DIGEST_MARK)
        if not mark or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise ScenarioError(
                f"kernel {text!r}: its SHA-256 is not given, so nobody could tell whether it is the right file",
                hint=f"{url.partition('#')[0]}#sha256=HEX, with the digest that its publisher names (64 digits)",
            )
        return UrlPart(url, digest.lower())
    return LocalPart(Path(text).expanduser())
