"""What a user names as a kernel: how it is read, and files by URL and digest."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host.cache import Deadline
from lab.host.kernels import fetch as fetching
from lab.host.kernels.fetch import fetch, fetch_source, packages_folder
from lab.host.kernels.source import AptPart, LocalPart, UrlPart, join_sources, local_path, parse_source

DIGEST = "0123456789abcdef" * 4
CONTENT = b"a kernel's package" * 1000


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("/srv/a.deb", (LocalPart(Path("/srv/a.deb")),)),
        ("a.deb,/srv/b.deb", (LocalPart(Path("a.deb")), LocalPart(Path("/srv/b.deb")))),
        ("apt:bookworm", (AptPart("bookworm", None),)),
        (
            "apt:bookworm-security/linux-image-6.1.0-56-amd64",
            (AptPart("bookworm-security", "linux-image-6.1.0-56-amd64"),),
        ),
        (f"https://host.test/x/k.rpm?a=b#sha256={DIGEST.upper()}", (UrlPart("https://host.test/x/k.rpm?a=b", DIGEST),)),
    ],
)
def test_what_a_source_means(text: str, parts: tuple[object, ...]) -> None:
    assert parse_source(text) == parts


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a.deb,,b.deb", "A.deb,B.deb"),
        ("apt:", "lab kernel list"),
        ("apt:../etc", "lab kernel list"),
        ("apt:bookworm/-oDebug=1", "lab kernel list"),
        ("apt:bookworm/a b", "lab kernel list"),
        ("https://host.test/k.deb", "https://host.test/k.deb#sha256=HEX"),
        ("https://host.test/k.deb#sha256=12", "64 digits"),
    ],
)
def test_what_cannot_mean_anything_is_refused_with_an_example(text: str, hint: str) -> None:
    with pytest.raises(ScenarioError, match=r"^kernel ") as caught:
        parse_source(text)
    assert hint in caught.value.hint


def test_the_home_folder_is_meant_by_its_sign() -> None:
    assert parse_source("~/k.deb") == (LocalPart(Path.home() / "k.deb"),)


def test_several_options_make_one_kernel() -> None:
    assert join_sources(["a.deb", "b.deb"]) == "a.deb,b.deb"
    assert join_sources([]) is None


def test_what_is_on_this_machine() -> None:
    assert local_path("a.deb") == Path("a.deb")
    assert local_path("a.deb,b.deb") is None and local_path("apt:sid") is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host.test/pool/k_1.deb?x=/y", "k_1.deb"),
        ("https://host.test/a/..%2Fb", "..%2Fb".replace("%", "_")),
        ("https://host.test/", "host.test"),
    ],
)
def test_a_file_has_a_plain_name_whatever_the_url_holds(url: str, name: str) -> None:
    assert UrlPart(url, DIGEST).name == name


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path.endswith("k.deb")
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(CONTENT if found else b"")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a web server on loopback that has /k.deb, and a cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def get(url: str, sha256: str) -> list[Path]:
    return fetch(UrlPart(url, sha256), lambda line: None, Deadline.after(30, "fetching"))


def test_a_file_is_fetched_once_and_kept_by_its_digest(server: str) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    (path,) = get(f"{server}/k.deb", digest)
    assert path == packages_folder() / digest / "k.deb" and path.read_bytes() == CONTENT
    # the second time nobody is asked
    assert get("http://127.0.0.1:9/gone", digest) == [path]
    # a copy that was damaged is fetched again
    path.write_bytes(b"damaged")
    assert get(f"{server}/k.deb", digest)[0].read_bytes() == CONTENT


def test_another_file_than_was_meant_is_refused_with_both_digests(server: str) -> None:
    with pytest.raises(
        PrerequisiteError, match=rf"its sha256 is {hashlib.sha256(CONTENT).hexdigest()}, expected {DIGEST}"
    ):
        get(f"{server}/k.deb", DIGEST)
    assert list(packages_folder().iterdir()) == []


@pytest.mark.parametrize("path", ["/gone", "http://127.0.0.1:9/k.deb"])
def test_a_file_that_cannot_be_had_is_named(server: str, path: str) -> None:
    url = path if path.startswith("http") else server + path
    with pytest.raises(PrerequisiteError, match=f"cannot fetch {url}: ") as caught:
        get(url, DIGEST)
    assert "by hand" in caught.value.hint


def test_a_file_without_end_is_given_up(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_MAX_BYTES", 1000)
    with pytest.raises(PrerequisiteError, match="is larger than"):
        get(f"{server}/k.deb", DIGEST)


def test_a_file_of_ones_own_is_told_with_its_digest(tmp_path: Path) -> None:
    (tmp_path / "k.deb").write_bytes(CONTENT)
    (fetched,) = fetch_source(str(tmp_path / "k.deb"), lambda line: None, Deadline.after(10, "fetching"))
    assert fetched.sha256 == hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(ScenarioError, match="no such file"):
        fetch_source(str(tmp_path / "gone.deb"), lambda line: None, Deadline.after(10, "fetching"))
