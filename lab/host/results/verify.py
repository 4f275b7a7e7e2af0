"""`lab verify`: whether a stored run is still what was recorded, file by file, and whether it agrees with itself.

Nothing is written. Everything is reported as soon as it is known, and no file is held in memory but the JSON documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.core.errors import LabError, ScenarioError
from lab.core.manifest import Manifest
from lab.core.result import CellResult
from lab.core.scenario import parse_scenario, scenario_digest
from lab.core.sums import SUMS
from lab.core.text import plural
from lab.host.results.checked import DIFFERS, NOTE, OK, UNKNOWN, Checked, problem_of
from lab.host.results.layout import (
    CELLS,
    KEPT_MACHINE,
    LOCK,
    MANIFEST,
    MARKDOWN,
    PAGE,
    PLAN,
    RESULT,
    RESULTS,
    RUN_FILES,
    SCENARIO,
)
from lab.host.results.plain_files import Damaged, is_folder, read_json, read_text
from lab.host.results.records import Wrong, whole
from lab.host.results.stored_run import StoredRun
from lab.host.results.sums import files_below, listed
from lab.host.results.verify_cache import check_cache
from lab.host.scenario_files import find_scenarios, load_scenario, scenario_directories

# what may come later into a run's folder, or change there
_LATER = frozenset({PAGE, MARKDOWN, LOCK, SUMS})
# a kept machine is as large as a machine's memory: removing it to have the space back is no damage
_MAY_GO = frozenset({KEPT_MACHINE})
_OLDER = "the run is of a lab that recorded no digests yet, or was killed before it ended"


def verify_run(run: Path, cache: bool = True) -> Iterator[Checked]:
    """Everything that can be checked of a run's folder, in the order of the checks; with `cache` also what it was
    made of, as far as it is in the cache.

    Raises ScenarioError for what is no run, or is of a newer lab. Damaged files are reported, not raised.
    """
    cells = run / CELLS
    if not run.is_dir():
        raise ScenarioError(f"{run}: there is no such run", hint="for example lab verify results/latest")
    if not (any((run / name).is_file() for name in RUN_FILES) or is_folder(cells)):
        raise ScenarioError(f"{run}: is no run's folder", hint="for example lab verify results/latest")
    stored = StoredRun(run)
    _check_new_enough(stored)
    folders = sorted(path for path in cells.iterdir() if is_folder(path)) if is_folder(cells) else []
    whole = [path for path in folders if not path.name.startswith(".")]
    yield from _run_files(run, [path.name for path in whole])
    for folder in whole:
        yield from cell_files(folder)
    for folder in set(folders) - set(whole):
        yield Checked(NOTE, f"{CELLS}/{folder.name}", "was not finished; the next lab run removes it")
    documents = _Documents.read(stored)
    yield from _results(run, documents, {path.name for path in whole})
    yield from _scenarios(run, documents, whole)
    if cache:
        yield from check_cache(documents.manifest.targets.values())


def verdict(states: Mapping[str, int], files: int) -> str:
    """What came of it, in a line."""
    differing, unknown = states.get(DIFFERS, 0), states.get(UNKNOWN, 0)
    counts = {f"differ{'s' if differing == 1 else ''}": differing, "could not be verified": unknown}
    parts = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    word = {0: "verified", 1: "DIFFERS", 3: "not verified"}[exit_status(states)]
    return f"{word}: {plural(files, 'file')} {'is' if files == 1 else 'are'} as recorded{f'; {parts}' if parts else ''}"


def exit_status(states: Mapping[str, int]) -> int:
    """0 everything is as recorded, 1 something differs, 3 something could not be verified."""
    return 1 if states.get(DIFFERS) else 3 if states.get(UNKNOWN) else 0


# -- files ------------------------------------------------------------------------------------------------------------


def _check_new_enough(run: StoredRun) -> None:
    """Raises ScenarioError for a run of a newer lab; what is damaged is reported later."""
    try:
        run.check_version()
    except Damaged:
        return


def _run_files(run: Path, cells: list[str]) -> Iterator[Checked]:
    """The manifest, the results, and the cells' lists."""
    try:
        digests = listed(run)
    except ValueError as error:
        yield Checked(DIFFERS, SUMS, f"is damaged: {error}")
        return
    if digests is None:
        yield Checked(UNKNOWN, f"{MANIFEST}, {RESULTS}", f"there is no {SUMS}: {_OLDER}")
        return
    yield from _listed_files(run, "", digests)
    for name in cells:
        if f"{CELLS}/{name}/{SUMS}" not in digests:
            yield Checked(
                DIFFERS, f"{CELLS}/{name}", f"is not in the run's {SUMS}: it was not there when the run ended"
            )
    for entry in sorted(run.iterdir()):
        if entry.name not in digests and entry.name not in _LATER and entry.name != CELLS:
            # a list has those two always: it was cut, and with them who knows what went
            state = DIFFERS if entry.name in RUN_FILES else UNKNOWN
            yield Checked(state, entry.name, f"is not in the run's {SUMS}")


def cell_files(folder: Path) -> Iterator[Checked]:
    """All files of a cell. A cell is written at once, so a file that is not listed differs from what was recorded."""
    where = f"{CELLS}/{folder.name}"
    try:
        digests = listed(folder)
    except ValueError as error:
        yield Checked(DIFFERS, f"{where}/{SUMS}", f"is damaged: {error}")
        return
    if digests is None:
        yield Checked(UNKNOWN, where, f"there is no {SUMS}: {_OLDER}")
        return
    yield from _listed_files(folder, f"{where}/", digests)
    for name in files_below(folder):
        if name not in digests and name != SUMS:
            yield Checked(DIFFERS, f"{where}/{name}", f"is not in the cell's {SUMS}")


def _listed_files(folder: Path, prefix: str, digests: Mapping[str, str]) -> Iterator[Checked]:
    good = 0
    for name, expected in digests.items():
        problem = problem_of(folder / name, expected)
        if problem is None:
            good += 1
        elif name in _MAY_GO and not (folder / name).exists():
            yield Checked(NOTE, f"{prefix}{name}", "was removed")
        else:
            yield Checked(DIFFERS, f"{prefix}{name}", problem)
    yield Checked(OK, prefix.rstrip("/") or ".", f"{good} of {len(digests)} files are as recorded", good)


# -- does it agree with itself? ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Documents:
    """The run's own documents; None where they are missing or damaged, which the digests tell."""

    manifest: Manifest  # as far as it can be read
    has_manifest: bool
    results: dict[str, Any] | None

    @classmethod
    def read(cls, run: StoredRun) -> _Documents:
        is_there = _json(run.folder / MANIFEST) is not None
        return cls(run.manifest if is_there else Manifest(), is_there, _json(run.folder / RESULTS))

    def cells(self) -> dict[str, dict[str, Any]]:
        """The cells of results.json by their folders' names."""
        found = (self.results or {}).get("cells")
        cells = [cell for cell in found if isinstance(cell, dict)] if isinstance(found, list) else []
        return {str(cell.get("cell")): cell for cell in cells}


def _results(run: Path, documents: _Documents, folders: set[str]) -> Iterator[Checked]:
    """results.json is what the cells' result.json say, for every cell and no other."""
    if documents.results is None or not documents.has_manifest:
        missing = RESULTS if documents.has_manifest else MANIFEST
        state = DIFFERS if (run / missing).exists() else UNKNOWN
        yield Checked(state, missing, "is damaged: no JSON object" if state == DIFFERS else "is not there")
        return
    ended = documents.manifest.ended_at is not None
    if not ended:
        yield Checked(UNKNOWN, MANIFEST, "the run did not end, or is still going on")
    if not is_folder(run / CELLS):
        yield Checked(NOTE, CELLS, "the cells' folders are not kept here: the results stand without their evidence")
        return
    cells = documents.cells()
    for name in sorted(folders | set(cells)):
        problem = _result_problem(run / CELLS / name, cells.get(name), name in folders)
        if problem is not None:
            # a run that was killed had no time to write results.json once more
            yield Checked(DIFFERS if ended or name in cells else UNKNOWN, f"{CELLS}/{name}", problem)


def _result_problem(folder: Path, result: dict[str, Any] | None, is_there: bool) -> str | None:
    if not is_there and folder.parent.name != CELLS:
        return f"is in {RESULTS}, and is no name of a folder"
    if not is_there:
        return f"is in {RESULTS}, and its folder is gone"
    own = _json(folder / RESULT)
    if own is None:
        return f"{RESULT} is missing or damaged"
    if result is None:
        return f"is not in {RESULTS}; lab judge writes it again"
    same = own == result or _same_record(own, result)
    return None if same else f"{RESULT} is not what {RESULTS} says; lab judge writes both again"


def _same_record(own: dict[str, Any], result: dict[str, Any]) -> bool:
    """Whether they differ only in keys that one of them is too old to have: a resumed run writes RESULTS again."""
    if any(own[name] != result[name] for name in own.keys() & result.keys()):
        return False
    try:
        return whole(CellResult, own) == whole(CellResult, result)
    except Wrong:
        return False


def _scenarios(run: Path, documents: _Documents, folders: list[Path]) -> Iterator[Checked]:
    """Each digest of a scenario is what a text gives that is kept: the cell's copy, the manifest's, or today's file."""
    digests, kept = documents.manifest.scenarios, documents.manifest.scenario_files or {}
    texts: dict[tuple[str, str], str | None] = {}
    cells = documents.cells()
    for folder in folders:
        result = _json(folder / RESULT) or cells.get(folder.name, {})
        name = str(result.get("scenario"))
        for document in (result, _json(folder / PLAN) or {}):
            if document.get("scenario_digest") != digests.get(name, document.get("scenario_digest")):
                yield Checked(DIFFERS, f"{CELLS}/{folder.name}", f"its scenario_digest is not the manifest's of {name}")
        path = folder / SCENARIO
        try:
            text = read_text(path)
        except (OSError, Damaged):
            yield Checked(UNKNOWN, f"{CELLS}/{folder.name}", "keeps no scenario that can be read")
            continue
        if (name, text) not in texts:
            texts[name, text] = _digest(text, name)
        yield from _text_checked(f"{CELLS}/{folder.name}/{path.name}", texts[name, text], result.get("scenario_digest"))
    for name, digest in digests.items():
        if name in kept:
            actual = _digest(kept[name].text, name)
            yield from _text_checked(f"{MANIFEST}: scenario_files.{name}", actual, digest)
        elif not folders:
            yield from _todays(name, digest)


def _text_checked(where: str, actual: str | None, expected: object) -> Iterator[Checked]:
    if actual is None:
        yield Checked(UNKNOWN, where, "this lab cannot read it, so its digest cannot be made again")
    elif actual != expected:
        yield Checked(DIFFERS, where, f"means {actual}, and {expected} was run")


def _todays(name: str, digest: object) -> Iterator[Checked]:
    """For results whose scenarios' texts are not kept: today's file of that name will do, if it means the same."""
    try:
        (path,) = find_scenarios([name], scenario_directories())
        same = scenario_digest(load_scenario(path)) == digest
    except (LabError, ValueError):
        same = False
    if not same:
        what = "its text is not kept, and no scenario here of that name means what was run"
        yield Checked(UNKNOWN, f"{MANIFEST}: scenarios.{name}", what)


def _digest(text: str, name: str) -> str | None:
    try:
        return scenario_digest(parse_scenario(text, f"{name}.toml"))
    except (LabError, ValueError, RecursionError):
        return None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (OSError, Damaged):
        return None
