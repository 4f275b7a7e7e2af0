"""One thing that `lab verify` looked at, and the check of a file by its digest."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from lab.host.results.plain_files import Damaged, sha256_of

OK, DIFFERS, UNKNOWN, NOTE = "ok", "DIFFERS", "unknown", "note"


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at. `state` is ok, DIFFERS, unknown (nobody can tell), or note (no fault)."""

    state: str
    where: str
    what: str
    files: int = 0  # how many files had the digest that was recorded


def problem_of(path: Path, expected: str) -> str | None:
    """What is wrong with a file; None where it has the digest. What is no ordinary file is not opened."""
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode):
            return "is no ordinary file" if not stat.S_ISLNK(mode) else "is a link"
        actual = sha256_of(path)
    except FileNotFoundError:
        return "is gone"
    except (OSError, Damaged) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return None if actual == expected else f"its SHA-256 is {actual}, {expected} was recorded"
