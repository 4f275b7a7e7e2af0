"""`lab image pin`: today's digest of a distribution's image, taken from its publisher and written down."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from lab.core.distribution.checksums import algorithm, digest_of
from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host.cache import Deadline, make_folder, sha256_of
from lab.host.distributions.source import Digest
from lab.host.distributions.table import Row, pins, rows
from lab.host.download import download

_MOST_BYTES = 4 * 2**20
_SECONDS = 120.0


def pin(name: str, file: Path | None) -> tuple[str, Digest]:
    """Write down the digest that the publisher names for a row's image today, or that of `file`, a copy of it that is
    here: the place of what is used from now on, and its digest. Raises ScenarioError and PrerequisiteError.
    """
    row = rows().get(name)
    if row is None:
        raise ScenarioError(f"there is no distribution {name!r}", hint=f"known: {', '.join(rows())}")
    place, digest = _of_file(file) if file is not None else _published(row)
    written = json.loads(pins().read_text()) if pins().exists() else {}
    written[name] = {
        "row": row.named,
        "place": place,
        "algorithm": digest.algorithm,
        "digest": digest.value,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write(pins(), json.dumps(written, indent=2, sort_keys=True) + "\n")
    return place, digest


def _of_file(file: Path) -> tuple[str, Digest]:
    try:
        return str(file.resolve(strict=True)), Digest("sha256", sha256_of(file))
    except OSError as error:
        raise ScenarioError(f"{file}: {error.strerror}", hint="name the image that you have fetched") from error


def _published(row: Row) -> tuple[str, Digest]:
    if row.checksums is None:
        raise ScenarioError(
            f"{row.name}: no file of checksums is known for it", hint=f"lab image pin {row.name} --file IMAGE"
        )
    deadline = Deadline.after(_SECONDS, f"fetching {row.checksums}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checksums"
        hint = f"fetch the image by hand, then lab image pin {row.name} --file IMAGE"
        download(row.checksums, file, _MOST_BYTES, deadline, hint)
        text = file.read_text(errors="replace")
    base, _, pattern = row.named.rpartition("/")
    found = digest_of(text, pattern)
    if found is None:
        raise PrerequisiteError(
            f"{row.checksums}: names no file like {pattern}",
            hint="has the publisher changed its names? a row of your own can have others: docs/distributions.md",
        )
    name, value = found
    return f"{base}/{name}", Digest(algorithm(value), value)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    make_folder(path.parent)
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text)
    os.replace(aside, path)
