"""Firewall programs in guests with their packages: ufw, and with LAB_TEST_PROGRAMS=1 every state of all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.host.cli.main import main
from lab.host.results.stored_run import StoredRun
from tests import ROOT
from tests.vm.conftest import TARGETS

NAMES = sorted(path.stem for path in (ROOT / "scenarios/programs").glob("*.toml"))
ALL = pytest.mark.skipif(not os.environ.get("LAB_TEST_PROGRAMS"), reason="takes long: LAB_TEST_PROGRAMS=1 runs it")


def run(folder: Path, *words: str) -> StoredRun:
    """A run that ended as expected."""
    targets = [word for target in TARGETS for word in ("--target", target)]
    assert main(["run", *words, *targets, "--timeouts", "state=200", "--output", str(folder), "-q"]) == 0
    return StoredRun(folder / "latest")


def test_ufw_tracks_while_it_is_enabled_and_its_image_is_in_the_manifest(tmp_path: Path) -> None:
    stored = run(tmp_path, "ufw-disabled", "--set", "state=running", "--set", "state=stopped")
    found = {(cell.axes["state"], cell.finding) for cell in stored.results}
    assert found == {("running", "table-full"), ("stopped", "untracked")}
    (running, *_) = [cell for cell in stored.results if cell.axes["state"] == "running"]
    assert any("ufw" in holder.chain for holder in running.holders or ())
    for target in stored.manifest.targets.values():
        (layer,) = target.layers
        assert layer.asked == ("ufw",)
        assert layer.image != target.image
        assert "ufw" in (layer.packages or {})
        assert "ufw" not in (target.packages or {})


@ALL
@pytest.mark.parametrize("name", NAMES)
def test_every_state_of_a_program_is_as_expected(name: str, tmp_path: Path) -> None:
    assert all(cell.as_expected for cell in run(tmp_path, name).results)
