"""Which root, which kernel, which architecture."""

from __future__ import annotations

import pytest

from lab.core.distribution.filesystem import Partition
from lab.core.distribution.layout import (
    Root,
    machine_of,
    module_folders,
    newest,
    no_root,
    parse_os_release,
    subvolumes,
)

# of a real image: Alpine 3.23 quotes names only, AlmaLinux all, in two ways
ALPINE = 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.23.0\nPRETTY_NAME="Alpine Linux v3.23"\n'


def test_os_release() -> None:
    fields = parse_os_release(ALPINE + "# a comment\nnonsense\nHOME_URL='https://example.org/'\n")
    assert fields["ID"] == "alpine"
    assert fields["HOME_URL"] == "https://example.org/"
    assert "nonsense" not in fields
    assert Root("vdb", "ext4", "ro", fields).name == "Alpine Linux v3.23"
    assert Root("vdb", "ext4", "ro", {"NAME": "X", "VERSION_ID": "1"}).name == "X 1"


@pytest.mark.parametrize(
    ("releases", "expected"),
    [
        (["6.1.0-9-amd64", "6.1.0-10-amd64"], "6.1.0-10-amd64"),
        (["5.14.0-70.el9.x86_64", "5.14.0-503.11.1.el9_5.x86_64"], "5.14.0-503.11.1.el9_5.x86_64"),
        (["6.18.56-0-virt"], "6.18.56-0-virt"),
        (["6.10.0", "6.9.12"], "6.10.0"),
        ([], None),
    ],
)
def test_the_newest_kernel(releases: list[str], expected: str | None) -> None:
    assert newest(releases) == expected


def test_modules_by_release() -> None:
    found = module_folders(["lib/modules/6.1.0/modules.dep", "usr/lib/modules/6.2.0/modules.dep"])
    assert found == {"6.1.0": "lib/modules/6.1.0", "6.2.0": "usr/lib/modules/6.2.0"}


def test_subvolumes_that_look_like_a_root() -> None:
    assert subvolumes(["home/etc/os-release", "root/etc/os-release", "root/usr/lib/os-release"]) == ("root", "home")
    assert subvolumes(["a b/etc/os-release", "x,rw/etc/os-release"]) == ()


@pytest.mark.parametrize(
    ("machine", "order", "expected"),
    [
        (62, 1, "x86-64"),
        (183, 1, "arm64 (aarch64)"),
        (22, 2, "s390x"),
        (999, 1, "another architecture (ELF machine 999)"),
    ],
)
def test_the_architecture_of_a_program(machine: int, order: int, expected: str) -> None:
    number = machine.to_bytes(2, "little" if order == 1 else "big")
    assert machine_of(b"\x7fELF\x02" + bytes([order]) + bytes(10) + b"\x02\x00" + number + bytes(44)) == expected


def test_what_is_no_program_has_none() -> None:
    assert machine_of(b"#!/bin/sh\n") is None
    assert machine_of(b"\x7fELF") is None


def test_no_root_says_what_each_partition_holds() -> None:
    parts = (
        Partition("vdb", 2 * 10**9, b""),
        Partition("vdb1", 10**9, b"LUKS\xba\xbe" + bytes(100)),
        Partition("vdb2", 10**8, bytes(600)),
    )
    assert no_root(parts).endswith("vdb1 (1000 MB) is encrypted; vdb2 (100 MB) is empty")
