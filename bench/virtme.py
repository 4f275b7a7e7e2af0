"""virtme-ng, to compare with: in an environment of its own, with a kernel that it can boot.

Debian's cloud kernels have no 9p, and virtiofs needs a daemon that Debian 12 does not have. So both sides run Debian's
other kernel, `linux-image-amd64`: the lab with `--kernel`, virtme-ng with its modules unpacked beside it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.common import BenchError, progress
from lab.host.cache import cache_root, make_folder

PACKAGE = "virtme-ng"
KERNEL_PACKAGE = "linux-image-amd64"
_SECONDS = 300.0
# What `true` and virtme-ng say where it ran. With udev on the host the script's status comes back as virtme-ng's own;
# without it virtme-ng runs the script over the console, prints how it ended, and returns 255 (1.42).
_WITH_UDEV, _WITHOUT_UDEV = 0, 255
_SCRIPT_ENDED = "script exited with code 0"


@dataclass(frozen=True)
class Virtme:
    """A virtme-ng that boots a kernel here."""

    program: Path
    version: str
    kernel: Path
    busybox: Path
    memory_mb: int
    vcpus: int

    def command(self, *options: str) -> list[str]:
        """The command that boots the kernel to run `true`, on the host's own root, without KVM."""
        machine = ["--cpus", str(self.vcpus), "--memory", f"{self.memory_mb}M", "--busybox", str(self.busybox)]
        return [str(self.program), "--run", str(self.kernel), "--disable-kvm", *machine, *options, "--", "true"]

    def seconds(self, proved: bool = False) -> float:
        """How long the command takes; `proved`: with the console shown, where it says how `true` ended.

        Raises BenchError when it fails. Showing the console makes it a few per cent slower.
        """
        started = time.monotonic()
        done = self._run(*(("--verbose",) if proved else ()))
        seconds = time.monotonic() - started
        if not did_run(done.returncode, done.stdout if proved else None):
            raise BenchError(f"virtme-ng did not run `true`: status {done.returncode}, {done.stdout[-500:]!r}")
        return seconds

    def _run(self, *options: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.program.parent}:{os.environ['PATH']}:/usr/sbin"  # vng calls its other programs by name
        return subprocess.run(
            self.command(*options),
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )


def did_run(status: int, console: str | None) -> bool:
    """Whether virtme-ng ran `true` to its end, by its status and what was on the console, where that was shown."""
    if status == _WITH_UDEV:
        return True
    return status == _WITHOUT_UDEV and (console is None or _SCRIPT_ENDED in console)


def install() -> Path:
    """The program `vng`, in a virtual environment in the cache; made when it is missing. Raises BenchError."""
    folder = cache_root() / "bench" / PACKAGE
    program = folder / "bin" / "vng"
    if not program.exists():
        progress(f"installing {PACKAGE} in {folder}")
        make_folder(folder.parent)
        _call([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _call([*pip, PACKAGE])
    return program


def kernel_package() -> Path:
    """Debian's kernel package for this host's release, in the cache; downloaded with apt when it is missing.

    Raises BenchError where apt cannot.
    """
    folder = make_folder(cache_root() / "bench" / "kernel")
    depends = _call(["apt-cache", "depends", KERNEL_PACKAGE])
    match = re.search(r"Depends: (linux-image-\d\S*)", depends)
    if match is None:
        raise BenchError(f"apt knows no {KERNEL_PACKAGE}: run apt-get update")
    found = sorted(folder.glob(f"{match[1]}_*.deb"))
    if not found:
        progress(f"downloading {match[1]}")
        _call(["apt-get", "download", "--quiet", "-o", "APT::Sandbox::User=root", match[1]], folder)
        found = sorted(folder.glob(f"{match[1]}_*.deb"))
    if not found:
        raise BenchError(f"apt-get download {match[1]} left no package in {folder}")
    return found[-1]


def unpacked(package: Path) -> Path:
    """The kernel of a package, unpacked beside it with its modules. Raises BenchError."""
    folder = package.with_suffix("")
    if not folder.exists():
        partial = folder.with_name(f".tmp-{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        _call(["dpkg-deb", "--extract", str(package), str(partial)])
        partial.rename(folder)
    kernels = sorted((folder / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise BenchError(f"{package}: has {len(kernels)} kernels in boot/")
    return kernels[0]


def virtme(package: Path, busybox: Path, memory_mb: int, vcpus: int) -> Virtme:
    """virtme-ng, ready to boot the package's kernel. Raises BenchError."""
    program = install()
    version = _call([str(program), "--version"]).split()[-1]
    return Virtme(program, version, unpacked(package), busybox, memory_mb, vcpus)


def _call(argv: list[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{argv[0]}: {error}") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(argv)}: {done.stderr.strip()[-500:]}")
    return done.stdout
