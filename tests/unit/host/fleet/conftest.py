"""What several tests of fleets have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.host.fleet.serving import Server, serving


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A web server on loopback with an empty folder."""
    monkeypatch.setenv("no_proxy", "*")
    with serving(tmp_path / "served") as server:
        yield server
