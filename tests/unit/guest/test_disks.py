"""Looking into another system's root: no link leads out of it."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from lab.guest import disks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its root")


@pytest.fixture
def root(tmp_path: Path) -> str:
    outside = tmp_path / "secret"
    outside.write_text("outside")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/os-release").write_text("ID=x\n")
    (root / "etc/os-release").symlink_to("/usr/lib/os-release")
    (root / "etc/up").symlink_to("../../secret")
    (root / "etc/away").symlink_to(outside)
    (root / "kernel").write_bytes(bytes(range(256)) * 8192)
    return str(root)


def test_texts_follow_links_within_the_root_alone(root: str) -> None:
    found = disks.texts(root, ["etc/os-release", "etc/up", "etc/away", "none"], 100)
    assert found["etc/os-release"] == {"text": "ID=x\n", "error": None, "truncated": False}
    assert [found[path]["error"] for path in ("etc/up", "etc/away", "none")] == ["ENOENT"] * 3
    assert disks.texts(root, ["usr/lib/os-release"], 2)["usr/lib/os-release"]["truncated"] is True
    assert Path("/").samefile(os.path.realpath("/proc/self/root"))


def test_what_matches_is_listed_with_its_links(root: str) -> None:
    found = {one["path"]: one for one in disks.look(root, ["etc/*", "usr/*", "etc/os-release"])}
    assert sorted(found) == ["etc/away", "etc/os-release", "etc/up", "usr/lib"]
    assert found["etc/os-release"]["link"] == "/usr/lib/os-release"
    assert found["usr/lib"]["folder"] is True


def test_a_file_comes_in_parts(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "PART_BYTES", 1_000_000)
    parts: list[bytes] = []
    content = (Path(root) / "kernel").read_bytes()
    assert disks.fetch(root, "kernel", 10**8, lambda part: parts.append(base64.b64decode(part))) == len(content)
    assert (len(parts), b"".join(parts)) == (3, content)
    parts.clear()
    assert disks.fetch(root, "kernel", 100, lambda part: parts.append(base64.b64decode(part))) == 100
    assert parts == [content[:100]]


def test_what_is_not_there_fails_and_the_root_is_the_own_again(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        disks.fetch(root, "none", 100, lambda part: None)
    assert Path(root).exists()


def test_the_disks_of_this_machine_are_described() -> None:
    name = next((name for name in os.listdir("/sys/class/block") if os.access(f"/dev/{name}", os.R_OK)), None)
    if name is None:
        pytest.skip("no block device here")
    first = disks.partitions(name)[0]
    assert first["name"] == name
    assert first["error"] is None or not first["head"]
    assert len(base64.b64decode(first["head"])) <= disks.HEAD_BYTES
