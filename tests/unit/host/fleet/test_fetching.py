"""Images from a web server near a worker, filled as docs/fleet.md says: whole, or they come from the client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lab.core.errors import LabError
from lab.core.scenario import MachineSpec
from lab.host import images
from lab.host.fleet.artifacts import Artifact, sources_of
from lab.host.fleet.fetching import Fetcher, parse_base
from lab.host.machines.kinds import parse_target
from lab.host.machines.qemu.preparing import PreparedImage
from lab.host.releases import TARGETS
from tests.unit.host.fleet.playback import put_image
from tests.unit.host.fleet.serving import Server, fill


@pytest.fixture
def artifact(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """A client's image that the server has; from then on this is a worker with an empty cache."""
    put_image(tmp_path / "home" / ".cache", padding_bytes=100_000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    image = images.load(TARGETS["debian12"])
    assert image is not None
    (source,) = sources_of(PreparedImage(parse_target("debian12"), image, None), MachineSpec())
    fill(server.folder, tmp_path / "home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "worker"))
    return source.artifact


async def fetch(url: str, artifact: Artifact) -> list[str]:
    said: list[str] = []
    fetcher = Fetcher(url)
    await asyncio.gather(*(fetcher.attempt(artifact, said.append) for _ in range(3)))
    return said


@pytest.mark.asyncio
async def test_an_image_comes_from_the_server_once_for_all_who_need_it(server: Server, artifact: Artifact) -> None:
    assert await fetch(server.url, artifact) == [f"has debian12 (0 MB) from {server.url}"]
    assert sorted(server.asked) == sorted(file.sha256 for file in artifact.files)
    found = images.with_files({file.name: file.sha256 for file in artifact.files if file.name != "image.json"})
    assert found is not None
    images.verify(found)


def _gone(file: Path) -> None:
    file.unlink()


def _changed(file: Path) -> None:
    file.write_bytes(b"x" + file.read_bytes()[1:])


def _longer(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("spoil", "what"),
    [(_gone, "File not found"), (_changed, "sha256 is "), (_longer, "is larger than"), (_cut, "sha256 is ")],
)
async def test_what_the_server_has_not_or_not_whole_is_the_clients(
    spoil: object, what: str, server: Server, artifact: Artifact
) -> None:
    spoil(server.folder / max(artifact.files, key=lambda file: file.size_bytes).sha256)  # type: ignore[operator]
    (said,) = await fetch(server.url, artifact)
    assert said.startswith("asks the client for debian12: ")
    assert what in said
    assert not artifact.is_there()


@pytest.mark.asyncio
async def test_a_server_that_is_not_there_is_no_fault(artifact: Artifact) -> None:
    (said,) = await fetch("http://127.0.0.1:9", artifact)
    assert "cannot fetch http://127.0.0.1:9/" in said
    assert not artifact.is_there()


def test_a_servers_url_is_one_of_the_web() -> None:
    assert parse_base("https://lab.example.org/fleet/") == "https://lab.example.org/fleet"
    for text in ("", "/srv", "file:///srv", "ftp://a", "http://", "http://me:secret@a", "http://a?b", "http://[a"):
        with pytest.raises(LabError, match=r"is no http:// or https:// URL"):
            parse_base(text)
