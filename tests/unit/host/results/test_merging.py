"""`lab merge`: shards are checked against their digests, judged again, and make one run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from lab.core.errors import ScenarioError
from lab.core.manifest import StoredShard
from lab.host.cli import main as cli
from lab.host.publish.schemas import schema_text
from lab.host.results.judging import judge_run
from lab.host.results.merging import merge_runs
from lab.host.results.store import RunFolder
from lab.host.results.stored_run import StoredRun, opened
from tests.recordings import GOLDEN

RUN = GOLDEN / "results" / "v1" / "digests"


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """A recorded run of three cells, as three machines would have left it."""
    plan = tuple(StoredRun(RUN).manifest.cells or ())
    assert len(plan) == 3
    return [_shard(tmp_path / f"shard-{index}", index, plan) for index in (1, 2, 3)]


def _shard(folder: Path, index: int, plan: tuple[str, ...]) -> Path:
    shutil.copytree(RUN, folder)
    for cell in set(plan) - {plan[index - 1]}:
        shutil.rmtree(folder / "cells" / cell)
    stored = StoredRun(folder)
    manifest = replace(stored.manifest, cells=(plan[index - 1],), shard=StoredShard(index, 3, "0" * 64, plan))
    results = [result for result in stored.results if result.cell == plan[index - 1]]
    RunFolder(folder).write_results(results)
    RunFolder(folder).write_manifest(manifest)
    return folder


def test_merged_shards_are_the_run_that_one_machine_made(shards: list[Path], tmp_path: Path) -> None:
    found = merge_runs([shards[2], shards[0], shards[1]], tmp_path / "results")
    whole = Path(shutil.copytree(RUN, tmp_path / "whole"))
    assert found.results == judge_run(whole)
    assert found.lacks is None
    assert list(opened(found.folder).results) == found.results
    manifest = json.loads((found.folder / "manifest.json").read_text())
    validator = jsonschema.Draft202012Validator(json.loads(schema_text("manifest")))
    assert [error.message for error in validator.iter_errors(manifest)] == []
    assert manifest["complete"] is True
    assert [part["shard"] for part in manifest["parts"]] == ["3/3", "1/3", "2/3"]
    assert cli.main(["verify", str(found.folder)]) == 0
    assert cli.main(["compare", str(whole), str(found.folder)]) == 0


def test_a_shard_with_a_changed_byte_is_refused_and_named(shards: list[Path], tmp_path: Path) -> None:
    evidence = next(shards[1].glob("cells/*/evidence/samples.jsonl"))
    content = bytearray(evidence.read_bytes() or b" ")
    content[0] ^= 1
    evidence.write_bytes(content)
    with pytest.raises(ScenarioError, match=r"shard-2: cells/.*samples\.jsonl") as caught:
        merge_runs(shards, tmp_path / "results")
    assert "fetch the run again" in caught.value.hint
    assert not (tmp_path / "results").exists()


def test_what_is_missing_is_said_and_the_exit_status_is_3(
    shards: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["merge", str(shards[0]), str(shards[2]), "--output", str(tmp_path / "results")]
    assert cli.main(argv) == 3
    said = capsys.readouterr().err
    lacking = "shard 2/3 is not among them; 1 cell of the plan missing: nat-present,iptables=nft@debian12"
    assert f"incomplete: {lacking}" in said
    assert json.loads((tmp_path / "results/latest/manifest.json").read_text())["complete"] is False


def test_a_run_named_twice(shards: list[Path], tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(shards[0].name)
    with pytest.raises(ScenarioError, match="a run is named twice"):
        merge_runs([shards[0], tmp_path / "latest"], tmp_path / "results")


def test_a_run_without_a_manifest(shards: list[Path], tmp_path: Path) -> None:
    for name in ("manifest.json", "SHA256SUMS"):
        (shards[1] / name).unlink()
    with pytest.raises(ScenarioError, match=r"shard-2: has no manifest\.json"):
        merge_runs(shards, tmp_path / "results")


def test_the_shards_stay_as_they_are(shards: list[Path], tmp_path: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for shard in shards for path in shard.rglob("*") if path.is_file()}

    before = content()
    merge_runs(shards, tmp_path / "results")
    assert content() == before
