"""Images on their way to a worker: they are in its cache when they are whole, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.core.errors import LabError
from lab.core.scenario import MachineSpec
from lab.host import images
from lab.host.fleet import receiving
from lab.host.fleet.artifacts import Artifact, sources_of
from lab.host.machines.kinds import parse_target
from lab.host.machines.qemu.preparing import PreparedImage
from lab.host.releases import TARGETS
from tests.unit.host.fleet.playback import put_image

pytestmark = pytest.mark.asyncio


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreparedImage:
    """A client's image; from then on this is a worker, with an empty cache."""
    put_image(tmp_path / "client")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "client"))
    found = images.load(TARGETS["debian12"])
    assert found is not None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "worker"))
    return PreparedImage(parse_target("debian12"), found, None)


async def send(image: PreparedImage, change: bytes = b"") -> Artifact:
    (source,) = sources_of(image, MachineSpec())
    assert await receiving.begin(source.artifact)
    for file in source.artifact.files:
        content = (source.folder / file.name).read_bytes()
        for offset in range(0, len(content), 5):
            await receiving.write(source.artifact, file.name, offset, change or content[offset : offset + 5])
    return source.artifact


async def test_an_image_that_came_is_found_by_its_digests(image: PreparedImage) -> None:
    artifact = await send(image)
    assert not artifact.is_there()
    await receiving.end(artifact)
    assert artifact.is_there()
    found = images.with_files(image.image.sha256s)
    assert found is not None
    images.verify(found)
    assert not await receiving.begin(artifact)  # no second time


async def test_an_image_with_a_changed_byte_does_not_get_in(image: PreparedImage) -> None:
    artifact = await send(image, change=b"\0")
    with pytest.raises(LabError, match=r"sha256 is .*, expected"):
        await receiving.end(artifact)
    assert not artifact.is_there()
    assert images.list_images() == ()


@pytest.mark.parametrize(("name", "offset"), [("../out", 0), ("other", 0), ("image.json", 10**6)])
async def test_nothing_but_the_files_of_an_artifact_is_written(image: PreparedImage, name: str, offset: int) -> None:
    artifact = await send(image)
    with pytest.raises(LabError, match="is no part of debian12"):
        await receiving.write(artifact, name, offset, b"x")
