"""Images made for real: what a damaged one, two builds at once and a killed build lead to.

Builds install a Debian from the mirror (a minute each), in a cache of their own; the damage is done to a copy.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from lab.core.errors import PrerequisiteError
from lab.host import images
from lab.host.releases import TARGETS

pytestmark = pytest.mark.vm

TARGET = TARGETS["debian12"]
ROOT = Path(lab.__file__).parents[1]
BUILD_DEADLINE_SECONDS = 600

# builds an image, each line of progress as it comes, and the image's folder and time last
BUILDER = """
from lab.host import images
from lab.host.releases import TARGETS
image = images.build(TARGETS["debian12"], images.BuildOptions(lambda line: print(line, flush=True)))
print(image.directory, image.built)
"""


@pytest.fixture(scope="module")
def built() -> images.Image:
    """The image of the user's cache, built if it is not there."""
    return images.build(TARGET, images.BuildOptions(lambda line: None, deadline_seconds=BUILD_DEADLINE_SECONDS))


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of images of a cache that begins empty, removed afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield images.images_folder()
    # half a gigabyte, which pytest would keep for three runs
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


def start_builder() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )


def read_until(builder: subprocess.Popen[str], words: str) -> str:
    """The first line with `words` that the builder prints."""
    assert builder.stdout
    lines = []
    for line in builder.stdout:
        lines.append(line)
        if words in line:
            return line
    pytest.fail(f"the builder ended without {words!r}: {''.join(lines)}")


def processes_in(folder: Path) -> dict[int, str]:
    """The processes whose command line names `folder`, by their id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found[int(path.parent.name)] = command
    return found


def assert_gone_within(seconds: float, folder: Path) -> None:
    """No process works on `folder` any more."""
    until_seconds = time.monotonic() + seconds
    while (left := processes_in(folder)) and time.monotonic() < until_seconds:
        time.sleep(0.05)
    assert left == {}


def test_an_image_is_whole_and_says_what_it_holds(built: images.Image) -> None:
    images.verify(built)
    packages = {line.split()[0] for line in built.packages.read_text().splitlines()}
    assert {"python3", "iptables", "nftables", "conntrack", "kmod", "iproute2", "procps"} <= packages
    assert f"linux-image-{built.kernel_release}" in packages


def test_a_damaged_image_is_named(built: images.Image, empty_cache: Path) -> None:
    folder = empty_cache / built.directory.name
    shutil.copytree(built.directory, folder)
    with (folder / "root.ext4").open("r+b") as disk:
        disk.seek(1 << 20)
        disk.write(b"damaged")
    damaged = images.load(TARGET)
    assert damaged is not None
    with pytest.raises(PrerequisiteError, match=r"image debian12 is damaged: .*root\.ext4: sha256 is") as caught:
        images.verify(damaged)
    assert built.sha256s["root.ext4"] in str(caught.value)
    assert caught.value.hint == "lab image build --rebuild debian12"


def test_a_mirror_without_debian_leaves_nothing(empty_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="building image debian12 failed") as caught:
        images.build(TARGET, images.BuildOptions(lambda line: None, f"file://{tmp_path}", deadline_seconds=120))
    assert "image-debian12.log" in caught.value.hint
    assert list(empty_cache.iterdir()) == []


def test_a_build_killed_midway_leaves_no_process_and_two_after_it_share_one_result(empty_cache: Path) -> None:
    with start_builder() as killed:
        read_until(killed, "unpacking the essential packages")
        assert processes_in(empty_cache)
        os.kill(killed.pid, signal.SIGKILL)
    assert_gone_within(1.0, empty_cache)
    assert images.load(TARGET) is None

    with start_builder() as first:
        read_until(first, "starting")
        # the dead builder's folder is gone, the living one's is there
        assert len(list(empty_cache.glob(".tmp-*"))) == 1
        with start_builder() as second:
            read_until(second, "waiting for another build of it")
            results = {read_until(builder, f"{empty_cache}/").strip() for builder in (first, second)}
    assert len(results) == 1
    image = images.load(TARGET)
    assert image is not None
    images.verify(image)
    assert [path.name for path in empty_cache.iterdir()] == [image.directory.name]
