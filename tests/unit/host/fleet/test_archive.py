"""A cell's archive: what was packed comes back, and nothing gets out of its folder."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from lab.core.errors import LabError
from lab.host.fleet import archive


def packed(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


def test_what_was_packed_comes_back(tmp_path: Path) -> None:
    (tmp_path / "from" / "evidence").mkdir(parents=True)
    (tmp_path / "from" / "evidence" / "steps.json").write_bytes(b"{}")
    (tmp_path / "from" / "empty").write_bytes(b"")
    archive.unpack(archive.pack(tmp_path / "from"), tmp_path / "to")
    files = {str(path.relative_to(tmp_path / "to")): path.read_bytes() for path in (tmp_path / "to").rglob("*.*")}
    assert files == {"evidence/steps.json": b"{}"}
    assert (tmp_path / "to" / "empty").read_bytes() == b""


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "a//b", ".", "a/./b", "folder/"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(LabError, match="an archive with the name"):
        archive.unpack(packed(**{name: b"x"}), place)
    assert [path.name for path in tmp_path.rglob("*")] == ["place"]


def test_a_damaged_archive_is_refused_wherever_it_is_damaged(tmp_path: Path) -> None:
    whole = packed(result=os.urandom(100), plan=b"a" * 1000)
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        folder = tmp_path / str(place)
        folder.mkdir()
        try:
            archive.unpack(bytes(changed), folder)
        except LabError:
            continue
        # the digests of the cell's own list are what is left to tell
        assert len([*folder.iterdir()]) <= 2
    for length in range(0, len(whole), 11):
        with pytest.raises(LabError):
            archive.unpack(whole[:length], tmp_path)


def test_more_than_a_cell_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 100)
    with pytest.raises(LabError, match="an archive of more than"):
        archive.unpack(packed(large=b"\0" * 101), tmp_path)
    (tmp_path / "large").write_bytes(b"\0" * 101)
    with pytest.raises(LabError, match="its files have more than"):
        archive.pack(tmp_path)


def test_a_member_that_is_larger_than_the_list_says_is_refused(tmp_path: Path) -> None:
    data = bytearray(packed(large=b"\0" * 5000))
    sizes = (5000).to_bytes(4, "little")
    assert data.count(sizes) == 2
    with pytest.raises(LabError):
        archive.unpack(bytes(data.replace(sizes, (10).to_bytes(4, "little"))), tmp_path)
