"""An image's file: found, or fetched, and refused unless it is what was meant."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host.cache import Deadline
from lab.host.distributions.image_file import image_file
from lab.host.distributions.source import Digest, ImageSource
from tests.unit.host.distributions.test_table import server

__all__ = ["server"]

QCOW2 = struct.pack(">4sIQIIQI", b"QFI\xfb", 3, 0, 0, 16, 2**20, 0).ljust(1024, b"\0")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def found(source: ImageSource) -> tuple[str, str]:
    file = image_file(source, lambda line: None, Deadline.after(20, "testing"))
    return file.format, file.sha256


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.qcow2").write_bytes(QCOW2)
    assert found(ImageSource(str(tmp_path / "x.qcow2"), None)) == ("qcow2", hashlib.sha256(QCOW2).hexdigest())


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_flipped_byte_is_refused(algorithm: str, tmp_path: Path) -> None:
    file = tmp_path / "x.qcow2"
    digest = Digest(algorithm, hashlib.new(algorithm, QCOW2).hexdigest())
    file.write_bytes(QCOW2)
    assert found(ImageSource(str(file), digest))[0] == "qcow2"
    file.write_bytes(QCOW2[:-1] + b"\1")
    with pytest.raises(PrerequisiteError, match=f"its {algorithm} is [0-9a-f]+, expected {digest.value}"):
        found(ImageSource(str(file), digest))


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"KDMV" + bytes(508))
    with pytest.raises(ScenarioError, match="x is a VMDK image") as refused:
        found(ImageSource(str(tmp_path / "x"), None))
    assert "qemu-img convert" in refused.value.hint
    with pytest.raises(ScenarioError, match=r"no image at .*No such file"):
        found(ImageSource(str(tmp_path / "none"), None))


@pytest.mark.skipif(os.geteuid() != 0, reason="QEMU runs as this user then")
def test_a_file_that_qemu_could_not_read_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "x.qcow2"
    file.write_bytes(QCOW2)
    file.chmod(0o600)
    with pytest.raises(PrerequisiteError, match="others may not read it"):
        found(ImageSource(str(file), None))
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_url_is_fetched_once(server: tuple[str, Path], cache: Path) -> None:
    address, published = server
    (published / "x.qcow2").write_bytes(QCOW2)
    sha256 = hashlib.sha256(QCOW2).hexdigest()
    source = ImageSource(f"{address}/x.qcow2", Digest("sha256", sha256))
    assert found(source) == ("qcow2", sha256)
    (published / "x.qcow2").unlink()
    assert found(source) == ("qcow2", sha256)
    (kept,) = cache.rglob("x.qcow2")
    kept.write_bytes(b"damaged")
    with pytest.raises(PrerequisiteError, match="cannot fetch"):
        found(source)


def test_what_is_fetched_and_is_another_file_leaves_nothing(server: tuple[str, Path], cache: Path) -> None:
    address, published = server
    (published / "x.qcow2").write_bytes(QCOW2 + b"more")
    with pytest.raises(PrerequisiteError, match="its sha256 is"):
        found(ImageSource(f"{address}/x.qcow2", Digest("sha256", hashlib.sha256(QCOW2).hexdigest())))
    assert not list(cache.rglob("x.qcow2"))
