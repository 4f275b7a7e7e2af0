"""What this host lacks, each with the command that mends it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from lab.core.errors import LabError
from lab.host import images, programs
from lab.host.cache import cache_root
from lab.host.images import mirror
from lab.host.machines.accelerator import KVM_DEVICE, KvmAnswer
from lab.host.machines.qemu.binary import QemuBinary, find_qemu

_MIN_FREE_BYTES = 4 * 10**9
_MIN_MEMORY_BYTES = 3 * 2**30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. Not `ok` and not `required`: the lab runs without it."""

    name: str
    ok: bool
    seen: str
    mend: str = ""
    required: bool = True


def check_host() -> tuple[list[Check], QemuBinary | None]:
    """Everything but KVM, which only a guest can prove; and the QEMU that was found."""
    qemu, qemu_check = _qemu()
    checks = [qemu_check, _programs(), _mirror(), _space(), _memory(), _processors()]
    return checks, qemu


def kvm_check(answer: KvmAnswer | None) -> Check:
    """What is known of KVM; the lab works without it, slower."""
    if answer is None:
        seen = f"{KVM_DEVICE} exists, which proves nothing, and there is no image yet to boot a guest from"
        return Check("KVM", False, seen, "lab image build debian12, then lab doctor", required=False)
    mend = "" if answer.works else "guests are emulated; for KVM run on bare metal, or enable nested virtualization"
    return Check("KVM", answer.works, answer.seen, mend, required=False)


def report(checks: Sequence[Check]) -> str:
    """The checks as lines: what was seen, and below each that is not well its mend."""
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'LACK' if check.required else 'note'}  {check.name}: {check.seen}")
        if not check.ok and check.mend:
            lines.append(f"      hint: {check.mend}")
    return "\n".join(lines)


def _qemu() -> tuple[QemuBinary | None, Check]:
    try:
        qemu = find_qemu()
    except LabError as error:
        return None, Check("QEMU", False, str(error), error.hint)
    return qemu, Check("QEMU", True, f"{qemu.version} at {qemu.path}")


def _programs() -> Check:
    try:
        programs.require_programs(images.PROGRAMS)
    except LabError as error:
        return Check("programs for building images", False, str(error), error.hint)
    return Check("programs for building images", True, "all there")


def _mirror() -> Check:
    try:
        return Check("Debian mirror", True, mirror.find_mirror())
    except LabError as error:
        return Check("Debian mirror", False, str(error), error.hint)


def _space() -> Check:
    folder = cache_root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    seen = f"{free / 10**9:.1f} GB free for {cache_root()}"
    return Check("space", free >= _MIN_FREE_BYTES, seen, "free 4 GB, or point XDG_CACHE_HOME to a larger disk")


def _memory() -> Check:
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    seen = f"{total / 2**30:.1f} GiB, {available / 2**30:.1f} GiB free"
    return Check("memory", total >= _MIN_MEMORY_BYTES, seen, "a guest of the shipped scenarios takes 1.5 GiB")


def _processors() -> Check:
    return Check("processors", (os.cpu_count() or 1) >= 2, f"{os.cpu_count()}", "guests have two", required=False)
