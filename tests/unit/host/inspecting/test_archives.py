"""Files of others: bounded, and nothing is followed, unpacked or trusted."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.core.errors import ScenarioError
from lab.host.inspecting import archives
from lab.host.inspecting.archives import archive_files, file_text, folder_files


def everything(name: str) -> bool:
    return True


def packed(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_only_what_is_wanted_is_kept(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tgz", (member("x/a"), b"one"), (member("x/b"), b"two"))
    assert archive_files(path, lambda name: name.endswith("b")) == {"x/b": "two"}


def test_names_are_those_below_the_folder(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tgz", (member("./x/a"), b"one"))
    assert archive_files(path, lambda name: name == "x/a") == {"x/a": "one"}


def test_links_are_passed_over(tmp_path: Path) -> None:
    link, hard = member("l", tarfile.SYMTYPE, "/etc/shadow"), member("h", tarfile.LNKTYPE, "a")
    path = packed(tmp_path / "a.tgz", (member("a"), b"one"), (link, b""), (hard, b""))
    assert archive_files(path, everything) == {"a": "one"}


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (member("../../etc/passwd"), "leads out"),
        (member("/etc/passwd"), "leads out"),
        (member("dev", tarfile.CHRTYPE), "device node"),
        (member("dev", tarfile.BLKTYPE), "device node"),
        (member("pipe", tarfile.FIFOTYPE), "device node"),
    ],
)
def test_what_no_record_has_is_refused(tmp_path: Path, info: tarfile.TarInfo, words: str) -> None:
    path = packed(tmp_path / "a.tgz", (info, b""))
    with pytest.raises(ScenarioError, match=words):
        archive_files(path, everything)


def test_a_bomb_is_refused_by_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 100_000)
    path = packed(tmp_path / "a.tgz", (member("a"), b"\0" * 200_000))
    with pytest.raises(ScenarioError, match="unpacks to more"):
        archive_files(path, everything)


def test_too_much_that_is_wanted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_KEPT_BYTES", 100)
    path = packed(tmp_path / "a.tgz", (member("a"), b"x" * 200))
    with pytest.raises(ScenarioError, match="more than"):
        archive_files(path, everything)


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: data[:40] + b"XXXX" + data[44:], lambda data: b"\x1f\x8bno"],
)
def test_a_damaged_archive_is_said(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = packed(tmp_path / "a.tgz", (member("a"), os.urandom(50_000)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ScenarioError, match=r"archive|damaged"):
        archive_files(path, everything)


def test_a_folders_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("one")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert folder_files(tmp_path, everything) == {"sub/a": "one"}


def test_a_large_file_is_read_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 10)
    (tmp_path / "a").write_text("x" * 50)
    with pytest.raises(ScenarioError, match="larger"):
        file_text(tmp_path / "a")


@pytest.mark.parametrize("kept", [512 * 2, 512 * 2 + 100, 512 * 3 + 100])
def test_an_archive_that_was_cut_is_damaged_and_not_a_shorter_one(tmp_path: Path, kept: int) -> None:
    path = packed(tmp_path / "a.tgz", (member("a"), b"one"), (member("b"), b"two"))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:kept]))
    with pytest.raises(ScenarioError, match="cannot be read as an archive"):
        archive_files(path, everything)
