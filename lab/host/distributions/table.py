"""The table of distributions: the lab's rows, the user's own, and the digests that `lab image pin` wrote down."""

from __future__ import annotations

import difflib
import functools
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from lab.core.errors import ScenarioError
from lab.host.distributions.source import HEX_DIGITS, Digest, ImageSource, parse_digest
from lab.host.releases import TARGETS

_SHIPPED = "data/distributions.toml"


@dataclass(frozen=True)
class Row:
    """A distribution: its image's `place` (a path or URL), and the URL of the file in which the publisher names its
    digest. Its file name may have `*` for what changes with each build, which `pin` looks up there.
    """

    name: str
    place: str
    named: str  # the place as the row has it, before a pin
    summary: str = ""
    checksums: str | None = None
    signature: str | None = None  # how the file of checksums is signed, for people
    tested: str | None = None  # with what, and when; None: never
    digest: Digest | None = None

    def source(self) -> ImageSource:
        """Its image. Raises ScenarioError where the digest is not known yet."""
        source = ImageSource(self.place, self.digest)
        if self.digest is None and source.is_url:
            raise ScenarioError(
                f"{self.name}: today's digest of {self.place} is not known here",
                hint=f"lab image pin {self.name} takes it from its publisher",
            )
        return source


def config_folder() -> Path:
    """The user's folder of settings (XDG base directories)."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".config") / "conntrack-lab"


def own_rows() -> Path:
    """The file of the user's own rows."""
    return config_folder() / "distributions.toml"


def pins() -> Path:
    """The file of pinned digests, which only `lab image pin` writes."""
    return config_folder() / "pins.json"


def rows() -> Mapping[str, Row]:
    """All distributions by name, the user's in place of the lab's. Raises ScenarioError that names file and key."""
    shipped = resources.files("lab.host").joinpath(_SHIPPED).read_text(encoding="utf-8")
    return _rows(shipped, _text(own_rows()), _text(pins()), str(own_rows()))


@functools.lru_cache(maxsize=4)
def _rows(shipped: str, own: str, pinned: str, own_name: str) -> Mapping[str, Row]:
    found = {**parse_rows(shipped, _SHIPPED), **parse_rows(own, own_name)}
    for name, pin in _pins(pinned).items():
        row = found.get(name)
        # a digest of the user's own has the last word, and the pin of another place is none
        if row is not None and row.digest is None and row.named == pin["row"]:
            digest = parse_digest(pin["algorithm"], pin["digest"], f"{pins()}: {name}")
            found[name] = replace(row, place=pin["place"], digest=digest)
    return found


def parse_rows(text: str, file: str) -> Mapping[str, Row]:
    """The rows of a file. Raises ScenarioError that names the file, the row and the key."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{file}: is no TOML: {error}", hint="see docs/distributions.md for its form") from error
    return {name: _row(name, fields, file) for name, fields in tables.items()}


def _row(name: str, fields: Any, file: str) -> Row:
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise ScenarioError(f"{file}: {name}: is no table of texts", hint=f'["{name}"], then url = "..." and others')
    if name in TARGETS or "+" in name or ":" in name:
        raise ScenarioError(f"{file}: {name}: cannot be the name of a distribution", hint="it is one of a target")
    known = ("summary", "url", "path", "checksums", "signature", "tested", *HEX_DIGITS)
    for key in fields:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ScenarioError(f"{file}: {name}: unknown key {key!r}", hint=hint)
    place = fields.get("url") or fields.get("path")
    if not place:
        raise ScenarioError(f"{file}: {name}: has neither url nor path", hint='path = "/where/the/image.qcow2"')
    algorithm = next((one for one in HEX_DIGITS if one in fields), None)
    digest = parse_digest(algorithm, fields[algorithm], f"{file}: {name}") if algorithm else None
    texts = {key: fields[key] for key in ("summary", "checksums", "signature", "tested") if key in fields}
    return Row(name=name, place=place, named=place, digest=digest, **texts)


def _pins(text: str) -> Mapping[str, Mapping[str, str]]:
    try:
        said = json.loads(text or "{}")
        return {
            str(name): {key: str(pin[key]) for key in ("row", "place", "algorithm", "digest")}
            for name, pin in said.items()
            if pin["algorithm"] in HEX_DIGITS
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScenarioError(f"{pins()}: is damaged: {error!r:.80}", hint="remove it, and pin again") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}", hint="see docs/distributions.md") from error
