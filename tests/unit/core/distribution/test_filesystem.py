"""What a partition holds, by its first bytes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lab.core.distribution.filesystem import Partition, mountable

MB = 2**20
HEAD = 68 * 1024


def with_bytes(offset: int, magic: bytes) -> bytes:
    return bytes(offset) + magic + bytes(HEAD - offset - len(magic))


def partition(head: bytes, name: str = "vdb1") -> Partition:
    return Partition(name, 100 * MB, head)


@pytest.mark.parametrize(
    ("program", "filesystem"),
    [
        (("mke2fs", "-q", "-F", "-t", "ext4"), "ext4"),
        (("mke2fs", "-q", "-F", "-t", "ext2"), "ext4"),
        (("mkfs.xfs", "-q", "-f"), "xfs"),
        (("mkfs.btrfs", "-q", "-f"), "btrfs"),
        (("mkswap", "-q"), None),
    ],
)
def test_what_the_real_programs_make(program: tuple[str, ...], filesystem: str | None, tmp_path: Path) -> None:
    name = shutil.which(program[0], path="/usr/sbin:/sbin:/usr/bin")
    if name is None:
        pytest.skip(f"no {program[0]} here")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(320 * MB)
    subprocess.run([name, *program[1:], str(disk)], check=True, capture_output=True, timeout=60)
    with disk.open("rb") as file:
        part = partition(file.read(HEAD))
    assert part.filesystem == filesystem
    if filesystem is None:
        assert part.words() == "vdb1 (105 MB) is swap space"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (with_bytes(0, b"LUKS\xba\xbe\0\2"), "is encrypted"),
        (with_bytes(512, b"LABELONE"), "is a volume of LVM"),
        (with_bytes(4096, b"\xfc\x4e\x2b\xa9"), "is a part of a RAID"),
        (with_bytes(3, b"-FVE-FS-"), "is encrypted"),
        (bytes(HEAD), "is empty"),
        (with_bytes(9, b"zfs or whatever"), "is of no kind that is known here"),
        (with_bytes(82, b"FAT32   "), "is vfat"),
    ],
)
def test_in_words(head: bytes, words: str) -> None:
    assert partition(head).words().startswith(f"vdb1 (105 MB) {words}")


def test_a_partition_that_cannot_be_read_says_why() -> None:
    assert Partition("vdb2", MB, b"", "EIO").words() == "vdb2 (1 MB) cannot be read (EIO)"


def test_a_disk_with_partitions_is_no_file_system_itself() -> None:
    ext4 = with_bytes(0x438, b"\x53\xef")
    whole, first = partition(ext4, "vdb"), partition(ext4, "vdb1")
    assert mountable((whole, first, partition(bytes(HEAD), "vdb2"))) == (first,)
    assert mountable((whole,)) == (whole,)
    assert mountable(()) == ()


def test_nothing_is_written_by_a_mount() -> None:
    assert partition(with_bytes(0, b"XFSB")).options == "ro,norecovery"
    assert partition(with_bytes(0x438, b"\x53\xef")).options == "ro,noload"
    assert partition(with_bytes(0, b"hsqs")).options == "ro"
