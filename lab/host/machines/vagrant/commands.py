"""Vagrant as a program: every call has a deadline, its output is kept, and a failing exit is an error.

Each machine has a folder of its own in the cache, with the Vagrantfile, what Vagrant printed, and a lock that the
kernel drops with the lab: a folder whose lock is free belongs to nobody (leftovers.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import secrets
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lab.core.errors import PrerequisiteError
from lab.host import programs
from lab.host.cache import Deadline, cache_root, make_folder
from lab.host.machines.machine import ConsoleLog

if TYPE_CHECKING:
    from lab.host.machines.vagrant.program import Commands

LOG = "vagrant.log"
SHORT_SECONDS = 60.0  # for what Vagrant only looks up; starting Ruby alone takes seconds
_DESCRIPTION = "lab.json"
LOCK = ".lock"
_NOISE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|.*\r(?=.)")


@dataclass
class Folder:
    """A machine's folder: what Vagrant needs, and what tells whose it is."""

    path: Path
    environment: dict[str, str]
    console: ConsoleLog = field(default_factory=ConsoleLog)
    _log: list[str] = field(default_factory=list)

    @property
    def domain(self) -> str:
        """The machine's name in libvirt, and what its disk's name begins with."""
        return f"{self.path.name}-default"

    @property
    def console_file(self) -> Path:
        """Where libvirt writes the machine's serial console."""
        return console_file(self.path.name)

    @property
    def log(self) -> str:
        """What Vagrant and what cleans up after it printed."""
        return "".join(f"{line}\n" for line in self._log)

    @property
    def is_known_to_vagrant(self) -> bool:
        """Whether Vagrant has a machine here, as far as its own notes in `.vagrant` go."""
        return any(self.path.glob(".vagrant/machines/*/*/id"))

    def note(self, line: str) -> None:
        """A line for the log; progress bars are left out."""
        text = _NOISE.sub("", line).rstrip()
        if text and not text.startswith("Progress:"):
            self._log.append(text)
            with (self.path / LOG).open("a", encoding="utf-8") as file:
                file.write(f"{text}\n")

    def commands(self, seconds: float, what: str, cancelled: threading.Event | None = None) -> Commands:
        """python-vagrant for this machine, for `seconds`."""
        from lab.host.machines.vagrant.program import Commands

        return Commands(self.path, self.environment, Deadline.after(seconds, what, cancelled), self.note)

    def console_text(self) -> str:
        """What the serial console has shown, bounded; empty where nobody wrote it down."""
        log = ConsoleLog()
        with contextlib.suppress(OSError), self.console_file.open("rb") as file:
            while data := file.read(2**20):
                log.feed(data)
        return log.text()


def new_name() -> str:
    """A name for a machine and its folder that no other has."""
    return f"lab-{secrets.token_hex(4)}"


def new_folder(name: str, provider: str, environment: Mapping[str, str], network: bool) -> Folder:
    """The folder of a machine that is about to be made, held by this process.

    `network` is whether libvirt's network for Vagrant will be made with it.
    """
    path = make_folder(machines_folder()) / name
    path.mkdir(mode=0o711)
    hold(path)
    shutil.copyfile(vagrantfile(), path / "Vagrantfile")
    folder = Folder(path, dict(environment))
    folder.console_file.touch()
    described = {"provider": provider, "environment": folder.environment, "network": network}
    (path / _DESCRIPTION).write_text(json.dumps(described))
    return folder


def description(path: Path) -> dict[str, Any]:
    """What new_folder() wrote of the machine: `provider`, `environment`, `network`. Raises OSError and ValueError."""
    described = json.loads((path / _DESCRIPTION).read_text())
    if not (isinstance(described, dict) and isinstance(described.get("environment"), dict)):
        raise ValueError(f"{path / _DESCRIPTION} describes no machine")
    return described


def boxes_of_machines() -> frozenset[str]:
    """The names of the boxes whose machines have a folder: that run, were kept, or were left behind."""
    names = set()
    for path in machines_folder().glob("lab-*"):
        with contextlib.suppress(OSError, ValueError):
            names.add(str(description(path)["environment"].get("LAB_BOX")))
    return frozenset(names)


_held: dict[Path, IO[str]] = {}


def hold(folder: Path) -> None:
    """Mark a machine's folder as this process's, for as long as it lives."""
    file = (folder / LOCK).open("w")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _held[folder] = file


def release(folder: Path) -> None:
    """Take the mark away."""
    if file := _held.pop(folder, None):
        file.close()


def is_held(folder: Path) -> bool:
    """Whether this process holds the folder."""
    return folder in _held


def machines_folder() -> Path:
    """Where the machines' folders lie."""
    return cache_root() / "vagrant" / "machines"


def console_file(name: str) -> Path:
    """Where libvirt writes the serial console of the machine of that name."""
    return machines_folder() / name / "console.log"


def vagrantfile() -> Path:
    """The Vagrantfile: the checkout's, else the installed package's."""
    package = Path(__file__).resolve().parents[3]
    checkout = package.parent / "Vagrantfile"
    return checkout if (package.parent / "pyproject.toml").is_file() else package / "host/data/Vagrantfile"


def vagrant_version() -> str:
    """Vagrant's version. Raises PrerequisiteError where there is none, LabError where it does not answer."""
    if shutil.which("vagrant") is None:
        raise PrerequisiteError("vagrant is missing", hint="apt install vagrant vagrant-libvirt; docs/vagrant.md")
    lines = _lines("--version")
    return next((line.removeprefix("Vagrant ") for line in lines if line.startswith("Vagrant ")), "unknown")


def added_boxes() -> frozenset[str]:
    """The names of the boxes that were added to Vagrant. Raises LabError."""
    fields = [line.split(",") for line in _lines("box", "list", "--machine-readable")]
    return frozenset(values[3] for values in fields if values[2:3] == ["box-name"] and len(values) > 3)


def _lines(*arguments: str) -> list[str]:
    """What `vagrant ARGUMENTS` prints outside of any machine's folder."""
    deadline = Deadline.after(SHORT_SECONDS, f"vagrant {' '.join(arguments)}")
    environment = {"VAGRANT_CHECKPOINT_DISABLE": "1", "VAGRANT_CWD": "/"}
    return programs.run_program(("vagrant", *arguments), deadline, environment=environment)
