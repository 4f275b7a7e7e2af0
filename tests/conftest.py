"""What tests of every kind share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from lab.guest import loader, machine

ROOT = Path(__file__).parent.parent

# a slow machine is no wrong program
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")


@pytest.fixture
def project_root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the settings of whoever runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "settings"))


@pytest.fixture(autouse=True)
def own_loader(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test writes to this host's /proc/sys/kernel/modprobe, or has a program load modules here."""
    file = tmp_path_factory.getbasetemp() / "modprobe"
    if not file.exists():
        file.write_text("/sbin/modprobe\n")
    monkeypatch.setattr(loader, "LOADER_PATH", str(file))
    monkeypatch.setattr(machine, "_VERSION_COMMANDS", {})
