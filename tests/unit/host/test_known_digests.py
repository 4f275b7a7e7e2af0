"""A file is read again when it may be another one, and not before."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lab.host import known_digests
from lab.host.known_digests import known_sha256

OLD = (1_000_000_000, 1_000_000_000)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Which files were read; their change time, which nobody can set back, counts as old."""
    seen: list[Path] = []

    def sha256_of(path: Path) -> str:
        seen.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(known_digests, "sha256_of", sha256_of)
    monkeypatch.setattr(known_digests, "_SETTLED_SECONDS", -60.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return seen


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    os.utime(path, OLD)
    return path


def test_a_file_is_read_once(file: Path, read: list[Path]) -> None:
    assert known_sha256(file) == known_sha256(file) == hashlib.sha256(b"abc").hexdigest()
    assert read == [file]


def test_a_file_that_was_written_since_is_read_again(file: Path, read: list[Path]) -> None:
    known_sha256(file)
    file.write_bytes(b"abd")  # as long as before
    assert known_sha256(file) == hashlib.sha256(b"abd").hexdigest()
    other = file.with_name("other")
    other.write_bytes(b"abe")
    os.utime(other, OLD)
    other.rename(file)
    assert known_sha256(file) == hashlib.sha256(b"abe").hexdigest()
    assert len(read) == 3


def test_a_file_that_was_written_just_now_is_read_again(
    file: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_digests, "_SETTLED_SECONDS", 60.0)
    known_sha256(file)
    known_sha256(file)
    assert read == [file, file]


def test_what_was_read_long_ago_is_read_again(file: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    known_sha256(file)
    monkeypatch.setattr(known_digests, "_GOOD_SECONDS", 0.0)
    known_sha256(file)
    assert read == [file, file]


def test_what_was_read_before_a_reboot_is_read_again(
    file: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known_sha256(file)
    other_boot = tmp_path / "boot_id"
    other_boot.write_text("0c4ed2a8-25a7-4ab0-a1f1-6f3bb8e0a0d4\n")
    monkeypatch.setattr(known_digests, "_BOOT_ID", other_boot)
    known_sha256(file)
    assert read == [file, file]


@pytest.mark.parametrize("text", ["", "[1]", "{", '[["a"], "", "", 0]', '[[], "", "", "x"]'])
def test_a_memory_that_cannot_be_read_is_none(file: Path, read: list[Path], text: str, tmp_path: Path) -> None:
    known_sha256(file)
    (memory,) = (tmp_path / "cache" / "conntrack-lab" / "digests").iterdir()
    memory.write_text(text)
    assert known_sha256(file) == hashlib.sha256(b"abc").hexdigest()
    assert read == [file, file]


def test_a_cache_that_cannot_be_written_costs_a_look(
    file: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no-such")
    assert known_sha256(file) == known_sha256(file) == hashlib.sha256(b"abc").hexdigest()
    assert read == [file, file]


def test_a_file_that_is_gone_is_no_file(file: Path, read: list[Path]) -> None:
    known_sha256(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        known_sha256(file)
