"""Writing a result folder: every file complete or absent, and a killed run leaves what it finished, readable.

A cell's folder is written under a hidden name and renamed when it is whole. The runner judges only what it has read
back (stored_run.py), so it and `lab judge` see the same evidence.
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.core.evidence import Sample
from lab.core.manifest import Manifest
from lab.core.plan import CellPlan
from lab.core.result import CellResult, Results
from lab.core.sums import SUMS
from lab.host.results import layout, sums
from lab.host.results.plain_files import is_folder, sha256_of, write_aside
from lab.host.results.recording import Recording
from lab.host.results.records import to_json
from lab.host.results.stored_run import StoredRun, opened


@dataclass(frozen=True)
class RunFolder:
    """A run's folder in results/, made by `create_run`."""

    path: Path

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest whole, or leave what was there. That of a run that has ended is the last of its files:
        then the run's digests are listed, too.
        """
        write_aside(self.path / layout.MANIFEST, json_text(to_json(manifest)))
        if manifest.ended_at is not None:
            write_aside(self.path / SUMS, sums.run_sums(self.path))

    def write_results(self, cells: Sequence[CellResult]) -> None:
        """Write results.json for the cells that ended."""
        write_aside(self.path / layout.RESULTS, json_text(results_json(cells)))

    @contextlib.contextmanager
    def cell(self, name: str) -> Iterator[Path]:
        """A hidden folder that becomes cells/`name` when the block ends well, and is removed when it does not.

        Its last file is the list of the digests of all others.
        """
        parent = self.path / layout.CELLS
        partial = parent / f"{layout.PARTIAL}{name}"
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
            (path / layout.CELLS).mkdir(parents=True)
            stack.enter_context(_locked(path))
            _point_latest(results, path.name)
        except OSError as error:
            raise PrerequisiteError(
                f"cannot write in {results}: {error.strerror}", hint="choose another folder with --output"
            ) from error
        yield RunFolder(path)


@contextlib.contextmanager
def resume_run(folder: Path) -> Iterator[RunFolder]:
    """The folder of a run that is to get the cells that it lacks; locked while the block runs, half-written cells
    removed.

    Raises ScenarioError when a lab still runs it, or when nothing can be written there.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(folder))
            for partial in folder.glob(f"{layout.CELLS}/{layout.PARTIAL}*"):
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            raise _not_ours(folder, error) from error
        yield RunFolder(folder)


def now() -> str:
    """The time as it is written in a manifest."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def remove_leftovers(results: Path) -> None:
    """Remove the half-written cells of runs whose lab is gone."""
    for partial in results.glob(f"*/{layout.CELLS}/{layout.PARTIAL}*"):
        if not is_folder(partial.parent):
            continue
        with contextlib.suppress(BlockingIOError, OSError), _locked(partial.parent.parent):
            shutil.rmtree(partial, ignore_errors=True)


def write_recording(folder: Path, recording: Recording, plan: CellPlan, scenario_text: str) -> None:
    """Write everything that a try recorded below `folder`."""
    write_json(folder / layout.PLAN, plan.to_json())
    _write_text(folder / layout.SCENARIO, scenario_text)
    _write_text(folder / layout.CONSOLE, recording.console)
    if recording.kernel_log is not None:
        _write_text(folder / layout.KERNEL_LOG, recording.kernel_log)
    for name, text in recording.logs.items():
        _write_text(folder / name, text)
    (folder / layout.EVIDENCE).mkdir()
    write_json(folder / layout.part("steps"), {"reached": recording.reached, "steps": recording.steps})
    for name in layout.PARTS:
        if (content := getattr(recording, name)) is not None:
            write_json(folder / layout.part(name), content)
    _write_text(folder / layout.SAMPLES, "".join(f"{line}\n" for line in recording.samples))
    for name in layout.WHY:
        if (why := getattr(recording, name)) is not None:
            write_json(folder / layout.part(name), {name: why})
    for name in layout.SNAPSHOTS:
        if (items := getattr(recording, name)) is not None:
            _write_snapshot(folder / layout.EVIDENCE / name, items)
    for role, items in recording.ends.items():
        _write_snapshot(folder / layout.EVIDENCE / layout.ENDS[role], items)


def set_aside(folder: Path, number: int) -> None:
    """Move what a try recorded below `folder` to tries/`number`, so that another can be written."""
    aside = folder / layout.TRIES / str(number)
    aside.mkdir(parents=True)
    for name in layout.RECORDED:
        if (folder / name).exists():
            (folder / name).rename(aside / name)


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
def open_run(folder: Path) -> Iterator[RunFolder]:
    """A run's folder, to be judged again; locked while the block runs. In the lists of digests, those of what was
    judged are made again, and no others.

    Raises ScenarioError when it is no run's folder, when a newer lab or one that still runs has it, or when nothing
    can be written there.
    """
    if not opened(folder).cells:
        raise ScenarioError(f"{folder}: no cell of this run has ended", hint="for example results/latest")
    try:
        with _locked(folder):
            yield RunFolder(folder)
            _renew_sums(folder)
    except OSError as error:
        raise _not_ours(folder, error) from error


def _not_ours(folder: Path, error: OSError) -> ScenarioError:
    """Why nothing can be written in a run's folder."""
    if isinstance(error, BlockingIOError):
        return ScenarioError(f"{folder}: a lab is still writing it", hint="wait for it to end")
    return ScenarioError(f"{folder}: cannot be written: {error}", hint="copy it to where you can write")


def results_json(cells: Sequence[CellResult]) -> dict[str, Any]:
    """The content of results.json."""
    return to_json(Results(cells=tuple(cells)))


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
    write_json(folder / layout.ERRORS, errors)


@contextlib.contextmanager
def _locked(run: Path) -> Iterator[None]:
    """Hold a run's lock, which the kernel drops with its holder; raises BlockingIOError when another holds it."""
    descriptor = os.open(run / layout.LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _renew_sums(run: Path) -> None:
    """After a run was judged again. A cell's list that was exchanged since the run ended stays found out."""
    names = [layout.RESULTS]
    ours = sums.readable(run) or {}
    for cell in StoredRun(run).cells:
        name = f"{layout.CELLS}/{cell.name}/{SUMS}"
        was_listed = (run / name).is_file() and ours.get(name) == sha256_of(run / name)
        if (renewed := sums.renewed_cell_sums(cell.folder)) is not None:
            write_aside(cell.folder / SUMS, renewed)
            names += [name] if was_listed else []
    if (renewed := sums.renewed_run_sums(run, names)) is not None:
        write_aside(run / SUMS, renewed)


def _point_latest(results: Path, name: str) -> None:
    link = results / f"{layout.PARTIAL}latest-{secrets.token_hex(3)}"
    link.symlink_to(name)
    link.replace(results / "latest")
