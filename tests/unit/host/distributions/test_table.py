"""The table of distributions, and the digests that are pinned in it."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host.distributions import table
from lab.host.distributions.pinning import pin
from lab.host.distributions.source import Digest, parse_source
from lab.host.releases import TARGETS

HEX = "ab" * 32


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "conntrack-lab"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A publisher: its address, and the folder that it shows."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}", folder
        served.shutdown()
        thread.join()


def test_every_shipped_row_has_a_place_and_how_its_digest_is_had() -> None:
    rows = table.rows()
    asked = ("ubuntu", "debian", "alma", "rocky", "centos", "fedora", "opensuse", "arch", "alpine", "amazon")
    assert all(any(name.startswith(one) for name in rows) for one in asked)
    for row in rows.values():
        assert row.place.startswith("https://"), row.name
        assert row.checksums is not None, row.name
        assert row.digest is None, "no digest is shipped: images are built anew all the time"
        assert row.summary, row.name
    assert not set(rows) & set(TARGETS)


def test_a_row_without_a_digest_says_how_to_get_it() -> None:
    with pytest.raises(ScenarioError) as refused:
        table.rows()["ubuntu24.04"].source()
    assert refused.value.hint.startswith("lab image pin ubuntu24.04")


def test_rows_of_the_users_own(settings: Path) -> None:
    (settings / "distributions.toml").write_text(
        f'[mine]\npath = "/images/mine.qcow2"\n["ubuntu24.04"]\nurl = "https://example.org/x.img"\nsha256 = "{HEX}"\n'
    )
    rows = table.rows()
    assert rows["mine"].source().path == Path("/images/mine.qcow2")
    assert rows["ubuntu24.04"].source().digest == Digest("sha256", HEX)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[a\n", "is no TOML"),
        ("a = 1\n", "a: is no table of texts"),
        ('[a]\nsummary = "x"\n', "has neither url nor path"),
        ('[a]\npth = "x"\n', "unknown key 'pth'"),
        ('[a]\npath = "x"\nsha256 = "12"\n', "is no sha256"),
        ('[debian12]\npath = "x"\n', "cannot be the name of a distribution"),
    ],
)
def test_a_file_of_rows_that_is_wrong(settings: Path, text: str, why: str) -> None:
    (settings / "distributions.toml").write_text(text)
    with pytest.raises(ScenarioError, match=why) as refused:
        table.rows()
    assert str(settings / "distributions.toml") in str(refused.value)


def test_a_pin_takes_the_digest_that_the_publisher_names(settings: Path, server: tuple[str, Path]) -> None:
    address, published = server
    (published / "SUMS").write_text(f"{HEX}  mine-2026.1.qcow2\n{'cd' * 32}  other.qcow2\n")
    (settings / "distributions.toml").write_text(
        f'[mine]\nurl = "{address}/mine-*.qcow2"\nchecksums = "{address}/SUMS"\n'
    )
    assert pin("mine", None) == (f"{address}/mine-2026.1.qcow2", Digest("sha256", HEX))
    source = table.rows()["mine"].source()
    assert (source.place, source.digest) == (f"{address}/mine-2026.1.qcow2", Digest("sha256", HEX))
    # the row is of another place now: the pin is none of its
    (settings / "distributions.toml").write_text(f'[mine]\nurl = "{address}/new.qcow2"\n')
    with pytest.raises(ScenarioError, match="is not known here"):
        table.rows()["mine"].source()


def test_a_pin_that_the_publisher_does_not_help_with(settings: Path, server: tuple[str, Path]) -> None:
    address, published = server
    (published / "SUMS").write_text(f"{HEX}  other.qcow2\n")
    (settings / "distributions.toml").write_text(
        f'[mine]\nurl = "{address}/mine.qcow2"\nchecksums = "{address}/SUMS"\n'
        f'[gone]\nurl = "{address}/gone.qcow2"\nchecksums = "{address}/GONE"\n'
        f'[bare]\nurl = "{address}/bare.qcow2"\n'
    )
    with pytest.raises(PrerequisiteError, match=r"names no file like mine\.qcow2"):
        pin("mine", None)
    with pytest.raises(PrerequisiteError, match="cannot fetch"):
        pin("gone", None)
    with pytest.raises(ScenarioError, match="no file of checksums"):
        pin("bare", None)
    with pytest.raises(ScenarioError, match="there is no distribution 'nothing'"):
        pin("nothing", None)


def test_a_pin_by_an_image_fetched_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "alma.qcow2"
    file.write_bytes(b"image")
    place, digest = pin("alma9", file)
    source = table.rows()["alma9"].source()
    assert (source.place, source.digest) == (place, digest)
    assert source.path == file
    with pytest.raises(ScenarioError, match="No such file"):
        pin("alma9", tmp_path / "none")


def test_a_damaged_file_of_pins_is_named(settings: Path) -> None:
    (settings / "pins.json").write_text('{"x": 1}')
    with pytest.raises(ScenarioError, match=r"pins\.json: is damaged"):
        table.rows()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no image"),
        ("https://example.org/x.qcow2", "its digest is not given"),
        ("https://example.org/x.qcow2#sha256=12", "is no sha256"),
        (f"x.qcow2#sha512={HEX}", "is no sha512"),
    ],
)
def test_images_that_cannot_be_meant(text: str, why: str) -> None:
    with pytest.raises(ScenarioError, match=why):
        parse_source(text)


def test_images_by_path_and_url() -> None:
    assert parse_source("~/x.qcow2").path == Path.home() / "x.qcow2"
    assert parse_source("x#1.qcow2").place == "x#1.qcow2"
    source = parse_source(f"https://example.org/x.qcow2#sha256={HEX.upper()}")
    assert (source.is_url, source.digest) == (True, Digest("sha256", HEX))
