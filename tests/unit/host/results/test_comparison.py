"""`lab compare` on folders: what it reads and refuses, its formats, and its exit status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from lab.core.errors import ScenarioError
from lab.core.render.comparison import MOST_MARKDOWN
from lab.core.result import CellResult
from lab.core.scenario import parse_scenario, scenario_digest
from lab.host.cli import main as cli
from lab.host.results.comparison import compare_runs, load_run
from lab.host.results.records import to_json
from tests import ROOT, recordings
from tests.unit.runs import EVIL, cell, manifest

GOLDEN = recordings.GOLDEN / "results"
CELLS = recordings.GOLDEN / "cells"
SCHEMA = json.loads((ROOT / "lab/schemas/compare.schema.json").read_text())

Json = dict[str, Any]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a folder with a manifest and results, as results/reference/ is."""

    def write_run(name: str, cells: Sequence[Json | CellResult] | Json, manifested: Json | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        results = {"schema_version": 1, "cells": list(map(document, cells))} if isinstance(cells, list) else cells
        (folder / "results.json").write_text(json.dumps(results))
        (folder / "manifest.json").write_text(json.dumps(manifest() if manifested is None else manifested))
        return folder

    return write_run


def document(cell: Json | CellResult) -> Json:
    return to_json(cell) if isinstance(cell, CellResult) else cell


def lab(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str, str]:
    status = cli.main(["compare", *map(str, argv)])
    return status, *capsys.readouterr()


def golden(name: str) -> Json:
    content = json.loads((GOLDEN / name).read_text())
    assert isinstance(content, dict)
    return content


# -- real results -----------------------------------------------------------------------------------------------------


@pytest.fixture
def real(write: Write) -> Path:
    """Every golden result, of which each came from a real guest."""
    cells = [golden(path.name) for path in sorted(GOLDEN.glob("*.result.json"))]
    return write("real", cells, golden("manifest.json"))


def test_the_same_results_are_the_same_ten_times(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    folder = write("run", golden("results.json"), golden("manifest.json"))
    for _ in range(10):
        status, out, err = lab(capsys, folder, folder)
        assert (status, err) == (0, "")
        assert out.startswith("same: of 2 cells 0 changed, 2 did not\n")


def test_an_upgrade_that_changes_a_finding_is_caught(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    """The same scenario on another kernel: one cell has the finding that an old kernel gives."""
    old, new = golden("results.json"), golden("results.json")
    kernel = "debian12+kernel:/tmp/linux-image-6.1.0-56-cloud-amd64.deb"
    full = golden("table-full.result.json")
    for one in new["cells"]:
        one.update(target=kernel, kernel_release="6.1.0-56-cloud-amd64")
    names = ("finding", "reason", "as_expected", "message_logged", "drops", "connections", "first_drop_seconds")
    new["cells"][1].update({name: full[name] for name in names})
    upgraded = {**golden("manifest.json"), "targets": {kernel: golden("manifest.json")["targets"]["debian12"]}}
    folders = write("old", old, golden("manifest.json")), write("new", new, upgraded)
    status, out, _ = lab(capsys, *folders)
    assert status == 1
    changed = [line for line in out.splitlines() if line.startswith("CHANGED")]
    assert [line.split()[1:5] for line in changed] == [
        ["nat-flushed,iptables=legacy@debian12", "untracked", "->", "table-full"]
    ]
    assert "debian12: kernel  6.1.0-50-cloud-amd64 -> 6.1.0-56-cloud-amd64" in out
    status, out, _ = lab(capsys, *folders, "--format", "md")
    assert (status, out.splitlines()[0]) == (1, "**changed**: of 2 cells 1 changed, 1 did not")
    status, out, _ = lab(capsys, *reversed(folders), "--format", "json")
    assert (status, json.loads(out)["verdict"]) == (1, "changed")


def test_a_kernel_that_tracks_after_a_flush_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    """Two real runs: Debian 12's kernel, and the same with the hooks always on."""
    before, after = recordings.GOLDEN / "compare/before", recordings.GOLDEN / "compare/after"
    status, out, _ = lab(capsys, before, after, "--format", "json")
    told = json.loads(out)
    assert (status, told["verdict"]) == (1, "changed")
    assert [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(told)] == []
    assert [one["cell"] for one in told["cells"] if one["verdict"] == "changed"] == [
        "nat-flushed,iptables=legacy@debian12",
        "nat-flushed,iptables=nft@debian12",
    ]
    assert {one["verdict"] for one in told["cells"]} == {"changed", "same"}
    assert {"target", "debian12: kernel_digest", "command"} <= {one["what"] for one in told["differences"]}
    for folder in (before, after):
        assert [lab(capsys, folder, folder)[0] for _ in range(10)] == [0] * 10


def test_what_is_inconclusive_is_no_change(capsys: pytest.CaptureFixture[str], real: Path) -> None:
    status, out, _ = lab(capsys, real, real)
    assert status == 3
    assert "\nnot comparable  panics@debian13 " in out
    assert out.count("\nsame ") == len(list(GOLDEN.glob("*.result.json"))) - 1


def test_the_json_is_what_its_schema_says(capsys: pytest.CaptureFixture[str], real: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    _, out, _ = lab(capsys, real, real, "--format", "json")
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert [error.message for error in validator.iter_errors(json.loads(out))] == []
    damages: tuple[Json, ...] = ({"verdict": "fine"}, {"exit_status": 2}, {"more": 1}, {"cells": []})
    for damage in damages:
        assert list(validator.iter_errors({**json.loads(out), **damage})), damage


def test_a_finding_that_the_lab_knows_is_in_the_schema() -> None:
    results = json.loads((ROOT / "lab/schemas/results.schema.json").read_text())
    assert SCHEMA["$defs"]["finding"] == results["$defs"]["finding"]


def test_a_run_of_a_thousand_cells_fits_a_comment(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    names = [f"nat-flushed,axis={number}" for number in range(1000)]
    folders = [write(finding, [cell(finding, variant=name) for name in names]) for finding in ("untracked", "tracked")]
    status, out, _ = lab(capsys, *folders, "--format", "md")
    assert status == 1
    assert len(out) <= MOST_MARKDOWN + 1


# -- which runs -------------------------------------------------------------------------------------------------------


def test_a_link_is_told_as_what_it_points_to(tmp_path: Path, write: Write) -> None:
    folder = write("20261121T000000Z-abcdef", [cell()])
    (tmp_path / "latest").symlink_to(folder.name)
    assert load_run(tmp_path / "latest").name == str(folder)


def test_targets_are_matched_by_hand(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    box = "vagrant:https://example.org/x.box#sha256=00ff"
    folder = write("run", [cell(), cell("tracked", target=box)])
    assert lab(capsys, folder, folder)[0] == 0
    status, out, _ = lab(capsys, folder, folder, "--match", f"debian12={box}")
    assert (status, out.splitlines()[0]) == (1, "changed: of 1 cell 1 changed")
    status, out, err = lab(capsys, folder, folder, "--match", "debian12=debian13")
    assert (status, out) == (2, "")
    assert err.startswith(
        "lab: --match debian12=debian13: means no pair of targets\n  hint: --match TARGET=TARGET: BASE"
    )


def test_what_another_scenario_means_is_told_from_its_file(tmp_path: Path) -> None:
    folders = []
    for number, connections in enumerate((300, 400)):
        folder = tmp_path / str(number)
        cells = folder / "cells"
        shutil.copytree(CELLS / "pristine@debian12", cells / "pristine@debian12")
        path = cells / "pristine@debian12" / "scenario.toml"
        text = path.read_text().replace("connections = 20000", f"connections = {connections}")
        path.write_text(text)
        (folder / "manifest.json").write_text(json.dumps(manifest()))
        digest = digest_of(path)
        plan = json.loads((path.parent / "plan.json").read_text())
        (path.parent / "plan.json").write_text(json.dumps({**plan, "scenario_digest": digest}))
        result = document(cell(variant="pristine", scenario_digest=digest))
        (folder / "results.json").write_text(json.dumps({"schema_version": 1, "cells": [result]}))
        folders.append(folder)
    with pytest.raises(ScenarioError, match=r"load\.connections is 300 in BASE and 400 in NEW"):
        compare_runs(folders[0], folders[1])
    # the file has to be what was run
    path = folders[0] / "cells/pristine@debian12/scenario.toml"
    path.write_text(path.read_text().replace("300", "301"))
    with pytest.raises(ScenarioError, match=r"does not mean the same: its digest is [0-9a-f]{12} in BASE"):
        compare_runs(folders[0], folders[1])
    path.unlink()
    with pytest.raises(ScenarioError, match=r"does not mean the same: its digest is [0-9a-f]{12} in BASE"):
        compare_runs(folders[0], folders[1])


def digest_of(path: Path) -> str:
    return scenario_digest(parse_scenario(path.read_text(), "pristine.toml"))


# -- what is refused --------------------------------------------------------------------------------------------------


def test_what_is_no_run_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, write: Write) -> None:
    good = write("good", [cell()])
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "file", "empty"):
        for order in ((good, tmp_path / name), (tmp_path / name, good)):
            status, out, err = lab(capsys, *order)
            assert (status, out) == (2, "")
            assert (f"{name}/manifest.json: cannot be read: " if name == "empty" else "there is no such run") in err
            assert "  hint: " in err


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"schema_version": 2}, "schema_version is 2, this lab reads up to 1"),
        ({"finding": "fine"}, "finding is 'fine', which this lab does not know"),
        ({"finding": None}, "finding: expected str, got null"),
        ({"scenario_digest": 5}, "scenario_digest: expected str, got int"),
        ({"drops": "1900"}, "drops: expected int | null, got str"),
        ({"drops": True}, "drops: expected int | null, got bool"),
        ({"drops": -1}, "drops: is -1"),
        ({"first_drop_seconds": float("nan")}, "first_drop_seconds: is nan"),
        ({"first_drop_seconds": float("inf")}, "first_drop_seconds: is inf"),
        ({"drops": 10**400}, "drops: is 1000"),
        ({"connections": {"stalled": 1}}, "connections.attempted: is missing"),
        ({"connections": []}, "connections: expected object | null, got array"),
        ({"message_logged": 1}, "message_logged: expected bool | null, got int"),
        ({"versions": ["1.8.9"]}, "versions: expected object, got array"),
        ({"kernel_release": 6}, "kernel_release: expected str | null, got int"),
    ],
)
def test_a_damaged_result_is_refused(
    capsys: pytest.CaptureFixture[str], write: Write, damage: Json, words: str
) -> None:
    status, out, err = lab(capsys, write("good", [cell()]), write("damaged", [{**document(cell()), **damage}]))
    assert (status, out) == (2, "")
    assert "damaged/results.json: is damaged: 'nat-flushed,iptables=nft@debian12': " in err
    assert words in err


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({"schema_version": 2, "cells": []}, "schema_version is 2, this lab reads up to 1"),
        ({"schema_version": 1, "cells": []}, "has no cells"),
        ({"schema_version": 1}, "has no cells"),
        ({"schema_version": 1, "cells": {"a": 1}}, "has no cells"),
        ({"schema_version": 1, "cells": [1]}, "a cell: expected object, got int"),
        ({"schema_version": 1, "cells": [{}]}, "None: cell: is missing"),
        ({"schema_version": 1, "cells": [to_json(cell())] * 2}, "'nat-flushed,iptables=nft@debian12' is in it twice"),
    ],
)
def test_damaged_results_are_refused(
    capsys: pytest.CaptureFixture[str], write: Write, results: Json, words: str
) -> None:
    status, out, err = lab(capsys, write("good", [cell()]), write("damaged", results))
    assert (status, out) == (2, "")
    assert words in err
    assert "  hint: " in err


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff", "[" * 100_000])
def test_a_file_that_is_no_json_object_is_refused(capsys: pytest.CaptureFixture[str], write: Write, text: str) -> None:
    good, damaged = write("good", [cell()]), write("damaged", [cell()])
    (damaged / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    status, out, err = lab(capsys, good, damaged)
    assert (status, out) == (2, "")
    assert "damaged/manifest.json: is damaged: " in err


def test_a_newer_manifest_is_refused(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    newer = write("newer", [cell()], {**manifest(), "schema_version": 2})
    status, _, err = lab(capsys, newer, newer)
    assert status == 2
    assert "newer/manifest.json: schema_version is 2, this lab reads up to 1" in err


def test_an_error_says_no_word_of_a_guest_to_the_terminal(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    printable = EVIL.replace("\ud800", "")
    evil = [cell(target=printable), cell(target=printable + "2")]
    for folders in (
        (write("one", [cell(), cell(target="debian13")]), write("two", evil)),
        (write("three", [{**document(cell()), "cell": printable, "finding": printable}]), write("four", [cell()])),
        (write("five", [cell(scenario=printable)]), write("six", [cell(scenario=printable, scenario_digest="c" * 64)])),
    ):
        status, _, err = lab(capsys, *folders)
        assert status == 2
        assert all(char.isprintable() or char == "\n" for char in err)
        assert not any(line.startswith("ok ") for line in err.splitlines())
