"""Scenarios of programs: found by name and by a glob of theirs, and no part of all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.core.errors import ScenarioError
from lab.host.cli.main import main
from lab.host.scenario_files import all_scenarios, find_scenarios
from tests import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("nat-flushed", "ufw-own", "programs/ufw-disabled", "programs/docker-stopped"):
        path = tmp_path / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    return tmp_path


def found(folder: Path, *patterns: str) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_scenarios(patterns, (folder,))]


def test_all_means_none_that_needs_an_image_of_its_own(folder: Path) -> None:
    assert found(folder, "*") == ["nat-flushed.toml", "ufw-own.toml"]


def test_names_and_globs_of_programs_find_them(folder: Path) -> None:
    assert found(folder, "docker-*", "ufw-disabled") == ["programs/docker-stopped.toml", "programs/ufw-disabled.toml"]
    assert found(folder, "*-stopped") == ["programs/docker-stopped.toml"]
    # what a folder itself has goes before
    assert found(folder, "ufw-*") == ["ufw-own.toml"]


def test_a_name_of_neither_is_told_the_nearest_of_both(folder: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        find_scenarios(["docker-stoped"], (folder,))
    assert caught.value.hint == "did you mean 'docker-stopped'?"


def test_the_list_has_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "scenarios", "--format", "json"]) == 0
    listed = {scenario["name"] for scenario in json.loads(capsys.readouterr().out)["scenarios"]}
    shipped = {path.stem for path in (ROOT / "scenarios").rglob("*.toml")}
    assert listed == shipped == set(all_scenarios())
