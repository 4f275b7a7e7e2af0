"""What a partition holds, by the magic numbers of its first bytes (include/uapi/linux/magic.h of the kernel, and each
file system's own documentation; LUKS, LVM and RAID: their on-disk formats).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Signature:
    """Bytes at an offset, and what they mean. `why_not` says why such a partition cannot be read; None: it can."""

    name: str
    offset: int
    magic: bytes
    why_not: str | None = None


_ENCRYPTED = "is encrypted"
_VOLUMES = "is a volume of LVM: which root that makes, only the distribution's own tools find out"
_RAID = "is a part of a RAID"

SIGNATURES = (
    Signature("LUKS", 0, b"LUKS\xba\xbe", _ENCRYPTED),
    Signature("BitLocker", 3, b"-FVE-FS-", _ENCRYPTED),
    *(Signature("LVM", sector * 512, b"LABELONE", _VOLUMES) for sector in range(4)),
    *(Signature("RAID", offset, b"\xfc\x4e\x2b\xa9", _RAID) for offset in (0, 4096)),
    Signature("xfs", 0, b"XFSB"),
    Signature("btrfs", 0x10040, b"_BHRfS_M"),
    Signature("squashfs", 0, b"hsqs"),
    Signature("erofs", 1024, b"\xe2\xe1\xf5\xe0"),
    Signature("f2fs", 1024, b"\x10\x20\xf5\xf2"),
    Signature("ext4", 0x438, b"\x53\xef"),
    Signature("bcachefs", 4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "is bcachefs, which guests here cannot read"),
    Signature("swap", 4086, b"SWAPSPACE2", "is swap space"),
    Signature("vfat", 82, b"FAT32"),
    Signature("vfat", 54, b"FAT1"),
    Signature("iso9660", 0x8001, b"CD001"),
)
# how each is mounted so that nothing is written, and no journal replayed, which would write
READ_ONLY: Mapping[str, str] = {
    "ext4": "ro,noload",
    "xfs": "ro,norecovery",
    "btrfs": "ro,rescue=nologreplay",
    "f2fs": "ro,norecovery",
}
# those that a root or /boot can lie on
ROOTS = frozenset({"ext4", "xfs", "btrfs", "squashfs", "erofs", "f2fs", "iso9660"})


@dataclass(frozen=True)
class Partition:
    """A partition, or a whole disk, as the guest's kernel has it; `head` are its first bytes."""

    name: str
    size_bytes: int
    head: bytes
    error: str | None = None

    @property
    def signature(self) -> Signature | None:
        """What it holds; None for what is not known."""
        return next(
            (known for known in SIGNATURES if self.head[known.offset : known.offset + len(known.magic)] == known.magic),
            None,
        )

    @property
    def filesystem(self) -> str | None:
        """The file system by the kernel's name, where it is one that can be mounted."""
        known = self.signature
        return known.name if known is not None and known.why_not is None else None

    @property
    def options(self) -> str:
        """How it is mounted without writing to it."""
        return READ_ONLY.get(self.filesystem or "", "ro")

    def words(self) -> str:
        """The partition in a few words, for people."""
        known = self.signature
        if self.error is not None:
            what = f"cannot be read ({self.error})"
        elif known is None:
            what = "is of no kind that is known here" if any(self.head) else "is empty"
        else:
            what = known.why_not or f"is {known.name}"
        return f"{self.name} ({self.size_bytes / 10**6:.0f} MB) {what}"


def mountable(partitions: tuple[Partition, ...]) -> tuple[Partition, ...]:
    """The partitions that may hold a root or a /boot; the whole disk only where it has no partitions."""
    places = partitions[1:] or partitions[:1]
    return tuple(part for part in places if part.filesystem is not None)
