"""What an image file is, by its first bytes; QEMU is then told, and never left to guess what a file may claim."""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER_BYTES = 4096
_SECTOR_BYTES = 512
# docs/interop/qcow2.rst of QEMU: big endian; version 3 has the incompatible features at byte 72
_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_HEADER = struct.Struct(">4sIQIIQI")
_QCOW2_VERSIONS = (2, 3)
_QCOW2_DIRTY, _QCOW2_CORRUPT, _QCOW2_DATA_FILE = 1 << 0, 1 << 1, 1 << 2
_INCOMPATIBLE_AT = 72

# offset, bytes there, what it is: formats that are not taken, each with what the user can do
_OTHERS = (
    (0, b"KDMV", "a VMDK image"),
    (0, b"# Disk DescriptorFile", "a VMDK image"),
    (0, b"vhdxfile", "a VHDX image"),
    (0, b"conectix", "a VHD image"),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI image"),
)
_PACKED = (
    (0, b"\xfd7zXZ\0", "packed by xz", "unxz"),
    (0, b"\x1f\x8b", "packed by gzip", "gunzip"),
    (0, b"\x28\xb5\x2f\xfd", "packed by zstd", "unzstd"),
    (0, b"BZh", "packed by bzip2", "bunzip2"),
    (0, b"PK\x03\x04", "a zip archive", "unzip"),
)


@dataclass(frozen=True)
class NoDiskImage(Exception):
    """Why a file is not taken as a disk image, and what helps."""

    why: str
    hint: str

    def __str__(self) -> str:
        return self.why


def disk_format(head: bytes, size_bytes: int) -> str:
    """`qcow2` or `raw`, as QEMU names them, from a file's first HEADER_BYTES. Raises NoDiskImage.

    A qcow2 image that would make QEMU open another file, named in it, is refused.
    """
    if size_bytes == 0:
        raise NoDiskImage("is empty", "fetch it again")
    if head.startswith(_QCOW2_MAGIC):
        _check_qcow2(head)
        return "qcow2"
    for offset, magic, what in _OTHERS:
        if head[offset : offset + len(magic)] == magic:
            raise NoDiskImage(f"is {what}", "take the distribution's qcow2, or: qemu-img convert -O qcow2 FILE NEW")
    for offset, magic, what, program in _PACKED:
        if head[offset : offset + len(magic)] == magic:
            raise NoDiskImage(f"is {what}", f"{program} FILE, and give the image that it holds")
    if head[:1024].lstrip()[:1] == b"<":
        raise NoDiskImage("is a page of HTML or XML, not an image", "open its URL in a browser: the file has moved")
    if size_bytes % _SECTOR_BYTES:
        raise NoDiskImage(
            f"is no disk image: neither qcow2, nor raw, whose {size_bytes} bytes would be whole sectors",
            "it is cut off, or something else: compare its size and checksum with what its publisher names",
        )
    return "raw"


def _check_qcow2(head: bytes) -> None:
    if len(head) < _QCOW2_HEADER.size:
        raise NoDiskImage("is a qcow2 image that ends within its header", "fetch it again")
    _, version, backing_offset, _, _, size_bytes, encryption = _QCOW2_HEADER.unpack_from(head)
    if version not in _QCOW2_VERSIONS:
        raise NoDiskImage(f"is a qcow2 image of version {version}", "qemu-img convert -O qcow2 FILE NEW")
    features = struct.unpack_from(">Q", head, _INCOMPATIBLE_AT)[0] if version > 2 else 0
    if backing_offset or features & _QCOW2_DATA_FILE:
        raise NoDiskImage(
            "is only a part of a qcow2 image: the rest lies in another file",
            "qemu-img convert -O qcow2 FILE NEW, where all its files are, makes one of it",
        )
    if encryption:
        raise NoDiskImage("is an encrypted qcow2 image", "give one without encryption")
    if features & (_QCOW2_CORRUPT | _QCOW2_DIRTY):
        raise NoDiskImage(
            "is a qcow2 image that was not closed, or is marked as corrupt",
            "qemu-img check -r all FILE, or fetch it again",
        )
    if size_bytes == 0:
        raise NoDiskImage("is a qcow2 image of an empty disk", "fetch it again")
