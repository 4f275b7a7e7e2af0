"""What an image file is, by its first bytes."""

from __future__ import annotations

import struct

import pytest

from lab.core.distribution.disk_format import NoDiskImage, disk_format

MB = 2**20


def qcow2(*, version: int = 3, backing: int = 0, size_bytes: int = MB, encryption: int = 0, features: int = 0) -> bytes:
    head = struct.pack(">4sIQIIQI", b"QFI\xfb", version, backing, 0, 16, size_bytes, encryption)
    return head.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(432)


@pytest.mark.parametrize("version", [2, 3])
def test_a_qcow2_image(version: int) -> None:
    assert disk_format(qcow2(version=version), 10 * MB) == "qcow2"


def test_anything_of_whole_sectors_may_be_a_raw_image() -> None:
    assert disk_format(bytes(4096), MB) == "raw"


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (qcow2(backing=4096), "the rest lies in another file"),
        (qcow2(features=4), "the rest lies in another file"),
        (qcow2(encryption=2), "encrypted"),
        (qcow2(features=2), "corrupt"),
        (qcow2(features=1), "not closed"),
        (qcow2(version=4), "version 4"),
        (qcow2(size_bytes=0), "an empty disk"),
        (b"QFI\xfb\0\0\0\3", "ends within its header"),
        (b"KDMV" + bytes(508), "VMDK"),
        (b"vhdxfile" + bytes(504), "VHDX"),
        (bytes(64) + b"\x7f\x10\xda\xbe" + bytes(444), "VDI"),
        (b"\xfd7zXZ\0" + bytes(506), "packed by xz"),
        (b"\x1f\x8b" + bytes(510), "packed by gzip"),
        (b"<!DOCTYPE html>" + bytes(497), "a page of HTML"),
    ],
)
def test_what_is_refused(head: bytes, why: str) -> None:
    with pytest.raises(NoDiskImage, match=why) as refused:
        disk_format(head, MB)
    assert refused.value.hint


def test_a_file_that_was_cut_off_is_no_raw_image() -> None:
    with pytest.raises(NoDiskImage, match="whole sectors"):
        disk_format(bytes(4096), MB + 7)
    with pytest.raises(NoDiskImage, match="is empty"):
        disk_format(b"", 0)


def test_features_of_version_2_are_other_things() -> None:
    assert disk_format(qcow2(version=2, features=6), MB) == "qcow2"
