"""Which partition is the root of a distribution, which kernel it boots, and what it calls itself: from listings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.core.distribution.filesystem import Partition

# os-release(5): /etc first, where a distribution's /usr/lib has the vendor's
OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
# where kernels lie: /boot, also as a partition of its own, and beside their modules
KERNELS = ("boot/vmlinuz*", "boot/vmlinux*", "boot/kernel-*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz")
BOOT_PARTITION = ("vmlinuz*", "kernel-*")
MODULES = ("lib/modules/*/modules.dep", "usr/lib/modules/*/modules.dep")
# of btrfs: a root in a subvolume that is not the one which is mounted by default
SUBVOLUMES = ("*/etc/os-release", "*/usr/lib/os-release")
_OS_RELEASE_LINE = re.compile(r"""([A-Z][A-Z0-9_]*)=(?:"([^"]*)"|'([^']*)'|(.*))""", re.ASCII)
# ELF header, elf(5): e_machine at byte 18
_MACHINES = {3: "32-bit x86", 40: "32-bit ARM", 62: "x86-64", 183: "arm64 (aarch64)", 243: "RISC-V", 22: "s390x"}
_MACHINES_MORE = {21: "POWER", 258: "LoongArch"}
X86_64 = "x86-64"


@dataclass(frozen=True)
class Root:
    """A distribution's root: the partition, how it is mounted to be read, and what it calls itself."""

    partition: str
    filesystem: str
    options: str
    os_release: Mapping[str, str]

    @property
    def name(self) -> str:
        """As people call it."""
        said = self.os_release
        return said.get("PRETTY_NAME") or f"{said.get('NAME', 'unknown')} {said.get('VERSION_ID', '')}".strip()


def parse_os_release(text: str) -> Mapping[str, str]:
    """The fields of os-release(5), unquoted."""
    found = (_OS_RELEASE_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {match[1]: next(part for part in match.groups()[1:] if part is not None)[:200] for match in found if match}


def subvolumes(paths: Iterable[str]) -> tuple[str, ...]:
    """The subvolumes in which something like a root lies, of what SUBVOLUMES matches; one called root or @ first."""
    names = sorted({path.partition("/")[0] for path in paths}, key=lambda name: (name not in ("root", "@"), name))
    return tuple(name for name in names if re.fullmatch(r"[\w.@-]+", name, re.ASCII))


def module_folders(paths: Iterable[str]) -> Mapping[str, str]:
    """The folders of modules by their release, of what MODULES matches."""
    return {folder.rpartition("/")[2]: folder for path in paths if (folder := path.rpartition("/")[0])}


def newest(releases: Iterable[str]) -> str | None:
    """The newest of some kernels' releases, as numbers compare; None for none."""
    return max(
        releases, key=lambda release: [_number(part) for part in re.findall(r"\d+|[a-z]+", release)], default=None
    )


def _number(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdigit() else (-1, part)


def machine_of(head: bytes) -> str | None:
    """The architecture that a program is for, from its first bytes; None where it is no ELF file."""
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return None
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return {**_MACHINES, **_MACHINES_MORE}.get(number, f"another architecture (ELF machine {number})")


def no_root(partitions: Sequence[Partition]) -> str:
    """Why there is no root among the partitions, in a line that says what each holds."""
    held = "; ".join(part.words() for part in (partitions[1:] or partitions[:1]))
    return f"has no partition with a system (an /etc/os-release) that can be read: {held}"
