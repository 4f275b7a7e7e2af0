"""The result folder: every file complete or absent, and a killed run leaves what it finished, readable.

A cell's folder is written under a hidden name and renamed when it is whole. `lab judge` reads the same files back, and
the runner itself judges only what it has read back, so both see the same evidence.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.core.evidence import Evidence, Sample, Snapshot, parse_samples
from lab.core.facts import Facts, parse_facts
from lab.core.plan import CellPlan
from lab.core.result import RESULT_VERSION, results_document
from lab.core.sums import SUMS
from lab.guest.observe import ITEM_NAMES
from lab.host.results import sums
from lab.host.results.plain_files import Damaged, check_plain, is_folder, read_json, read_text, sha256_of, write_aside
from lab.host.run.recording import Recording

MANIFEST, RESULTS = "manifest.json", "results.json"
LOCK = ".lock"

_PARTIAL = ".partial-"
_ERRORS = "errors.json"
_SNAPSHOTS = ("before", "after")
_MOST_SECONDS = 10**6  # beyond it, what a stored run says of a cell's time is no time
# what is read of every cell's plan; all versions of it have these
_PLAN_KEYS: Mapping[str, type] = {
    **dict.fromkeys(("cell", "scenario", "scenario_digest", "variant", "target"), str),
    **dict.fromkeys(("axes", "machine", "load"), dict),
    "repeat": int,
}
# what write_recording writes
_RECORDED = ("plan.json", "scenario.toml", "console.log", "kmsg.log", "vagrant.log", "host-changes.txt", "evidence")


@dataclass(frozen=True)
class RunFolder:
    """A run's folder in results/, made by `create`."""

    path: Path

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write `name` whole, or leave what was there. The manifest of a run that has ended is the last of its files:
        then the run's digests are listed, too.
        """
        write_aside(self.path / name, json_text(content))
        if name == MANIFEST and content.get("ended_at") is not None:
            write_aside(self.path / SUMS, sums.run_sums(self.path))

    def write_results(self, cells: list[dict[str, Any]]) -> None:
        """Write results.json for the cells that ended."""
        self.write_json(RESULTS, results_document(cells))

    @contextlib.contextmanager
    def cell(self, name: str) -> Iterator[Path]:
        """A hidden folder that becomes cells/`name` when the block ends well, and is removed when it does not.

        Its last file is the list of the digests of all others.
        """
        parent = self.path / "cells"
        partial = parent / f"{_PARTIAL}{name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            write_aside(partial / SUMS, sums.cell_sums(partial))
            partial.rename(parent / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def unless_failed() -> Iterator[None]:
    """For what is written while something may have failed already: an error on its way tells more than the next."""
    try:
        yield
    except OSError as error:
        if error.__context__ is None:
            raise


@contextlib.contextmanager
def create_run(results: Path) -> Iterator[RunFolder]:
    """A new run's folder, which `latest` points to from now on; locked while the block runs.

    Half-written cells of runs that were killed are removed. Raises PrerequisiteError when nothing can be written.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = results / f"{stamp}-{secrets.token_hex(3)}"
    with contextlib.ExitStack() as stack:
        try:
            results.mkdir(parents=True, exist_ok=True)
            remove_leftovers(results)
            (path / "cells").mkdir(parents=True)
            stack.enter_context(_locked(path))
            _point_latest(results, path.name)
        except OSError as error:
            raise PrerequisiteError(
                f"cannot write in {results}: {error.strerror}", hint="choose another folder with --output"
            ) from error
        yield RunFolder(path)


def remove_leftovers(results: Path) -> None:
    """Remove the half-written cells of runs whose lab is gone."""
    for partial in results.glob(f"*/cells/{_PARTIAL}*"):
        if not is_folder(partial.parent):
            continue
        with contextlib.suppress(BlockingIOError, OSError), _locked(partial.parent.parent):
            shutil.rmtree(partial, ignore_errors=True)


def write_recording(folder: Path, recording: Recording, plan: CellPlan, scenario_text: str) -> None:
    """Write everything that a try recorded below `folder`."""
    write_json(folder / "plan.json", plan.to_json())
    _write_text(folder / "scenario.toml", scenario_text)
    _write_text(folder / "console.log", recording.console)
    if recording.kernel_log is not None:
        _write_text(folder / "kmsg.log", recording.kernel_log)
    for name, text in recording.logs.items():
        _write_text(folder / name, text)
    evidence = folder / "evidence"
    evidence.mkdir()
    write_json(evidence / "steps.json", {"reached": recording.reached, "steps": recording.steps})
    for name in ("machine", "topology", "settings", "load", "kernel_log_holes", "peer"):
        if (content := getattr(recording, name)) is not None:
            write_json(evidence / f"{name}.json", content)
    _write_text(evidence / "samples.jsonl", "".join(f"{line}\n" for line in recording.samples))
    for name in ("lost", "skipped"):
        if (why := getattr(recording, name)) is not None:
            write_json(evidence / f"{name}.json", {name: why})
    for name in _SNAPSHOTS:
        if (items := getattr(recording, name)) is not None:
            _write_snapshot(evidence / name, items)


def set_aside(folder: Path, number: int) -> None:
    """Move what a try recorded below `folder` to tries/`number`, so that another can be written."""
    aside = folder / "tries" / str(number)
    aside.mkdir(parents=True)
    for name in _RECORDED:
        if (folder / name).exists():
            (folder / name).rename(aside / name)


def read_evidence(folder: Path) -> Evidence:
    """The evidence in a cell's folder. Raises ValueError for files that are not what `write_recording` writes."""
    evidence = folder / "evidence"
    steps = _read_json(evidence / "steps.json") or {"reached": None, "steps": []}
    return Evidence(
        settings=_read_json(evidence / "settings.json"),
        steps=tuple(steps["steps"]),
        reached=steps["reached"],
        before=_read_snapshot(evidence / "before"),
        after=_read_snapshot(evidence / "after"),
        samples=read_samples(folder),
        load=_read_json(evidence / "load.json"),
        kernel_log=_read_text(folder / "kmsg.log"),
        kernel_log_holes=_read_json(evidence / "kernel_log_holes.json"),
        facts=read_facts(folder),
        lost=_read_why(evidence, "lost"),
        skipped=_read_why(evidence, "skipped"),
        peer=_read_json(evidence / "peer.json"),
    )


def read_samples(folder: Path) -> tuple[Sample, ...]:
    """The samples in a cell's folder, by time; none where no load was driven. Raises ValueError for damaged ones."""
    return parse_samples((_read_text(folder / "evidence" / "samples.jsonl") or "").splitlines())


def read_facts(folder: Path) -> Facts:
    """What is known of a cell's machine. Raises ValueError for what no agent can have said."""
    target = (_read_json(folder / "plan.json") or {}).get("target", "")
    return parse_facts(target, _read_json(folder / "evidence" / "machine.json"))


def _read_why(evidence: Path, name: str) -> str | None:
    content = _read_json(evidence / f"{name}.json")
    return None if content is None else str(content[name])


def samples_csv(samples: tuple[Sample, ...]) -> str:
    """The samples as a table: times, connections, entries, and every counter column that this kernel has."""
    counters = list(dict.fromkeys(name for sample in samples for name in sample.counters or {} if name != "entries"))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    counts = ("attempted", "held", "failed", "lost", "accepted", "open", "newcomers_attempted", "newcomers_held")
    writer.writerow(["seconds", *counts, "entries", "max", *counters])
    for sample in samples:
        row = [sample.seconds, *(getattr(sample, name) for name in counts), sample.entries, sample.table_max]
        writer.writerow(["" if value is None else value for value in [*row, *map(sample.counter, counters)]])
    return buffer.getvalue()


@contextlib.contextmanager
def open_run(run: Path) -> Iterator[RunFolder]:
    """A run's folder, to be judged again; locked while the block runs. In the lists of digests, those of what was
    judged are made anew, and no others.

    Raises ScenarioError when it is no run's folder, when a newer lab or one that still runs has it, or when nothing
    can be written there.
    """
    check_run(run)
    if not cell_folders(run):
        raise ScenarioError(f"{run}: no cell of this run has ended", hint="for example results/latest")
    try:
        with _locked(run):
            yield RunFolder(run)
            _renew_sums(run)
    except BlockingIOError as error:
        raise ScenarioError(f"{run}: a lab is still writing it", hint="wait for it to end") from error
    except OSError as error:
        raise ScenarioError(f"{run}: cannot be written: {error}", hint="copy it to where you can write") from error


def cell_folders(run: Path) -> tuple[Path, ...]:
    """The complete cells of a run, by name. Raises ScenarioError when `run` is no run's folder."""
    cells = run / "cells"
    if not is_folder(cells):
        raise ScenarioError(f"{run}: is no run's folder (it has no cells/)", hint="for example results/latest")
    return tuple(sorted(path for path in cells.iterdir() if is_folder(path) and not path.name.startswith(".")))


def check_run(run: Path) -> None:
    """Return if there is a run that this lab can read. Raises ScenarioError for none, for one of a newer lab, and for
    one that holds a link, a FIFO or a device: it may have been sent by somebody.
    """
    if not run.is_dir():
        raise ScenarioError(f"{run}: there is no such run", hint="lab run makes them in results/")
    check_plain(run)
    check_version(run)


def check_version(run: Path) -> None:
    """Return if this lab can read the run; raises ScenarioError for one that a newer lab wrote."""
    for name in (RESULTS, MANIFEST):
        content = _read_json(run / name) or {}
        version = content.get("schema_version", RESULT_VERSION)
        if not isinstance(version, int) or version > RESULT_VERSION:
            raise ScenarioError(
                f"{run / name}: schema_version is {version!r}, this lab reads up to {RESULT_VERSION}",
                hint="use the lab that wrote it, or a newer one",
            )


def mitigation_wanted(run: Path) -> bool:
    """Whether the run was asked to mitigate, by its manifest; False when that does not tell."""
    overrides = (read_manifest(run) or {}).get("overrides")
    return isinstance(overrides, dict) and overrides.get("mitigate") is True


def stored_order(run: Path) -> list[str]:
    """The cells' names in the order of results.json; empty when that does not tell."""
    cells = (_read_json(run / RESULTS) or {}).get("cells", [])
    try:
        return [str(cell["cell"]) for cell in cells]
    except (TypeError, KeyError):
        return []


def read_manifest(run: Path) -> dict[str, Any] | None:
    """A run's manifest; None when it has none. Raises ScenarioError for a damaged one."""
    return _read_json(run / MANIFEST)


def stored_seconds(run: Path, cells: Collection[str]) -> dict[str, float]:
    """How long those of `cells` took that a run has, by name, all tries and stages of the last time together.

    It is for guesses only: what cannot be read is left out.
    """
    try:
        stored = (_read_json(run / RESULTS) or {}).get("cells", [])
        found = {
            str(cell["cell"]): sum(sum(one["stages_seconds"].values()) for one in cell["tries"]) for cell in stored
        }
    except (ScenarioError, OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return {name: float(found[name]) for name in cells if 0 < found.get(name, 0) < _MOST_SECONDS}


def read_result(folder: Path) -> dict[str, Any] | None:
    """A cell's stored result; None when it has none."""
    return _read_json(folder / "result.json")


def read_plan(folder: Path) -> dict[str, Any]:
    """A cell's plan. Raises ScenarioError when it is missing or damaged."""
    path = folder / "plan.json"
    plan = _read_json(path)
    if plan is None:
        raise ScenarioError(f"{folder}: has no plan.json", hint="restore it, or move the cell's folder away")
    for name, kind in _PLAN_KEYS.items():
        if not isinstance(plan.get(name), kind):
            raise Damaged(path, f"{name} is {'missing' if name not in plan else 'of a wrong type'}")
    return plan


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file for people and programs."""
    path.write_text(json_text(content), encoding="utf-8")


def json_text(content: Mapping[str, Any]) -> str:
    """How the lab writes JSON: indented, keys in their own order, one newline at the end."""
    return json.dumps(content, indent=1) + "\n"


def _write_text(path: Path, text: str) -> None:
    """Write what a guest said; half of a surrogate pair, which JSON may carry and UTF-8 cannot, as its escape."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _write_snapshot(folder: Path, items: Mapping[str, Mapping[str, Any]]) -> None:
    folder.mkdir()
    errors = {}
    for name, item in items.items():
        if isinstance(item["text"], str):
            _write_text(folder / f"{name}.txt", item["text"])
        if item["error"] or item["truncated"]:
            errors[name] = str(item["error"] or "truncated")[:1000]
    write_json(folder / _ERRORS, errors)


def _read_snapshot(folder: Path) -> Snapshot | None:
    if not is_folder(folder):
        return None
    texts = {name: text for name in ITEM_NAMES if (text := _read_text(folder / f"{name}.txt")) is not None}
    return Snapshot(texts, _read_json(folder / _ERRORS) or {})


def _read_text(path: Path) -> str | None:
    try:
        return read_text(path)
    except FileNotFoundError:
        return None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _locked(run: Path) -> Iterator[None]:
    """Hold a run's lock, which the kernel drops with its holder; raises BlockingIOError when another holds it."""
    descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _renew_sums(run: Path) -> None:
    """After a run was judged again. A cell's list that was exchanged since the run ended stays found out."""
    names = [RESULTS]
    ours = sums.readable(run) or {}
    for cell in cell_folders(run):
        name = f"{sums.CELLS}/{cell.name}/{SUMS}"
        was_listed = (run / name).is_file() and ours.get(name) == sha256_of(run / name)
        if (renewed := sums.renewed_cell_sums(cell)) is not None:
            write_aside(cell / SUMS, renewed)
            names += [name] if was_listed else []
    if (renewed := sums.renewed_run_sums(run, names)) is not None:
        write_aside(run / SUMS, renewed)


def _point_latest(results: Path, name: str) -> None:
    link = results / f"{_PARTIAL}latest-{secrets.token_hex(3)}"
    link.symlink_to(name)
    link.replace(results / "latest")
