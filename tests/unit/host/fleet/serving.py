"""A web server with images, as a fleet's workers may have one near."""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import ROOT


class _Handler(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path.lstrip("/"))
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class Server:
    """A web server on loopback: its URL, its folder, and what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[str]()
        handler = type("Handler", (_Handler,), {"asked": self.asked})
        served = functools.partial(handler, directory=str(folder))
        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), served)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"


def fill(folder: Path, home: Path) -> None:
    """Put the images of a user into a server's folder, by the very line of the documentation."""
    (line,) = re.findall(r"^for file in .*$", (ROOT / "docs" / "fleet.md").read_text(), re.MULTILINE)
    subprocess.run(["bash", "-uc", line], cwd=folder, env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, check=True)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of a folder, on loopback."""
    folder.mkdir()
    server = Server(folder)
    thread = threading.Thread(target=server.httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.httpd.shutdown()
        thread.join()
        server.httpd.server_close()
