"""`lab verify`: whatever is changed, added or removed in a stored run is found and named, and unknown is not ok."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.core.errors import ScenarioError
from lab.core.result import Try
from lab.core.scenario import parse_scenario, scenario_digest
from lab.core.sums import SUMS
from lab.host.cli import main as cli
from lab.host.results import store
from lab.host.results.checked import DIFFERS, NOTE, OK, UNKNOWN, Checked
from lab.host.results.judging import judge_folder, judge_run
from lab.host.results.sums import cell_sums, files_below, run_sums
from lab.host.results.verify import exit_status, verdict, verify_run
from tests import ROOT
from tests.recordings import GOLDEN
from tests.records import stored_manifest

PRISTINE, PRESENT = "pristine@debian12", "nat-present,iptables=nft@debian13"
CELLS = (PRISTINE, PRESENT)

Json = dict[str, Any]


def manifest_of(names: tuple[str, ...]) -> Json:
    """The manifest of a real run, as of these recorded cells."""
    content: Json = json.loads((GOLDEN / "results" / "manifest.json").read_text())
    texts = {
        name.split("@")[0].split(",")[0]: (GOLDEN / "cells" / name / "scenario.toml").read_text() for name in names
    }
    digests = {name: scenario_digest(parse_scenario(text, f"{name}.toml")) for name, text in texts.items()}
    files = {name: {"path": f"scenarios/{name}.toml", "text": text} for name, text in texts.items()}
    return {**content, "scenarios": digests, "scenario_files": files, "cells": list(names)}


def write_run(results: Path, names: tuple[str, ...] = CELLS) -> Path:
    """A run of recorded cells, written and judged as the runner does it."""
    manifest = manifest_of(names)
    with store.create_run(results) as folder:
        folder.write_manifest(stored_manifest({**manifest, "ended_at": None, "complete": False}))
        cells = []
        for name in names:
            with folder.cell(name) as partial:
                shutil.copytree(GOLDEN / "cells" / name, partial, dirs_exist_ok=True)
                cells.append(judge_folder(partial, [Try(1, None, {"load": 1.0})]))
        folder.write_results(cells)
        folder.write_manifest(stored_manifest(manifest))
    return folder.path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_run(tmp_path / "results")


def found(run: Path) -> list[Checked]:
    return [one for one in verify_run(run) if one.state != OK]


def told(run: Path, state: str = DIFFERS) -> list[str]:
    return [one.where for one in found(run) if one.state == state]


def status(run: Path) -> int:
    return exit_status(Counter(one.state for one in verify_run(run)))


def edit(path: Path, change: Callable[[Json], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=1))


def listed_anew(run: Path) -> None:
    """The lists of digests as somebody would make them who hides a change."""
    for cell in (run / "cells").iterdir():
        (cell / SUMS).write_text(cell_sums(cell))
    (run / SUMS).write_text(run_sums(run))


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_run_as_it_was_written(run: Path) -> None:
    assert [one for one in found(run) if one.state != NOTE] == []
    assert status(run) == 0
    files = sum(one.files for one in verify_run(run))
    assert files == len(list(files_below(run))) - len((".lock", SUMS))


def test_a_changed_bit_of_any_file_is_found_and_named(run: Path) -> None:
    for name in files_below(run):
        path = run / name
        if name in (".lock", SUMS) or not path.stat().st_size:
            continue
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        assert any(where.startswith(name) for where in told(run)), name
        path.write_bytes(content)
    assert status(run) == 0


def test_a_file_that_is_gone_is_named(run: Path) -> None:
    for name in ("manifest.json", "results.json", f"cells/{PRESENT}/kmsg.log", f"cells/{PRESENT}/{SUMS}"):
        content = (run / name).read_bytes()
        (run / name).unlink()
        assert name in told(run)
        assert status(run) == 1
        (run / name).write_bytes(content)


def test_a_file_that_came_later_is_named(run: Path) -> None:
    (run / "cells" / PRESENT / "evidence" / "lost.json").write_text('{"lost": "forged"}')
    assert told(run) == [f"cells/{PRESENT}/evidence/lost.json"]
    assert status(run) == 1


def test_a_report_may_come_later_and_other_files_are_named(run: Path) -> None:
    for name in ("report.html", "report.md"):
        (run / name).write_text("Made by lab report")
    assert status(run) == 0
    (run / "junit.xml").write_text("<testsuites/>")
    assert told(run, UNKNOWN) == ["junit.xml"]
    assert status(run) == 3


def test_a_cell_that_is_gone_or_came_later_is_named(run: Path) -> None:
    shutil.copytree(run / "cells" / PRESENT, run / "cells" / "more@debian12")
    assert "cells/more@debian12" in told(run)
    shutil.rmtree(run / "cells" / "more@debian12")
    shutil.rmtree(run / "cells" / PRESENT)
    assert {f"cells/{PRESENT}/{SUMS}", f"cells/{PRESENT}"} <= set(told(run))


def test_a_cell_exchanged_with_its_list_is_found(run: Path) -> None:
    cell = run / "cells" / PRESENT
    (cell / "console.log").write_text("another")
    (cell / SUMS).write_text(cell_sums(cell))
    assert told(run) == [f"cells/{PRESENT}/{SUMS}"]


def test_a_kept_machine_may_be_removed(run: Path) -> None:
    (run / "cells" / PRESENT / "machine").write_text("memory")
    listed_anew(run)
    assert status(run) == 0
    (run / "cells" / PRESENT / "machine").unlink()
    assert (status(run), told(run, NOTE)[0]) == (0, f"cells/{PRESENT}/machine")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_named_and_not_opened(run: Path, kind: str) -> None:
    path = run / "cells" / PRESENT / "kmsg.log"
    kept = path.with_name("aside")
    path.rename(kept)
    make: dict[str, Callable[[], None]] = {
        "link": lambda: path.symlink_to(kept.name),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }
    make[kind]()
    assert f"cells/{PRESENT}/kmsg.log" in told(run)


@pytest.mark.parametrize("text", ["damaged", f"{'a' * 64}  ../../../etc/passwd\n", f"{'a' * 64}  /etc/passwd\n", "\0"])
def test_a_damaged_list_is_named_and_leads_nowhere(run: Path, text: str) -> None:
    for folder in (run, run / "cells" / PRESENT):
        kept = (folder / SUMS).read_text()
        (folder / SUMS).write_text(text)
        assert any("is damaged" in one.what and one.state == DIFFERS for one in found(run))
        assert status(run) == 1
        (folder / SUMS).write_text(kept)


@pytest.mark.parametrize("cut", ["manifest.json", "results.json", ""])
def test_a_list_that_lacks_what_every_run_has_was_cut(run: Path, cut: str) -> None:
    """With the folder of cells gone, nothing else would tell."""
    shutil.rmtree(run / "cells")
    lines = (run / SUMS).read_text().splitlines(keepends=True)
    kept = [line for line in lines if cut and not line.endswith(f"  {cut}\n") and "cells/" not in line]
    (run / SUMS).write_text("".join(kept))
    assert told(run) == ([cut] if cut else ["manifest.json", "results.json"])


def test_judging_again_is_no_violation(run: Path) -> None:
    judge_run(run)
    assert status(run) == 0


# -- runs that ended badly, and older ones ----------------------------------------------------------------------------


def test_a_run_without_digests_says_so_and_is_not_ok(run: Path) -> None:
    for path in run.rglob(SUMS):
        path.unlink()
    assert told(run, UNKNOWN) == ["manifest.json, results.json", *(f"cells/{name}" for name in sorted(CELLS))]
    assert all("recorded no digests yet" in one.what for one in found(run) if one.state == UNKNOWN)
    assert (status(run), told(run)) == (3, [])


def test_a_killed_run_is_not_ok_and_its_cells_are_verified(run: Path) -> None:
    (run / SUMS).unlink()
    edit(run / "manifest.json", lambda manifest: manifest.update(ended_at=None, complete=False))
    edit(run / "results.json", lambda results: results["cells"].pop())
    (run / "cells" / ".partial-x@y").mkdir()
    assert status(run) == 3
    assert told(run) == []
    assert {"manifest.json", f"cells/{PRESENT}"} <= set(told(run, UNKNOWN))
    assert "cells/.partial-x@y" in told(run, NOTE)
    (run / "cells" / PRISTINE / "console.log").write_text("changed")
    assert status(run) == 1


@pytest.mark.parametrize("name", ["manifest.json", "results.json"])
@pytest.mark.parametrize("text", ["{", "[]", "\0", "[" * 100_000])
def test_a_damaged_document_is_named(run: Path, name: str, text: str) -> None:
    (run / name).write_text(text)
    listed_anew(run)
    assert name in told(run)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "is no run's folder"), (tmp_path / "nowhere", "there is no such run")):
        with pytest.raises(ScenarioError, match=words):
            list(verify_run(path))


def test_a_run_of_a_newer_lab_is_refused(run: Path) -> None:
    edit(run / "results.json", lambda results: results.update(schema_version=2))
    with pytest.raises(ScenarioError, match="schema_version is 2"):
        list(verify_run(run))


# -- does it agree with itself? ---------------------------------------------------------------------------------------


def test_results_that_are_not_the_cells_are_found(run: Path) -> None:
    edit(run / "results.json", lambda results: results["cells"][0].update(drops=7))
    listed_anew(run)
    assert told(run) == [f"cells/{PRISTINE}"]
    edit(run / "results.json", lambda results: results["cells"].pop(0))
    listed_anew(run)
    assert [one.what.partition(";")[0] for one in found(run) if one.state == DIFFERS] == ["is not in results.json"]
    edit(run / "results.json", lambda results: results["cells"].append({"cell": "../../x"}))
    listed_anew(run)
    assert "cells/../../x" in told(run)


def test_a_scenario_that_means_something_else_is_found(run: Path) -> None:
    path = run / "cells" / PRESENT / "scenario.toml"
    path.write_text(path.read_text().replace("max = 100", "max = 101"))
    listed_anew(run)
    assert told(run) == [f"cells/{PRESENT}/scenario.toml"]
    path.write_text("version = 99")
    listed_anew(run)
    assert (told(run), told(run, UNKNOWN)) == ([], [f"cells/{PRESENT}/scenario.toml"])


def test_a_comment_in_a_scenario_changes_only_its_file_s_digest(run: Path) -> None:
    path = run / "cells" / PRESENT / "scenario.toml"
    path.write_text(f"# a comment\n{path.read_text()}")
    listed_anew(run)
    assert status(run) == 0


def test_digests_of_scenarios_that_differ_are_found(run: Path) -> None:
    edit(run / "manifest.json", lambda manifest: manifest["scenarios"].update(pristine="0" * 64))
    listed_anew(run)
    assert set(told(run)) == {f"cells/{PRISTINE}", "manifest.json: scenario_files.pristine"}


# -- results alone ----------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(run: Path, tmp_path: Path) -> Path:
    """As results/reference/ is: the documents, and no evidence."""
    folder = tmp_path / "alone"
    folder.mkdir()
    for name in ("manifest.json", "results.json"):
        shutil.copy(run / name, folder)
    (folder / SUMS).write_text(run_sums(folder))
    return folder


def test_results_alone_are_verified_as_far_as_they_go(alone: Path) -> None:
    assert status(alone) == 0
    assert "cells" in told(alone, NOTE)


def test_without_the_texts_todays_scenarios_will_do_if_they_mean_the_same(
    alone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    edit(alone / "manifest.json", lambda manifest: manifest.pop("scenario_files"))
    (alone / SUMS).write_text(run_sums(alone))
    unknown = told(alone, UNKNOWN)
    edit(alone / "manifest.json", lambda manifest: manifest.update(scenarios={"pristine": "0" * 64}))
    (alone / SUMS).write_text(run_sums(alone))
    assert told(alone, UNKNOWN) == ["manifest.json: scenarios.pristine"]
    assert status(alone) == 3
    assert all(where.startswith("manifest.json: scenarios.") for where in unknown)


def test_the_reference_results_are_as_they_were_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert told(ROOT / "results" / "reference") == []
    assert (ROOT / "results" / "reference" / SUMS).is_file()


# -- what it was made of ----------------------------------------------------------------------------------------------


def an_image(cache: Path, manifest: Json) -> Path:
    """An image in the cache, whose one file is what the manifest says of it."""
    target = manifest["targets"]["debian12"]
    folder = cache / "conntrack-lab" / "images" / "debian12-000000000000"
    folder.mkdir(parents=True)
    described = {
        "name": "debian12",
        "digest": target["image_digest"],
        "kernel_release": target["kernel_release"],
        "sha256s": target["image_sha256s"],
        "built": target["image_built"],
    }
    (folder / "image.json").write_text(json.dumps(described))
    return folder


def test_an_image_that_is_gone_is_told_and_no_fault(run: Path) -> None:
    assert [(one.state, one.what) for one in found(run)] == [
        (NOTE, "the one that was used is not in the cache"),
    ]


def test_an_image_that_is_there_is_verified(run: Path, tmp_path: Path) -> None:
    folder = an_image(tmp_path / "cache", json.loads((run / "manifest.json").read_text()))
    names = json.loads((folder / "image.json").read_text())["sha256s"]
    assert [one.what for one in found(run)] == ["is gone"] * len(names)
    for name in names:
        (folder / name).write_text("another content")
    assert status(run) == 1
    assert all("was recorded" in one.what for one in found(run))


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_tells_what_is_wrong_and_one_line_in_the_end(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("verified: ")
    (run / "cells" / PRESENT / "kmsg.log").write_text("changed")
    assert cli.main(["verify", str(run)]) == 1
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"DIFFERS  cells/{PRESENT}/kmsg.log: its SHA-256 is ")
    assert last.endswith("; 1 differs")
    assert cli.main(["verify", str(run.parent)]) == 2
    assert "hint: " in capsys.readouterr().err


def test_names_of_files_are_made_safe_to_show(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "cells" / PRESENT / "\x1b[2J\nforged").write_text("")
    os.close(os.open(os.fsencode(run / "cells" / PRESENT) + b"/\xff", os.O_CREAT))
    assert cli.main(["verify", str(run)]) == 1
    out = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in out)
    assert not any(line.startswith("forged") for line in out.splitlines())


def test_verdicts() -> None:
    assert verdict({OK: 3, NOTE: 1}, 9) == "verified: 9 files are as recorded"
    assert verdict({DIFFERS: 1, UNKNOWN: 2}, 9) == (
        "DIFFERS: 9 files are as recorded; 1 differs, 2 could not be verified"
    )
    assert (exit_status({}), exit_status({UNKNOWN: 1}), exit_status({UNKNOWN: 1, DIFFERS: 1})) == (0, 3, 1)
