"""What this host lacks, each with the command that fixes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.core.errors import LabError
from lab.host import images, programs
from lab.host.cache import cache_root
from lab.host.images import mirror
from lab.host.kernels.preparing import PROGRAMS
from lab.host.machines import accelerator
from lab.host.machines.accelerator import KVM_DEVICE, KvmAnswer
from lab.host.machines.qemu.binary import QemuBinary, find_qemu
from lab.host.machines.qemu.machine import ImageMachine
from lab.host.machines.qemu.provisioner import boot_with_kvm
from lab.host.releases import TARGETS

Say = Callable[[str], None]

_MIN_FREE_BYTES = 4 * 10**9
_MIN_MEMORY_BYTES = 3 * 2**30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. Not `ok` and not `required`: the lab runs without it."""

    name: str
    ok: bool
    seen: str
    hint: str = ""
    required: bool = True


async def check_host(say: Say, again: bool) -> list[Check]:
    """Every check; KVM is proved by booting a guest with it where there is an image to boot. `again` forgets what was
    seen the last time.
    """
    checks, qemu = check_without_guest()
    if qemu is None:
        return checks
    if again:
        accelerator.forget(qemu)
    answer = accelerator.remembered(qemu)
    built = next((image for target in TARGETS.values() if (image := images.load(target)) is not None), None)
    if answer is None and built is not None:
        say("trying whether a guest boots with KVM")
        spec = ImageMachine(built.digest, 1024, 2, root_disk=built.root_disk, kernel=built.kernel, initrd=built.initrd)
        answer = await accelerator.prove(qemu, lambda: boot_with_kvm(qemu, spec))
    return [*checks, kvm_check(answer)]


def check_without_guest() -> tuple[list[Check], QemuBinary | None]:
    """Everything but KVM, which only a guest can prove; and the QEMU that was found."""
    qemu, qemu_check = _qemu()
    needed = (
        _programs("building images", images.PROGRAMS),
        _programs("other kernels", PROGRAMS, required=False),
    )
    checks = [qemu_check, *needed, _mirror(), _space(), _memory(), _processors()]
    return checks, qemu


def kvm_check(answer: KvmAnswer | None) -> Check:
    """What is known of KVM; the lab works without it, slower."""
    if answer is None:
        seen = f"{KVM_DEVICE} exists, which proves nothing, and there is no image yet to boot a guest from"
        return Check("KVM", False, seen, "lab image build debian12, then lab doctor", required=False)
    hint = "" if answer.works else "guests are emulated; for KVM run on bare metal, or enable nested virtualization"
    return Check("KVM", answer.works, answer.seen, hint, required=False)


def _qemu() -> tuple[QemuBinary | None, Check]:
    try:
        qemu = find_qemu()
    except LabError as error:
        return None, Check("QEMU", False, str(error), error.hint)
    return qemu, Check("QEMU", True, f"{qemu.version} at {qemu.path}")


def _programs(purpose: str, needed: Sequence[programs.Program], required: bool = True) -> Check:
    name = f"programs for {purpose}"
    try:
        programs.require_programs(needed)
    except LabError as error:
        return Check(name, False, str(error), error.hint, required)
    return Check(name, True, "all there", required=required)


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
