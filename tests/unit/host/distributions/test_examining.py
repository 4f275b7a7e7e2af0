"""What is found in an image, and what is refused, by the answers of a guest: its disk is a few folders here."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab.core.errors import GuestLost, LabError, PrerequisiteError, ScenarioError
from lab.host.distributions.examining import Examined, examine
from lab.host.machines.machine import OnEvent

EXT4 = bytes(0x438) + b"\x53\xef" + bytes(100)
XFS = b"XFSB" + bytes(100)
BTRFS = bytes(0x10040) + b"_BHRfS_M" + bytes(100)
LUKS = b"LUKS\xba\xbe" + bytes(100)
ELF = b"\x7fELF\x02\x01" + bytes(10) + b"\x02\x00%s" + bytes(44)
X86, ARM = ELF % b"\x3e\x00", ELF % b"\xb7\x00"
OS_RELEASE = b'ID=test\nVERSION_ID=1\nPRETTY_NAME="Test 1"\n'


def bzimage(release: str) -> bytes:
    """The header of a 64-bit kernel (Documentation/arch/x86/boot.rst), its version's text at 0x400."""
    head = bytearray(0x800)
    head[0x202:0x206] = b"HdrS"
    head[0x206:0x208] = (0x20C).to_bytes(2, "little")
    head[0x20E:0x210] = (0x200).to_bytes(2, "little")
    head[0x236] = 1
    text = f"{release} (builder) #1\0".encode()
    head[0x400 : 0x400 + len(text)] = text
    return bytes(head)


@dataclass
class Disk:
    """A guest with a disk whose partitions are folders."""

    folder: Path
    heads: list[bytes]
    unmountable: set[str] = field(default_factory=set)
    printed: dict[str, str] = field(default_factory=dict)
    mounted: dict[str, str] = field(default_factory=dict)
    refuses_processor: bool = False

    def put(self, name: str, files: dict[str, bytes]) -> None:
        for path, content in files.items():
            file = self.folder / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **asked: Any
    ) -> Any:
        answer = getattr(self, f"_{operation}")(**asked)
        if operation == "fetch" and on_event is not None:
            on_event({"event": "part", "content": base64.b64encode(answer["content"]).decode()})
        return answer

    def _partitions(self, disk: str) -> Any:
        names = [disk, *(f"{disk}{number}" for number in range(1, len(self.heads) + 1))]
        parts = zip(names, [bytes(512), *self.heads], strict=True)
        described = [
            {"name": name, "size_bytes": 10**9, "head": base64.b64encode(head).decode(), "error": None}
            for name, head in parts
        ]
        return {"partitions": described}

    def _mount(self, name: str, filesystem: str, options: str) -> Any:
        if name in self.unmountable:
            return {"exit_status": 32, "stderr": "mount: bad superblock", "place": ""}
        self.mounted[name] = options
        subvolume = next((part[7:] for part in options.split(",") if part.startswith("subvol=")), "")
        return {"exit_status": 0, "stderr": "", "place": str(self.folder / name / subvolume)}

    def _look(self, root: str, patterns: list[str]) -> Any:
        paths = sorted({path for pattern in patterns for path in Path(root).glob(pattern)})
        return {
            "paths": [{"path": str(path.relative_to(root)), "link": None, "folder": path.is_dir()} for path in paths]
        }

    def _texts(self, root: str, paths: list[str], limit: int) -> Any:
        return {path: {"text": self._text(Path(root, path)), "error": None} for path in paths}

    @staticmethod
    def _text(path: Path) -> str | None:
        return path.read_text() if path.is_file() else None

    def _fetch(self, root: str, path: str, limit: int) -> Any:
        file = Path(root, path)
        if not file.is_file():
            raise GuestLost("ENOENT")
        return {"content": file.read_bytes()[:limit]}

    def _run(self, root: str, argv: list[str]) -> Any:
        if self.refuses_processor:
            return {"exit_status": 127, "stderr": "Fatal glibc error: CPU does not support x86-64-v3\n"}
        printed = self.printed.get(argv[0])
        return {"exit_status": 127 if printed is None else 0, "stdout": printed or ""}


SYSTEM = {"etc/os-release": OS_RELEASE, "bin/sh": X86}
MODULES = {
    "lib/modules/6.1.0/modules.dep": b"kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko\nkernel/lib/libcrc32c.ko:\n",
    "lib/modules/6.1.0/modules.builtin": b"kernel/fs/ext4/ext4.ko\n",
    "lib/modules/6.1.0/kernel/fs/xfs/xfs.ko": b"xfs",
    "lib/modules/6.1.0/kernel/lib/libcrc32c.ko": b"crc",
}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def look(disk: Disk, work: Path) -> Examined:
    return asyncio.run(examine(disk, work))


def test_a_root_with_a_boot_partition_of_its_own(tmp_path: Path, work: Path) -> None:
    disk = Disk(tmp_path, [b"", EXT4, XFS], printed={"rpm": "kernel-core 6.1.0\nnftables 1.0.9-1\n"})
    disk.put("vdb2", {"vmlinuz-6.1.0": bzimage("6.1.0"), "config-6.1.0": b"CONFIG_X=y\n"})
    disk.put("vdb3", {**SYSTEM, **MODULES, "etc/modules-load.d/a.conf": b"nf_conntrack\n"})
    found = look(disk, work)
    assert (found.root.partition, found.root.filesystem, found.root.options) == ("vdb3", "xfs", "ro,norecovery")
    assert (found.root.name, found.release, found.config) == ("Test 1", "6.1.0", "CONFIG_X=y\n")
    assert found.kernel.read_bytes() == bzimage("6.1.0")
    assert sorted(path.name for path in found.modules.rglob("*.ko")) == ["libcrc32c.ko", "xfs.ko"]
    assert found.packages == {"kernel": "6.1.0", "nftables": "1.0.9-1"}
    assert found.settings.modules == ("nf_conntrack",)
    assert all(options.startswith("ro") for options in disk.mounted.values())


def test_of_several_kernels_the_newest_that_has_modules(tmp_path: Path, work: Path) -> None:
    disk = Disk(tmp_path, [EXT4])
    newer = {path.replace("6.1.0", "6.10.0"): content for path, content in MODULES.items()}
    kernels = {f"boot/vmlinuz-{release}": bzimage(release) for release in ("6.1.0", "6.10.0", "6.11.0")}
    disk.put("vdb1", {**SYSTEM, **MODULES, **newer, **kernels})
    assert look(disk, work).release == "6.10.0"


@pytest.mark.parametrize("refuses", [False, True])
def test_programs_built_for_newer_processors_get_one(refuses: bool, tmp_path: Path, work: Path) -> None:
    disk = Disk(tmp_path, [EXT4], refuses_processor=refuses, printed={"apk": "linux-virt-6.1.0-r0\n"})
    disk.put("vdb1", {**SYSTEM, **MODULES, "boot/vmlinuz-6.1.0": bzimage("6.1.0")})
    found = look(disk, work)
    assert (found.newest_processor, found.packages) == (refuses, {} if refuses else {"kernel": "6.1.0-r0"})


def test_a_root_in_a_subvolume_of_btrfs(tmp_path: Path, work: Path) -> None:
    disk = Disk(tmp_path, [BTRFS])
    kernel = {"lib/modules/6.1.0/vmlinuz": bzimage("6.1.0")}
    disk.put("vdb1", {f"root/{path}": content for path, content in {**SYSTEM, **MODULES, **kernel}.items()})
    assert look(disk, work).root.options == "ro,rescue=nologreplay,subvol=root"


@pytest.mark.parametrize(
    ("heads", "why"),
    [
        ([LUKS], r"vdb1 \(1000 MB\) is encrypted"),
        ([bytes(512) + b"LABELONE" + bytes(100)], "is a volume of LVM"),
        ([b"any new file system" + bytes(100)], "is of no kind that is known here"),
        ([EXT4], "no partition with a system"),
    ],
)
def test_no_root(heads: list[bytes], why: str, tmp_path: Path, work: Path) -> None:
    with pytest.raises(ScenarioError, match=why) as refused:
        look(Disk(tmp_path, heads), work)
    assert refused.value.hint


def test_a_file_system_that_the_labs_kernel_cannot_mount_says_what_mount_said(tmp_path: Path, work: Path) -> None:
    with pytest.raises(ScenarioError, match="vdb1: mount: bad superblock"):
        look(Disk(tmp_path, [XFS], unmountable={"vdb1"}), work)


def test_another_architecture(tmp_path: Path, work: Path) -> None:
    disk = Disk(tmp_path, [EXT4])
    disk.put("vdb1", {**SYSTEM, "bin/sh": ARM})
    with pytest.raises(ScenarioError, match=r"its /bin/sh is for arm64 \(aarch64\), and guests here are x86-64"):
        look(disk, work)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "no file like /boot/vmlinuz-RELEASE"),
        ({"boot/vmlinuz-6.2.0": bzimage("6.2.0")}, "/boot/vmlinuz-6.2.0 is 6.2.0, which has no modules"),
        ({"boot/vmlinuz-6.1.0": b"\x1f\x8b" + bytes(600)}, "it is not a bzImage but a gzip file"),
    ],
)
def test_no_kernel(files: dict[str, bytes], why: str, tmp_path: Path, work: Path) -> None:
    disk = Disk(tmp_path, [EXT4])
    disk.put("vdb1", {**SYSTEM, **MODULES, **files})
    with pytest.raises(ScenarioError, match=why):
        look(disk, work)


@pytest.mark.parametrize("name", ["../../etc/passwd", "kernel/../../x.ko", "/etc/x.ko", "a b.ko"])
def test_a_module_never_leaves_the_folder_that_it_is_for(name: str, tmp_path: Path, work: Path) -> None:
    disk = Disk(tmp_path, [EXT4])
    listed = {"lib/modules/6.1.0/modules.dep": f"{name}/ext4.ko:\n".encode()}
    disk.put("vdb1", {**SYSTEM, **MODULES, **listed, "boot/vmlinuz-6.1.0": bzimage("6.1.0")})
    with pytest.raises(PrerequisiteError, match="a file of an odd name"):
        look(disk, work)


def test_a_guest_that_sends_more_than_was_asked_for_is_lost(tmp_path: Path, work: Path) -> None:
    disk = Disk(tmp_path, [EXT4])
    disk.put("vdb1", {**SYSTEM, **MODULES, "boot/vmlinuz-6.1.0": bzimage("6.1.0") + bytes(0x20000)})
    disk._fetch = lambda root, path, limit: {"content": Path(root, path).read_bytes()}  # type: ignore[method-assign]
    with pytest.raises(LabError, match=r"sends more of /boot/vmlinuz-6.1.0 than it was asked for"):
        look(disk, work)


def test_garbage_is_no_disk(tmp_path: Path, work: Path) -> None:
    disk = Disk(tmp_path, [EXT4])
    disk._partitions = lambda disk: {"partitions": [{"name": "vdb"}]}  # type: ignore[method-assign]
    with pytest.raises(GuestLost, match="described its disk"):
        look(disk, work)
