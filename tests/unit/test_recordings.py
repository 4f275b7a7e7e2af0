"""Recordings: unpacked whole, once, and nowhere else; packed the same way each time."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests import recordings


def archive(path: Path, name: str, content: bytes = b"text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return path


def test_readable_and_packed_are_one_folder(tmp_path: Path) -> None:
    stored = tmp_path / "golden"
    archive(stored / "archives" / "a.tar.xz", "cells/packed")
    (stored / "cells").mkdir()
    (stored / "cells" / "plain").write_text("text")
    root = recordings.unpacked(stored, tmp_path / "made")
    assert sorted(path.name for path in (root / "cells").iterdir()) == ["packed", "plain"]
    assert recordings.unpacked(stored, tmp_path / "made") == root
    (stored / "cells" / "plain").write_text("other")
    other = recordings.unpacked(stored, tmp_path / "made")
    assert (other / "cells" / "plain").read_text() == "other"
    assert sorted((tmp_path / "made").iterdir()) == sorted([root, other])


def test_no_member_leads_outside(tmp_path: Path) -> None:
    with pytest.raises(tarfile.FilterError):
        recordings.unpack(archive(tmp_path / "a.tar.xz", "../outside"), tmp_path / "in")
    assert not (tmp_path / "outside").exists()


def test_an_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "LIMIT_BYTES", 3)
    with pytest.raises(ValueError, match="over"):
        recordings.unpack(archive(tmp_path / "a.tar.xz", "file"), tmp_path / "in")


def test_shown_and_packed_again_is_the_same(tmp_path: Path, project_root: Path) -> None:
    script = project_root / "scripts" / "recordings"
    stored = recordings.ARCHIVES / "procfs.tar.xz"
    before = stored.read_bytes()
    copy = tmp_path / "scripts" / "recordings"
    copy.parent.mkdir()
    copy.write_bytes(script.read_bytes())
    made = tmp_path / "tests" / "golden" / "archives" / "procfs.tar.xz"
    made.parent.mkdir(parents=True)
    made.write_bytes(before)
    for command in ("show", "make"):
        subprocess.run([sys.executable, copy, command, "procfs", tmp_path / "shown"], check=True, timeout=60)
    assert made.read_bytes() == before
