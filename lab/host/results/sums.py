"""The digests of a stored run's files: listed when a cell ends and when the run ends, in SHA256SUMS.

`sha256sum --check SHA256SUMS` checks a list without the lab. The run's own list names those of its cells, so that a
cell cannot be exchanged together with its list.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab.core.sums import SUMS, parse_sums, sums_text
from lab.host.results.layout import CELLS, DERIVED, RUN_FILES
from lab.host.results.plain_files import Damaged, read_text, sha256_of


def files_below(folder: Path) -> Iterator[str]:
    """The relative names of all that is no folder below `folder`, in order; links are not followed."""
    for path, folders, files in os.walk(folder):
        folders.sort()
        # a link to a folder is a file here: it is not gone into
        linked = [name for name in folders if os.path.islink(os.path.join(path, name))]
        for name in sorted((*files, *linked)):
            yield os.path.relpath(os.path.join(path, name), folder)


def listed(folder: Path) -> dict[str, str] | None:
    """The digests that a folder's list has; None where there is no list. Raises ValueError for a damaged one."""
    try:
        text = read_text(folder / SUMS)
    except FileNotFoundError:
        return None
    except Damaged as error:
        raise ValueError(error.what) from error
    return parse_sums(text)


def cell_sums(folder: Path) -> str:
    """The list of all files of a cell."""
    return _sums(folder, (name for name in files_below(folder) if name != SUMS))


def run_sums(run: Path, names: Iterable[str] = RUN_FILES) -> str:
    """The list of a run's own files, as far as they are there, and of its cells' lists."""
    lists = sorted(f"{CELLS}/{path.parent.name}/{SUMS}" for path in run.glob(f"{CELLS}/[!.]*/{SUMS}"))
    return _sums(run, (*(name for name in names if (run / name).is_file()), *lists))


def renewed_cell_sums(folder: Path) -> str | None:
    """A cell's list with new digests of what is derived from its evidence; None where it has no list to renew.

    All other digests stay as they are: that a cell was judged again says nothing about its evidence.
    """
    old = readable(folder)
    if old is None:
        return None
    derived = {name: sha256_of(folder / name) for name in DERIVED if (folder / name).is_file()}
    return sums_text({**old, **derived})


def renewed_run_sums(run: Path, names: Iterable[str]) -> str | None:
    """A run's list with new digests of these files; None where it has no list to renew."""
    old = readable(run)
    return None if old is None else sums_text({**old, **{name: sha256_of(run / name) for name in names}})


def readable(folder: Path) -> dict[str, str] | None:
    """As `listed`, and None for a damaged list too."""
    try:
        return listed(folder)
    except ValueError:
        return None


def _sums(folder: Path, names: Iterable[str]) -> str:
    return sums_text({name: sha256_of(folder / name) for name in names})
