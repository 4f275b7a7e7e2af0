"""`lab run --resume`: what a run lacks is run into its own folder, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from lab.core.errors import ScenarioError
from lab.host.cli import main as cli
from lab.host.publish.schemas import schema_text
from lab.host.results.judging import judge_run
from lab.host.run import commands, resuming
from tests.unit.host.run.test_replay import CELLS, TODAY, _job, asked, edit, host, played, read, run

__all__ = ["host", "played", "run"]  # fixtures


@pytest.fixture
def crashed(run: Path, played: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was killed in its second cell; the guests of what it lacks are those that were recorded."""
    judge_run(run)  # the results as today's lab writes them
    for cell in CELLS[1:]:
        shutil.rmtree(run / "cells" / cell)
    (run / "SHA256SUMS").unlink()
    (run / "cells" / f".partial-{CELLS[1]}").mkdir()
    edit(run / "results.json", lambda results: results.update(cells=[]))  # the last second of a run may be lost
    edit(run / "manifest.json", lambda manifest: manifest.update(complete=False, ended_at=None))
    monkeypatch.setattr(
        commands, "_jobs", lambda planned, options, targets: [_job(TODAY, plan, planned) for plan in planned.plans]
    )
    return run


def test_what_is_lacking_is_run_into_the_same_folder(
    crashed: Path, host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = (crashed / "cells" / CELLS[0] / "result.json").read_bytes()
    assert cli.main(["run", "--resume", str(crashed), "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [cell["cell"] for cell in shown["cells"]] == CELLS
    assert read(crashed / "results.json") == shown
    assert sorted(path.name for path in (crashed / "cells").iterdir()) == sorted(CELLS)
    assert (crashed / "cells" / CELLS[0] / "result.json").read_bytes() == kept
    manifest = read(crashed / "manifest.json")
    assert (manifest["complete"], len(manifest["resumed"])) == (True, 1)
    assert manifest["resumed"][0]["differences"] == [
        {"what": "the run did not end: 3 of its 3 cells have no result, and are run too", "needed": False}
    ]
    validator = jsonschema.Draft202012Validator(json.loads(schema_text("manifest")))
    assert [error.message for error in validator.iter_errors(manifest)] == []
    shutil.rmtree(host / "conntrack-lab" / "images")  # whose files are not there
    assert cli.main(["verify", str(crashed)]) == 0


def test_a_whole_run_has_nothing_to_resume(run: Path) -> None:
    with pytest.raises(ScenarioError, match="has all of its 3 cells"):
        resuming.prepare(run, asked(run.parent), lambda text: None)


def test_another_agent_would_make_other_cells(crashed: Path) -> None:
    edit(crashed / "manifest.json", lambda manifest: manifest.update(agent_sha256="0" * 64))
    with pytest.raises(ScenarioError, match="the lab's agent is another one") as caught:
        resuming.prepare(crashed, asked(crashed.parent), lambda text: None)
    assert "lab replay" in caught.value.hint


def test_an_image_that_is_gone(crashed: Path, host: Path) -> None:
    shutil.rmtree(host / "conntrack-lab" / "images")
    with pytest.raises(ScenarioError, match=r"cannot be taken up again: .*image"):
        resuming.prepare(crashed, asked(crashed.parent), lambda text: None)


@pytest.mark.parametrize("words", [["pristine"], ["--max", "7"], ["--target", "forky"], ["--shard", "1/2"]])
def test_options_that_are_the_runs_own(crashed: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", *words, "--resume", str(crashed)]) == 2
    assert "is as the run began" in capsys.readouterr().err


def test_a_run_names_scenarios_or_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 2
    assert "names no scenario" in capsys.readouterr().err
