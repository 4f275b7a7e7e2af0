"""What the first bytes of a kernel say: its release, and whether a guest's processor can run it."""

from __future__ import annotations

import re
from pathlib import Path

from lab.core.errors import ScenarioError

# Documentation/arch/x86/boot.rst: the magic, the protocol's version, the pointer (less 0x200) to the version's text,
# and, from protocol 2.12 on, the flag that says that the kernel is a 64-bit one
_MAGIC_OFFSET, _MAGIC = 0x202, b"HdrS"
_PROTOCOL_OFFSET = 0x206
_VERSION_POINTER_OFFSET = 0x20E
_XLOADFLAGS_OFFSET, _XLF_KERNEL_64, _XLOADFLAGS_PROTOCOL = 0x236, 1, 0x20C
_SETUP_BYTES = 0x10000

# offset, bytes there, what they mean; Documentation/arch/{arm64/booting,riscv/boot-image-header}.rst, elf(5)
_FOREIGN = (
    (0x38, b"ARM\x64", "is a kernel for arm64, and guests here are x86-64"),
    (0x38, b"RSC\x05", "is a kernel for RISC-V, and guests here are x86-64"),
    (0x04, b"zimg", "is an EFI kernel of another architecture (arm64, RISC-V or LoongArch)"),
    (0x24, b"\x18\x28\x6f\x01", "is a kernel for 32-bit ARM, and guests here are x86-64"),
    (0x00, b"\x7fELF", "is not a bzImage but an ELF file"),
    (0x00, b"\x1f\x8b", "is not a bzImage but a gzip file, as kernels of arm64 and older SUSE are"),
)
_BZIMAGE_HINT = "for x86 it is arch/x86/boot/bzImage or /boot/vmlinuz-RELEASE, not vmlinux"


def read_release(kernel: Path) -> str:
    """The release of a bzImage, from its header.

    Raises ScenarioError if the file cannot be read, is no bzImage, or one that 64-bit programs cannot run on.
    """
    setup = _read_setup(kernel)
    release = parse_release(setup)
    if release is None:
        what = next((text for at, magic, text in _FOREIGN if setup[at : at + len(magic)] == magic), "is not a bzImage")
        raise ScenarioError(f"{kernel} {what}", hint=_BZIMAGE_HINT)
    if _is_32_bit(setup):
        raise ScenarioError(
            f"{kernel} ({release}) is a kernel for 32-bit x86, and the guests' programs are 64-bit",
            hint="name the x86-64 (amd64) build of it",
        )
    return release


def parse_release(setup: bytes) -> str | None:
    """The release in the first 64 KB of a bzImage ("6.1.0 (builder) #1 ..."), None if they are of something else."""
    if setup[_MAGIC_OFFSET : _MAGIC_OFFSET + len(_MAGIC)] != _MAGIC:
        return None
    start = int.from_bytes(setup[_VERSION_POINTER_OFFSET : _VERSION_POINTER_OFFSET + 2], "little") + 0x200
    version = setup[start : start + 256].partition(b"\0")[0].partition(b" ")[0].decode("ascii", errors="replace")
    return version if re.fullmatch(r"[\w.+~-]+", version) else None


def _is_32_bit(setup: bytes) -> bool:
    protocol = int.from_bytes(setup[_PROTOCOL_OFFSET : _PROTOCOL_OFFSET + 2], "little")
    return protocol >= _XLOADFLAGS_PROTOCOL and not setup[_XLOADFLAGS_OFFSET] & _XLF_KERNEL_64


def _read_setup(kernel: Path) -> bytes:
    try:
        with kernel.open("rb") as file:
            return file.read(_SETUP_BYTES)
    except OSError as error:
        raise ScenarioError(
            f"cannot read the kernel {kernel}: {error.strerror}", hint="check its permissions, or name a copy of it"
        ) from error
