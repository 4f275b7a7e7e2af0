"""`lab verify`: whether a stored run is still what was recorded, file by file, and whether it agrees with itself.

Nothing is written. Everything is told as soon as it is known, and no file is held in memory but the JSON documents.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.core.errors import LabError, ScenarioError
from lab.core.scenario import parse_scenario, scenario_digest
from lab.core.sums import SUMS
from lab.core.text import plural
from lab.host.images import boxes
from lab.host import images, kernels
from lab.host.results.plain_files import Damaged, is_folder, read_json, read_text, sha256_of
from lab.host.report import PAGE
from lab.host.run.runner import KEPT_MACHINE
from lab.host.scenario_files import find_scenarios, load_scenario, scenario_directories
from lab.host.results.store import LOCK, MANIFEST, RESULTS, check_version
from lab.host.results.sums import CELLS, RUN_FILES, files_below, listed

Json = Mapping[str, Any]

OK, DIFFERS, UNKNOWN, NOTE = "ok", "DIFFERS", "unknown", "note"
# what may come later into a run's folder, or change there
_LATER = frozenset({PAGE, "report.md", LOCK, SUMS})
# a kept machine is as large as a machine's memory: removing it to have the space back is no damage
_MAY_GO = frozenset({KEPT_MACHINE})
_OLDER = "the run is of a lab that recorded no digests yet, or was killed before it ended"


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at. `state` is ok, DIFFERS, unknown (nobody can tell), or note (told, and no fault)."""

    state: str
    where: str
    what: str
    files: int = 0  # how many files had the digest that was recorded


def verify_run(run: Path) -> Iterator[Checked]:
    """Everything that can be checked of a run's folder, in the order of the checks.

    Raises ScenarioError for what is no run, or is of a newer lab. Damaged files are told, not raised.
    """
    cells = run / CELLS
    if not run.is_dir():
        raise ScenarioError(f"{run}: there is no such run", hint="for example lab verify results/latest")
    if not (any((run / name).is_file() for name in RUN_FILES) or is_folder(cells)):
        raise ScenarioError(f"{run}: is no run's folder", hint="for example lab verify results/latest")
    _check_new_enough(run)
    folders = sorted(path for path in cells.iterdir() if is_folder(path)) if is_folder(cells) else []
    whole = [path for path in folders if not path.name.startswith(".")]
    yield from _run_files(run, [path.name for path in whole])
    for folder in whole:
        yield from _cell_files(folder)
    for folder in set(folders) - set(whole):
        yield Checked(NOTE, f"{CELLS}/{folder.name}", "was not finished; the next lab run removes it")
    documents = _Documents.read(run)
    yield from _results(run, documents, {path.name for path in whole})
    yield from _scenarios(run, documents, whole)
    yield from _cache(documents.manifest or {})


def verdict(states: Mapping[str, int], files: int) -> str:
    """What came of it, in a line."""
    differing, unknown = states.get(DIFFERS, 0), states.get(UNKNOWN, 0)
    counts = {f"differ{'s' if differing == 1 else ''}": differing, "could not be verified": unknown}
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    word = {0: "verified", 1: "DIFFERS", 3: "not verified"}[exit_status(states)]
    return f"{word}: {plural(files, 'file')} {'is' if files == 1 else 'are'} as recorded{f'; {told}' if told else ''}"


def exit_status(states: Mapping[str, int]) -> int:
    """0 everything is as recorded, 1 something differs, 3 something could not be verified."""
    return 1 if states.get(DIFFERS) else 3 if states.get(UNKNOWN) else 0


# -- files ------------------------------------------------------------------------------------------------------------


def _check_new_enough(run: Path) -> None:
    """Raises ScenarioError for a run of a newer lab; what is damaged is told later."""
    try:
        check_version(run)
    except ScenarioError:
        if all(_json(run / name) is not None for name in RUN_FILES if (run / name).exists()):
            raise


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
            yield Checked(UNKNOWN, entry.name, f"is not in the run's {SUMS}")


def _cell_files(folder: Path) -> Iterator[Checked]:
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
        problem = _problem(folder / name, expected)
        if problem is None:
            good += 1
        elif name in _MAY_GO and not (folder / name).exists():
            yield Checked(NOTE, f"{prefix}{name}", "was removed")
        else:
            yield Checked(DIFFERS, f"{prefix}{name}", problem)
    yield Checked(OK, prefix.rstrip("/") or ".", f"{good} of {len(digests)} files are as recorded", good)


def _problem(path: Path, expected: str) -> str | None:
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


# -- does it agree with itself? ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Documents:
    """The run's own documents; None where they are missing or damaged, which the digests tell."""

    manifest: dict[str, Any] | None
    results: dict[str, Any] | None

    @classmethod
    def read(cls, run: Path) -> _Documents:
        return cls(_json(run / MANIFEST), _json(run / RESULTS))

    def cells(self) -> dict[str, Json]:
        """The cells of results.json by their folders' names."""
        found = (self.results or {}).get("cells")
        cells = [cell for cell in found if isinstance(cell, dict)] if isinstance(found, list) else []
        return {str(cell.get("cell")): cell for cell in cells}

    def told(self, name: str) -> Json:
        """A table of the manifest, empty where it has none."""
        value = (self.manifest or {}).get(name)
        return value if isinstance(value, dict) else {}


def _results(run: Path, documents: _Documents, folders: set[str]) -> Iterator[Checked]:
    """results.json is what the cells' result.json say, for every cell and no other."""
    if documents.results is None or documents.manifest is None:
        missing = MANIFEST if documents.manifest is None else RESULTS
        state = DIFFERS if (run / missing).exists() else UNKNOWN
        yield Checked(state, missing, "is damaged: no JSON object" if state == DIFFERS else "is not there")
        return
    ended = documents.manifest.get("ended_at") is not None
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


def _result_problem(folder: Path, result: Json | None, is_there: bool) -> str | None:
    if not is_there and folder.parent.name != CELLS:
        return f"is in {RESULTS}, and is no name of a folder"
    if not is_there:
        return f"is in {RESULTS}, and its folder is gone"
    own = _json(folder / "result.json")
    if own is None:
        return "result.json is missing or damaged"
    if result is None:
        return f"is not in {RESULTS}; lab judge writes that anew"
    return None if own == result else f"result.json is not what {RESULTS} says; lab judge writes both anew"


def _scenarios(run: Path, documents: _Documents, folders: list[Path]) -> Iterator[Checked]:
    """Each digest of a scenario is what a text gives that is kept: the cell's copy, the manifest's, or today's file."""
    digests = {str(name): digest for name, digest in documents.told("scenarios").items()}
    texts: dict[tuple[str, str], str | None] = {}
    cells = documents.cells()
    for folder in folders:
        result = _json(folder / "result.json") or cells.get(folder.name, {})
        name = str(result.get("scenario"))
        for document in (result, _json(folder / "plan.json") or {}):
            if document.get("scenario_digest") != digests.get(name, document.get("scenario_digest")):
                yield Checked(DIFFERS, f"{CELLS}/{folder.name}", f"its scenario_digest is not the manifest's of {name}")
        path = folder / "scenario.toml"
        try:
            text = read_text(path)
        except (OSError, Damaged):
            yield Checked(UNKNOWN, f"{CELLS}/{folder.name}", "keeps no scenario that can be read")
            continue
        if (name, text) not in texts:
            texts[name, text] = _digest(text, name)
        yield from _text_checked(f"{CELLS}/{folder.name}/{path.name}", texts[name, text], result.get("scenario_digest"))
    kept = documents.told("scenario_files")
    for name, digest in digests.items():
        if name in kept:
            file = kept[name] if isinstance(kept[name], dict) else {}
            actual = _digest(str(file.get("text", "")), name)
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


# -- what it was made of ----------------------------------------------------------------------------------------------


def _cache(manifest: Json) -> Iterator[Checked]:
    """The images, kernels and boxes that the manifest names, as far as the cache still has them."""
    targets = manifest.get("targets")
    seen: set[str] = set()
    for name, target in (targets if isinstance(targets, dict) else {}).items():
        if not isinstance(target, dict):
            continue
        layers = target.get("layers")
        made_of = [target, *(layers if isinstance(layers, list) else ())]
        for key, check in _CACHED.items():
            for part in filter(lambda part: isinstance(part, dict), made_of):
                told = json.dumps([key, part.get(key), part.get("image_sha256s") if key == "image" else None])
                if isinstance(part.get(key), str) and told not in seen:
                    seen.add(told)
                    yield from check(str(name), part)


def _cached_image(name: str, target: Json) -> Iterator[Checked]:
    recorded = target.get("image_sha256s")
    image = images.with_files(recorded) if isinstance(recorded, dict) else None
    if image is None:
        yield Checked(NOTE, f"image {target['image']}", "the one that was used is not in the cache")
    else:
        yield from _cached_files(f"image {image.name}", image.directory, image.sha256s)


def _cached_kernel(name: str, target: Json) -> Iterator[Checked]:
    bundle = next(kernels.bundles_of(str(target["kernel_digest"])), None)
    if bundle is None:
        yield Checked(NOTE, f"kernel {target.get('kernel_path')}", "is not in the cache")
    else:
        yield from _cached_files(f"kernel {bundle.release}", bundle.directory, bundle.sha256s)


def _cached_box(name: str, target: Json) -> Iterator[Checked]:
    try:
        box = next((one for one in boxes.list_boxes() if one.sha256 == target["box_sha256"]), None)
    except LabError:
        box = None
    if box is None:
        yield Checked(NOTE, f"box {target.get('box')}", "is not in the cache")
    else:
        yield from _cached_files(f"box {box.name}", box.directory, {box.file.name: box.sha256})


_CACHED = {"image": _cached_image, "kernel_digest": _cached_kernel, "box_sha256": _cached_box}


def _cached_files(what: str, folder: Path, sha256s: Mapping[str, str]) -> Iterator[Checked]:
    good = 0
    for name, expected in sha256s.items():
        problem = _problem(folder / name, expected)
        good += problem is None
        if problem is not None:
            yield Checked(DIFFERS, f"{what}: {folder / name}", problem)
    yield Checked(OK, what, f"{good} of {len(sha256s)} files are as they were used", good)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (OSError, Damaged):
        return None
