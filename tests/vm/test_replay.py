"""A real run is what was recorded, and gives the same findings when it is run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.host.cli import main as cli
from tests.vm.conftest import Guests


def test_a_run_is_verified_and_run_again(
    guests: Guests, tmp_path: Path, capsys: pytest.CaptureFixture[str], project_root: Path
) -> None:
    scenarios = [str(project_root / "scenarios" / f"{name}.toml") for name in ("pristine", "nat-present")]
    results = tmp_path / "results"
    options = ["--target", guests.target.spec.name, "--set", "iptables=nft", "--connections", "300", "-j", "1"]
    assert cli.main(["run", *scenarios, *options, "--accelerator", "tcg", "--output", str(results)]) == 0
    first = (results / "latest").resolve()
    assert cli.main(["verify", str(first)]) == 0
    capsys.readouterr()
    assert cli.main(["replay", str(first), "--output", str(results)]) == 0
    out, err = capsys.readouterr()
    assert "\nsame: of 2 cells 0 changed, 2 did not\n" in out
    assert "not the same" not in err
    again = (results / "latest").resolve()
    assert again != first
    manifests = [json.loads((run / "manifest.json").read_text()) for run in (first, again)]
    assert manifests[1]["replay_of"]["run"] == first.name
    for key in ("cells", "scenarios", "targets", "overrides", "deadlines_seconds", "agent_sha256"):
        assert manifests[0][key] == manifests[1][key], key
    assert cli.main(["verify", str(again)]) == 0
