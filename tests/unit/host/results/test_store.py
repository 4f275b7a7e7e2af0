"""The result folder: cells complete or absent, locks, leftovers, versions, and what is written comes back."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from lab.core.errors import LabError, PrerequisiteError, ScenarioError
from lab.core.evidence import Evidence, Sample
from lab.core.facts import Facts
from lab.core.result import RESULT_VERSION
from lab.guest.observe import ITEM_NAMES
from lab.host.machines.playback import recorded_plan
from lab.host.results import plain_files, store
from lab.host.results.recording import Recording
from lab.host.results.stored_cell import StoredCell
from lab.host.results.stored_run import StoredRun
from tests.recordings import GOLDEN

CELLS = GOLDEN / "cells"
CELL = "nat-present,iptables=nft@debian13"

COUNTS = "seconds,attempted,held,failed,lost,accepted,open,newcomers_attempted,newcomers_held"

# what a kernel or a program may print, and a careless write or read would change
AWKWARD = "a\r\nb\rc\n\x0c\x00\t\\x41 \u2028\xe9\U0001f600 no newline at the end"


def item(text: Any, error: Any = None, truncated: Any = False) -> dict[str, Any]:
    return {"text": text, "error": error, "truncated": truncated}


def recording(**changes: Any) -> Recording:
    content: dict[str, Any] = {
        "machine": {"kernel_release": "6.1.0"},
        "steps": [{"argv": ["true"], "exit_status": 0}],
        "reached": True,
        "settings": {"x": {"wanted": 1}},
        "before": {"modules": item(AWKWARD), "hooks.nft": item(None, "not loaded"), "netstat": item("", None, True)},
        "after": {},
        "samples": ['{"seconds": 0.5, "count": "1\\n"}', '{"seconds": 0.25, "count": null}'],
        "load": {"ended": "all-held"},
        "peer": {"attempts": []},
        "kernel_log_holes": {"overwritten": 0, "truncated": False},
        "kernel_log": AWKWARD,
        "console": "console\n",
        **changes,
    }
    return Recording(**content)


def written(folder: Path, what: Recording) -> Evidence:
    store.write_recording(folder, what, recorded_plan(CELLS / CELL), "version = 1\n")
    return StoredCell(folder).evidence()


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# -- recordings -------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    evidence = written(tmp_path, recording())
    assert evidence.before is not None
    assert evidence.before.texts == {"modules": AWKWARD, "netstat": ""}
    assert evidence.before.errors == {"hooks.nft": "not loaded", "netstat": "truncated"}
    assert evidence.after is not None
    assert (evidence.after.texts, evidence.after.errors) == ({}, {})
    assert evidence.kernel_log == AWKWARD
    assert [(sample.seconds, sample.entries) for sample in evidence.samples] == [(0.25, None), (0.5, 1)]
    assert (evidence.reached, evidence.kernel_release, evidence.lost) == (True, "6.1.0", None)
    assert (evidence.settings, evidence.load) == ({"x": {"wanted": 1}}, {"ended": "all-held"})
    assert evidence.steps == ({"argv": ["true"], "exit_status": 0},)


def test_what_was_never_recorded_is_none_when_read_back(tmp_path: Path) -> None:
    evidence = written(tmp_path, Recording(lost="it vanished"))
    assert evidence == Evidence(facts=Facts("debian13"), lost="it vanished")


@pytest.mark.parametrize("name", ["machine", "settings", "before", "after", "load", "kernel_log", "reached", "peer"])
def test_each_part_can_be_missing_by_itself(tmp_path: Path, name: str) -> None:
    evidence = written(tmp_path, recording(**{name: None}))
    assert getattr(evidence, "kernel_release" if name == "machine" else name) is None
    others = {field.name for field in fields(evidence)} - {name, "lost", "skipped", "path_error"}
    assert all(getattr(evidence, other) is not None for other in others)


def test_only_known_names_become_files(tmp_path: Path) -> None:
    written(tmp_path, recording())
    names = {path.name for path in (tmp_path / "evidence" / "before").iterdir()}
    assert names == {"modules.txt", "netstat.txt", "errors.json"}
    assert all(name == os.path.basename(name) and not name.startswith(".") for name in ITEM_NAMES)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
@pytest.mark.parametrize("name", ["steps", "settings", "load", "machine"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    written(tmp_path, recording())
    path = tmp_path / "evidence" / f"{name}.json"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=f"{name}.json: is damaged") as caught:
        StoredCell(tmp_path).evidence()
    assert caught.value.hint


@pytest.mark.parametrize("release", [7, {}, ["6.1"], True])
def test_a_release_that_is_no_text_is_refused(tmp_path: Path, release: Any) -> None:
    with pytest.raises(ValueError, match="release"):
        written(tmp_path, recording(machine={"kernel_release": release}))


def test_samples_as_a_table(tmp_path: Path) -> None:
    samples = (
        Sample(0.0, None, None, None),
        Sample(
            *(0.5, 7, 100, {"entries": 7, "searched": 0, "drop": 2}, 9, 5, 1, 2, 6),
            open=5,
            newcomers_attempted=2,
            newcomers_held=1,
        ),
        Sample(1.0, 8, 100, {"entries": 8, "drop": 3, "early_drop": 1}),
    )
    path = tmp_path / "samples.csv"
    path.write_text(store.samples_csv(samples))
    assert path.read_text().splitlines() == [
        f"{COUNTS},entries,max,searched,drop,early_drop",
        "0.0,0,0,0,0,0,,,,,,,,",
        "0.5,9,5,1,2,6,5,2,1,7,100,0,2,",
        "1.0,0,0,0,0,0,,,,8,100,,3,1",
    ]
    path.write_text(store.samples_csv(()))
    assert path.read_text() == f"{COUNTS},entries,max\n"


# -- complete or absent -----------------------------------------------------------------------------------------------


def test_a_cell_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    run = store.RunFolder(tmp_path)
    with run.cell("a@b") as folder:
        (folder / "plan.json").write_text("{}")
        assert StoredRun(tmp_path).cells == ()
    assert StoredRun(tmp_path).cells == (StoredCell(tmp_path / "cells" / "a@b"),)
    assert names_in(tmp_path / "cells") == {"a@b"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_a_cell_whose_writing_was_interrupted_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    run = store.RunFolder(tmp_path)
    with pytest.raises(error), run.cell("a@b") as folder:
        (folder / "plan.json").write_text("{}")
        raise error
    assert names_in(tmp_path / "cells") == set()


def test_a_file_is_whole_or_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    plain_files.write_aside(path, "old")

    def fail(self: Path, target: Path) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        plain_files.write_aside(path, "new")
    assert path.read_text() == "old"


def test_what_an_interrupted_write_left_is_no_cell(tmp_path: Path) -> None:
    (tmp_path / "cells" / ".partial-a@b").mkdir(parents=True)
    (tmp_path / "cells" / "notes.txt").write_text("not a cell")
    assert StoredRun(tmp_path).cells == ()


# -- runs -------------------------------------------------------------------------------------------------------------


def test_the_latest_run_is_the_newest(tmp_path: Path) -> None:
    results = tmp_path / "deep" / "results"
    for _ in range(2):
        with store.create_run(results) as run:
            assert (results / "latest").resolve() == run.path.resolve()
    assert len(names_in(results)) == 3
    assert os.readlink(results / "latest") == run.path.name, "relative, so that results can be moved"


@contextmanager
def holding_the_lock(run: Path) -> Iterator[None]:
    """As another lab that is writing this run."""
    with (run / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def half_written(results: Path, run: str) -> Path:
    partial = results / run / "cells" / ".partial-a@b"
    (partial / "evidence").mkdir(parents=True)
    (partial / "evidence" / "steps.json").write_text("{}")
    return partial


def test_leftovers_of_a_dead_run_go_and_a_living_runs_stay(tmp_path: Path) -> None:
    dead, living = half_written(tmp_path, "dead"), half_written(tmp_path, "living")
    finished = tmp_path / "dead" / "cells" / "c@d"
    finished.mkdir()
    with holding_the_lock(tmp_path / "living"), store.create_run(tmp_path):
        assert (dead.exists(), living.exists(), finished.exists()) == (False, True, True)


def test_a_run_is_locked_while_it_is_written(tmp_path: Path) -> None:
    with store.create_run(tmp_path) as run:
        partial = half_written(tmp_path, run.path.name)
        store.remove_leftovers(tmp_path)
        assert partial.exists()
    store.remove_leftovers(tmp_path)
    assert not partial.exists()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_place_where_nothing_can_be_written_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(PrerequisiteError, match="cannot write in") as caught,
        store.create_run(tmp_path / "file" / below),
    ):
        pass
    assert "--output" in caught.value.hint


def test_an_error_of_the_run_is_not_taken_for_a_folders(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), store.create_run(tmp_path):
        raise PermissionError("something else")


# -- reading runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["results.json", "manifest.json"])
@pytest.mark.parametrize("version", [RESULT_VERSION + 1, "1", None, 1.5])
def test_a_run_of_a_newer_lab_is_refused(tmp_path: Path, name: str, version: Any) -> None:
    (tmp_path / name).write_text(json.dumps({"schema_version": version}))
    with pytest.raises(
        LabError, match=f"{name}: schema_version is .*, this lab reads up to {RESULT_VERSION}"
    ) as caught:
        StoredRun(tmp_path).check_version()
    assert "newer" in caught.value.hint


def test_a_run_that_was_killed_early_has_no_version_and_is_read(tmp_path: Path) -> None:
    StoredRun(tmp_path).check_version()
    store.RunFolder(tmp_path).write_results([])
    StoredRun(tmp_path).check_version()


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="is no run's folder") as caught:
        _ = StoredRun(tmp_path).cells
    assert "results/latest" in caught.value.hint


def test_a_cell_without_a_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"has no plan\.json"):
        StoredCell(tmp_path).plan()
    assert StoredCell(tmp_path).tries() == ()


def test_the_longest_names_fit_in_a_folder(tmp_path: Path) -> None:
    plan = recorded_plan(CELLS / CELL)
    # scenario 64, axes 100, @, target 60 and its digest, -r and a number: see lab/core/plan/
    longest = replace(plan, cell="s" * 64 + "," * 100 + "@" + "t" * 69 + "-r1000").cell
    with store.RunFolder(tmp_path).cell(longest):
        pass
    assert names_in(tmp_path / "cells") == {longest}


def test_what_cells_took_is_read_for_guesses(tmp_path: Path) -> None:
    def ended(name: str, *stages: dict[str, float]) -> dict[str, Any]:
        return {"cell": name, "tries": [{"number": 1, "lost": None, "stages_seconds": one} for one in stages]}

    cells = [ended("a", {"boot": 5.0, "load": 2.5}, {"load": 1.0}), ended("b", {"load": 3.0}), ended("c")]
    (tmp_path / "results.json").write_text(json.dumps({"schema_version": 1, "cells": cells}))
    assert StoredRun(tmp_path).seconds(["a", "c", "d"]) == {"a": 8.5}
    assert StoredRun(tmp_path / "nowhere").seconds(["a"]) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"cells": 1}',
        '{"cells": [1]}',
        '{"cells": [{"cell": "a"}]}',
        '{"cells": [{"cell": "a", "tries": [{"number": 1, "lost": null, "stages_seconds": [1]}]}]}',
        '{"cells": [{"cell": "a", "tries": [{"number": 1, "lost": null, "stages_seconds": {"x": "1"}}]}]}',
        '{"cells": [{"cell": "a", "tries": [{"number": 1, "lost": null, "stages_seconds": {"x": NaN}}]}]}',
        '{"cells": [{"cell": "a", "tries": [{"number": 1, "lost": null, "stages_seconds": {"x": -5}}]}]}',
        '{"cells": [{"cell": "a", "tries": [{"number": 1, "lost": null, "stages_seconds": {"x": 1e300}}]}]}',
    ],
)
def test_a_guess_from_a_damaged_run_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    assert StoredRun(tmp_path).seconds(["a"]) == {}


def test_half_a_surrogate_pair_of_a_guest_is_kept_as_its_escape(tmp_path: Path) -> None:
    plan = recorded_plan(CELLS / CELL)
    item = {"text": "a\ud800b", "error": None, "truncated": False}
    recording = Recording(console="\udfff", kernel_log="\ud800\n", logs={"x.log": "\ud800"}, lost="\ud800")
    recording.before = {"modules": item}
    store.write_recording(tmp_path, recording, plan, "scenario")
    assert (tmp_path / "evidence" / "before" / "modules.txt").read_text() == "a\\ud800b"
    assert (tmp_path / "kmsg.log").read_text() == "\\ud800\n"
    assert StoredCell(tmp_path).evidence().lost == "\ud800"
