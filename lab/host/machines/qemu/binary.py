"""Which QEMU this host has, and what it runs on."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass

from lab.core.errors import PrerequisiteError
from lab.host.failures import EXHAUSTED, host_failed

_NAME = "qemu-system-x86_64"
_VERSION_SECONDS = 20
# memory-backend-file has rom=off since 8.2, without which memory mapped from a read-only file cannot be written.
# 7.2 also panics newer guests under emulation.
OLDEST = (8, 2)
_VERSION = re.compile(r"version (\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class QemuBinary:
    """A QEMU that can be started."""

    path: str
    version: str  # the whole first line of --version: it names the distribution's build too
    number: tuple[int, int, int]
    host_cpu: str


def find_qemu() -> QemuBinary:
    """The QEMU on PATH. Raises PrerequisiteError when there is none, none that answers, or an old one."""
    path = shutil.which(_NAME)
    if path is None:
        raise PrerequisiteError(f"{_NAME} is not installed", hint="run scripts/setup, or install QEMU for x86_64")
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        if isinstance(error, OSError) and error.errno in EXHAUSTED:
            raise host_failed(error, f"{path} was not started") from error
        raise PrerequisiteError(f"{path} --version failed: {error}", hint="reinstall QEMU") from error
    line = next(iter(done.stdout.splitlines()), "")
    match = _VERSION.search(line)
    if match is None:
        raise PrerequisiteError(f"{path} --version printed no version: {line!r}", hint="reinstall QEMU")
    major, minor, micro = (int(part or 0) for part in match.groups())
    if (major, minor) < OLDEST:
        raise PrerequisiteError(
            f"{line} at {path} is too old: it needs {OLDEST[0]}.{OLDEST[1]}, which can share a saved memory read-only",
            hint="run scripts/setup, which takes a newer one from backports",
        )
    return QemuBinary(path, line, (major, minor, micro), _cpu_model())


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
