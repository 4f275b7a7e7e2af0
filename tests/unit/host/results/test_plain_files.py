"""Files of folders from elsewhere: nothing but regular files is read, and nothing is written through a link."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.core.errors import ScenarioError
from lab.host.results.judging import judge_run
from lab.host.results.plain_files import Damaged, check_plain, read_bytes, read_json, read_text, sha256_of, write_aside
from tests.unit.host.run.test_runner import stored

__all__ = ["stored"]


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


STRANGE: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to("/etc/hostname"),
    "a dangling link": lambda path: path.symlink_to("/nonexistent"),
    "a folder": lambda path: path.mkdir(),
    "a FIFO": lambda path: os.mkfifo(path),
    "a socket": bind,
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("read", [read_bytes, read_text, read_json, sha256_of])
def test_what_is_no_regular_file_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, read: Callable[[Path], object]
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = Path("file")
    STRANGE[name](path)
    with pytest.raises(Damaged, match=f"file: is damaged: it is {name.replace('dangling ', '')}"):
        read(path)


def test_what_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    for read in (read_bytes, read_text, read_json, sha256_of):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")


def test_a_file_has_a_bound(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 2**20)
    assert len(read_bytes(tmp_path / "file", 2**20)) == 2**20
    (tmp_path / "file").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(Damaged, match="more than 1 MB"):
        read_bytes(tmp_path / "file", 2**20)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff", "no UTF-8: byte 0 is 0xff"),
        (b"", "Expecting value"),
        (b"[]", "no JSON object"),
        (b"[" * 10**5, "recursion"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
    ],
)
def test_damage_of_a_document_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(Damaged, match=rf"x\.json: is damaged: .*{words}") as caught:
        read_json(tmp_path / "x.json")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.hint, again.what) == (str(caught.value), caught.value.hint, caught.value.what)


def test_a_line_end_is_kept(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a\r\nb\rc\n")
    assert read_text(tmp_path / "x") == "a\r\nb\rc\n"


@pytest.mark.parametrize("name", ["file", ".partial-file"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).symlink_to(outside)
    write_aside(folder / "file", "new")
    assert (outside.read_text(), (folder / "file").read_text()) == ("precious", "new")
    assert not (folder / "file").is_symlink() and not (folder / ".partial-file").is_symlink()


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_aside(tmp_path / "file", "\ud800")
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


# -- a run that somebody sent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        "cells/{cell}/samples.csv",
        "cells/{cell}/result.json",
        "cells/{cell}/.partial-result.json",
        ".partial-results.json",
        "results.json",
        ".lock",
        "SHA256SUMS",
    ],
)
def test_judging_writes_nothing_outside_of_the_folder(tmp_path: Path, stored: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    link = stored.parents[1] / place.format(cell=stored.name)
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    with pytest.raises(ScenarioError, match="it is a link"):
        judge_run(stored.parents[1])
    assert outside.read_text() == "precious"


@pytest.mark.parametrize("place", ["cells/other", "cells/{cell}/mitigation", "cells/{cell}/evidence/after"])
def test_a_folder_that_is_a_link_is_not_gone_into(tmp_path: Path, stored: Path, place: str) -> None:
    outside = tmp_path / "outside"
    stored.rename(outside) if place.endswith("other") else outside.mkdir()
    before = sorted(path.name for path in outside.rglob("*"))
    link = stored.parents[1] / place.format(cell=stored.name)
    if link.is_dir():
        link.rename(tmp_path / "gone")
    link.symlink_to(outside)
    with pytest.raises(ScenarioError, match="it is a link"):
        judge_run(stored.parents[1])
    assert sorted(path.name for path in outside.rglob("*")) == before


def test_a_fifo_deep_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    os.mkfifo(tmp_path / "a" / "b" / "pipe")
    with pytest.raises(Damaged, match="a/b/pipe: is damaged: it is a FIFO"):
        check_plain(tmp_path)
