"""Files of the web: servers that never end, say nothing sensible, or send more than there can be."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.core.errors import LabError, PrerequisiteError
from lab.host.cache import Deadline
from lab.host.download import download

_HEADER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Gives the URL of a server on loopback that answers one request as a function says."""
    monkeypatch.setenv("no_proxy", "*")
    threads: list[threading.Thread] = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(30)

    def start(answer: Callable[[socket.socket], None]) -> str:
        def run() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(30)
                connection.recv(65536)
                answer(connection)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/x"

    with listening:
        yield start
        for thread in threads:
            thread.join()


def get(url: str, file: Path, most_bytes: int = 1000, seconds: float = 30.0) -> None:
    download(url, file, most_bytes, Deadline.after(seconds, "fetching x"), "look there")


def test_a_file_comes_as_it_is(serve: Serve, tmp_path: Path) -> None:
    get(serve(lambda connection: connection.sendall(_HEADER % 3 + b"abc")), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"abc"


def test_a_file_that_comes_byte_by_byte_is_given_up_at_the_deadline(serve: Serve, tmp_path: Path) -> None:
    gone = threading.Event()

    def answer(connection: socket.socket) -> None:
        try:
            connection.sendall(_HEADER % 10**6)
            for _ in range(2000):
                connection.sendall(b"x")
                gone.wait(0.01)
        except OSError:
            gone.set()

    with pytest.raises(LabError, match=r"fetching x did not end within 0.2 s"):
        get(serve(answer), tmp_path / "x", seconds=0.2)
    assert gone.wait(30)  # and not after all that the server had


@pytest.mark.parametrize("said", [b"", b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000])
def test_what_is_no_answer_is_an_error_that_names_the_url(said: bytes, serve: Serve, tmp_path: Path) -> None:
    url = serve(lambda connection: connection.sendall(said))
    with pytest.raises(PrerequisiteError, match=f"cannot fetch {url}: ") as refused:
        get(url, tmp_path / "x")
    assert refused.value.hint == "look there"


def test_more_than_there_can_be_is_refused(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="is larger than"):
        get(serve(lambda connection: connection.sendall(_HEADER % 1001 + b"x" * 1001)), tmp_path / "x")
