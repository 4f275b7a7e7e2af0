"""KVM or emulation: only a guest that has booted with KVM proves it, and the answer is remembered."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import GuestLost, PrerequisiteError
from lab.host.cache import cache_root, make_folder
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.command import KVM, TCG, Accelerator
from lab.host.process import confined
from lab.host.results.plain_files import write_aside

KVM_DEVICE = Path("/dev/kvm")
_START_SECONDS = 20.0


@dataclass(frozen=True)
class KvmAnswer:
    """Whether a guest boots with KVM here, and what was seen."""

    works: bool
    seen: str


async def choose(
    asked: str, qemu: QemuBinary, boot_with_kvm: Callable[[], Awaitable[None]], say: Callable[[str], None]
) -> Accelerator:
    """The accelerator for --accelerator `asked`; `boot_with_kvm` boots a guest or raises GuestLost.

    Raises PrerequisiteError when KVM was demanded and no guest boots with it.
    """
    if asked == "tcg":
        return TCG
    answer = remembered(qemu)
    if answer is None:
        say("trying whether a guest boots with KVM (once for this host and QEMU)")
        answer = await prove(qemu, boot_with_kvm)
    if asked == "kvm" and not answer.works:
        raise PrerequisiteError(f"KVM does not work here: {answer.seen}", hint="use --accelerator auto or tcg")
    return KVM if answer.works else TCG


async def prove(qemu: QemuBinary, boot_with_kvm: Callable[[], Awaitable[None]]) -> KvmAnswer:
    """Boot a guest with KVM, and remember whether that worked."""
    try:
        await boot_with_kvm()
        answer = KvmAnswer(True, "a guest has booted with it")
    except GuestLost as lost:
        answer = KvmAnswer(False, str(lost).splitlines()[0])
    record = {"works": answer.works, "seen": answer.seen, "asked_at": time.time()}
    make_folder(cache_root())
    write_aside(_memory(qemu), json.dumps(record) + "\n")
    return answer


def works_so_far(qemu: QemuBinary) -> bool:
    """What is remembered of KVM; where nobody knows yet, whether QEMU at least starts with it, without a guest."""
    answer = remembered(qemu)
    return starts(qemu, KVM) if answer is None else answer.works


def starts(qemu: QemuBinary, accelerator: Accelerator) -> bool:
    """Whether QEMU starts with an accelerator, as the user that it has in the lab."""
    argv = [qemu.path, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "none", "-monitor", "stdio"]
    command = confined([*argv, "-accel", accelerator.name])
    try:
        return subprocess.run(command, input=b"quit\n", capture_output=True, timeout=_START_SECONDS).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def remembered(qemu: QemuBinary) -> KvmAnswer | None:
    """What an earlier guest has shown; without the device there is nothing to ask. None when nobody knows."""
    if not KVM_DEVICE.exists():
        return KvmAnswer(False, f"there is no {KVM_DEVICE}")
    try:
        record = json.loads(_memory(qemu).read_text())
        return KvmAnswer(bool(record["works"]), str(record["seen"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(qemu: QemuBinary) -> None:
    """Forget the answer, so that the next guest gives it again."""
    _memory(qemu).unlink(missing_ok=True)


def _memory(qemu: QemuBinary) -> Path:
    """The answer's file: one per QEMU, host kernel, processor and user, any of which can change it."""
    uname = os.uname()
    key = "\n".join((qemu.path, qemu.version, uname.release, uname.nodename, qemu.host_cpu, str(os.geteuid())))
    return cache_root() / f"kvm-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
