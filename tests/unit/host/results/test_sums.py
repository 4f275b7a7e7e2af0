"""Lists of digests: those that coreutils reads and writes, and when a run's are written."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.manifest import Manifest
from lab.core.sums import SUMS, parse_sums, sums_text
from lab.host.results import store, sums
from lab.host.results.judging import judge_run
from lab.host.results.records import to_json
from lab.host.results.sums import files_below, listed
from tests.recordings import GOLDEN
from tests.records import stored

CELLS = GOLDEN / "cells"
PRISTINE, PRESENT = "pristine@debian12", "nat-present,iptables=nft@debian13"
DIGEST = "a" * 64
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
)


@given(st.dictionaries(NAMES, st.just(DIGEST)))
def test_what_is_written_is_read_back(digests: dict[str, str]) -> None:
    assert parse_sums(sums_text(digests)) == digests


@pytest.mark.parametrize(
    "name", ["plain", "with blank", "a\\b", "a\nb", "a\rb", " first", "a/b c/d", "nat,x=y@debian12"]
)
def test_coreutils_agrees(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("content")
    digest = hashlib.sha256(b"content").hexdigest()
    (tmp_path / SUMS).write_text(sums_text({name: digest}))
    done = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done
    theirs = subprocess.run(["sha256sum", name], cwd=tmp_path, capture_output=True, check=True, text=True)
    assert parse_sums(theirs.stdout) == {name: digest}


def test_the_mark_of_binary_files_is_read() -> None:
    assert parse_sums(f"{DIGEST} *name\n") == {"name": DIGEST}
    assert parse_sums("") == {}


@pytest.mark.parametrize(
    "text",
    [
        "hello\n",
        f"{DIGEST} name\n",
        f"{DIGEST[:-1]}  name\n",
        f"{DIGEST.upper()}  name\n",
        f"{DIGEST}  \n",
        f"{DIGEST}  /etc/passwd\n",
        f"{DIGEST}  ../name\n",
        f"{DIGEST}  a/../b\n",
        f"{DIGEST}  a//b\n",
        f"{DIGEST}  .\n",
        f"{DIGEST}  a\n\n",
        f"{DIGEST}  a\n{DIGEST}  a\n",
        f"\\{DIGEST}  a\\tb\n",
        f"{DIGEST}  a\0b\n",
    ],
)
def test_anything_else_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"line \d"):
        parse_sums(text)


def test_files_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/d", "b/a", "a"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list(files_below(tmp_path)) == ["a", "link", "loop", "b/a", "b/c/d"]


# -- a run's ----------------------------------------------------------------------------------------------------------


def a_run(results: Path) -> Path:
    """A run of two recorded cells, written as the runner writes it."""
    with store.create_run(results) as folder:
        for cell in (PRISTINE, PRESENT):
            with folder.cell(cell) as partial:
                shutil.copytree(CELLS / cell, partial, dirs_exist_ok=True)
                store.write_json(partial / "result.json", to_json(stored({"cell": cell})))
        folder.write_manifest(Manifest())
        assert listed(folder.path) is None
        folder.write_results([stored({"cell": PRISTINE}), stored({"cell": PRESENT})])
        folder.write_manifest(Manifest(ended_at="now"))
    return folder.path


def test_every_file_of_a_cell_is_listed_and_coreutils_checks_all(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    for folder in (run, *(run / "cells").iterdir()):
        done = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done
    cell = run / "cells" / PRISTINE
    assert set(listed(cell) or ()) == set(files_below(cell)) - {SUMS}
    assert list(listed(run) or ()) == [
        *("manifest.json", "results.json"),
        *(f"cells/{name}/{SUMS}" for name in (PRESENT, PRISTINE)),
    ]


def test_a_list_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.RunFolder(tmp_path)
    monkeypatch.setattr(sums, "cell_sums", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError), run.cell("a@b") as folder:
        (folder / "plan.json").write_text("{}")
    assert list((tmp_path / "cells").iterdir()) == []


def test_judging_again_renews_what_is_derived_and_nothing_else(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    cell = run / "cells" / PRISTINE
    before = listed(cell) or {}
    (cell / "kmsg.log").write_text("changed")
    judge_run(run)
    after = listed(cell) or {}
    assert after["kmsg.log"] == before["kmsg.log"]
    assert after["result.json"] != before["result.json"]
    assert set(after) - set(before) == {"samples.csv"}
    assert (listed(run) or {})["results.json"] == hashlib.sha256((run / "results.json").read_bytes()).hexdigest()
    path = f"cells/{PRISTINE}/{SUMS}"
    assert (listed(run) or {})[path] == hashlib.sha256((run / path).read_bytes()).hexdigest()


def test_judging_again_does_not_vouch_for_a_list_that_was_exchanged(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    cell = run / "cells" / PRISTINE
    before = listed(run)
    (cell / "kmsg.log").write_text("changed")
    (cell / SUMS).write_text(sums.cell_sums(cell))
    judge_run(run)
    assert before is not None
    assert (listed(run) or {})[f"cells/{PRISTINE}/{SUMS}"] == before[f"cells/{PRISTINE}/{SUMS}"]


def test_judging_a_run_without_lists_makes_none(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(CELLS / PRISTINE, run / "cells" / PRISTINE)
    judge_run(run)
    assert not list(run.rglob(SUMS))


def test_a_damaged_list_is_left_as_it_is(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    for path in (run / SUMS, run / "cells" / PRISTINE / SUMS):
        path.write_text("damaged")
    judge_run(run)
    assert (run / SUMS).read_text() == (run / "cells" / PRISTINE / SUMS).read_text() == "damaged"
    assert len(json.loads((run / "results.json").read_text())["cells"]) == 2
