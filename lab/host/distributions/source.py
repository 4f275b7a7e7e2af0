"""What a user names as a distribution: an image by path, by URL with its digest, or a row of the table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import ScenarioError

MARK = "image:"
_URL = re.compile(r"https?://\S+", re.ASCII)
_DIGEST = re.compile(r"#(sha256|sha512)=([^#]*)$", re.ASCII)
HEX_DIGITS = {"sha256": 64, "sha512": 128}


@dataclass(frozen=True)
class Digest:
    """A digest that a file is to have: the algorithm, and its value in hexadecimal."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}={self.value}"


@dataclass(frozen=True)
class ImageSource:
    """An image: `place` is a path, or a URL; `digest` is what it must have, None where the user gave none."""

    place: str
    digest: Digest | None

    @property
    def is_url(self) -> bool:
        """Whether it has to be fetched."""
        return bool(_URL.fullmatch(self.place))

    @property
    def path(self) -> Path:
        """Where it lies, if it need not be fetched."""
        return Path(self.place).expanduser()


def parse_source(text: str) -> ImageSource:
    """What stands behind `image:`. Raises ScenarioError; whether there is such a file is not looked at."""
    found = _DIGEST.search(text)
    place = text[: found.start()] if found else text
    if not place:
        raise ScenarioError(f"target {MARK}{text}: names no image", hint=f"{MARK}PATH, or {MARK}URL#sha256=HEX")
    digest = parse_digest(found[1], found[2], f"target {MARK}{text}") if found else None
    source = ImageSource(place, digest)
    if source.is_url and digest is None:
        raise ScenarioError(
            f"target {MARK}{text}: its digest is not given, so nobody could tell whether it is the right file",
            hint=f"{MARK}{place}#sha256=HEX, with the digest that its publisher names; lab image pin does it for a row",
        )
    return source


def parse_digest(algorithm: str, value: str, what: str) -> Digest:
    """Raises ScenarioError for what is no digest of that algorithm."""
    digits = HEX_DIGITS[algorithm]
    if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", value):
        raise ScenarioError(
            f"{what}: {value[:140]!r} is no {algorithm}", hint=f"it has {digits} digits, 0 to 9 and a to f"
        )
    return Digest(algorithm, value.lower())
