"""The initial RAM disk: the archive's format, and which modules go into it in which order."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from lab.core.errors import PrerequisiteError
from lab.host.images import initrd
from lab.host.images.initrd import Entry

# from Debian 12's modules.dep: what is needed is listed in the order of unloading
MODULES_DEP = """\
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_pci.ko: {virtio}/virtio_pci_modern_dev.ko {virtio}/virtio_ring.ko {virtio}/virtio.ko
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/char/virtio_console.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/fs/overlayfs/overlay.ko:
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/lib/libcrc32c.ko:
kernel/net/netfilter/nf_conntrack.ko: kernel/lib/libcrc32c.ko
""".replace("{virtio}", "kernel/drivers/virtio")
EXT4_DEP = "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko\n"
BUILTIN = "kernel/fs/ext4/ext4.ko\nkernel/fs/mbcache.ko\n"


def unpack(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Every member of every archive in a row, as the kernel reads them: name -> mode, content."""
    members: dict[str, tuple[int, bytes]] = {}
    at = 0
    while at < len(archive):
        assert at % 4 == 0
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        start = (at + 110 + name_size + 3) // 4 * 4
        if name != "TRAILER!!!":
            members[name] = (mode, archive[start : start + size])
        at = (start + size + 3) // 4 * 4
    return members


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """lib/modules/RELEASE of a kernel with ext4 built in."""
    folder = tmp_path / "6.1.0"
    for line in MODULES_DEP.splitlines():
        path = folder / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (folder / "modules.dep").write_text(MODULES_DEP)
    (folder / "modules.builtin").write_text(BUILTIN)
    return folder


@pytest.fixture
def busybox(tmp_path: Path) -> Path:
    path = tmp_path / "busybox"
    path.write_bytes(b"\x7fELF busybox")
    return path


class TestArchive:
    def test_members_come_back(self) -> None:
        entries = [Entry("a", stat.S_IFDIR | 0o755), Entry("a/bc", stat.S_IFREG | 0o644, b"12345")]
        assert unpack(initrd.cpio(entries)) == {"a": (0o40755, b""), "a/bc": (0o100644, b"12345")}

    def test_equal_entries_give_equal_bytes(self) -> None:
        assert initrd.agent_part(b"agent") == initrd.agent_part(b"agent")

    @pytest.mark.parametrize("size", range(9))
    def test_archives_can_be_put_in_a_row(self, size: int) -> None:
        first = initrd.cpio([Entry("n" * size, stat.S_IFREG, b"x" * size)])
        assert len(first) % 4 == 0
        assert unpack(first + initrd.agent_part(b"zip"))["agent.pyz"] == (0o100644, b"zip")

    @pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
    def test_cpio_reads_it(self, tmp_path: Path) -> None:
        archive = initrd.cpio([Entry("f", stat.S_IFREG | 0o640, b"text"), Entry("l", stat.S_IFLNK | 0o777, b"f")])
        subprocess.run(("cpio", "--extract", "--quiet"), input=archive, cwd=tmp_path, check=True, timeout=10)
        assert (tmp_path / "l").read_text() == "text"
        assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


class TestModules:
    @pytest.mark.parametrize(
        ("file", "name"),
        [
            ("kernel/arch/x86/crypto/crc32c-intel.ko.xz", "crc32c_intel"),
            ("kernel/fs/ext4/ext4.ko", "ext4"),
            ("ext4.ko.zst", "ext4"),
        ],
    )
    def test_names_are_the_kernels(self, file: str, name: str) -> None:
        assert initrd.module_name(file) == name

    def test_each_comes_after_what_it_needs_and_once(self) -> None:
        dependencies = initrd.parse_dependencies(MODULES_DEP)
        order = initrd.load_order(["virtio_pci", "virtio_blk", "absent"], dependencies)
        assert [initrd.module_name(file) for file in order] == [
            "virtio",
            "virtio_ring",
            "virtio_pci_modern_dev",
            "virtio_pci",
            "virtio_blk",
        ]

    def test_a_modular_ext4_brings_its_checksums(self) -> None:
        order = initrd.load_order(["ext4"], initrd.parse_dependencies(MODULES_DEP + EXT4_DEP))
        names = [initrd.module_name(file) for file in order]
        assert names == ["crc32c_intel", "libcrc32c", "jbd2", "mbcache", "crc16", "ext4"]

    def test_missing_options_are_the_mandatory_ones(self) -> None:
        present = frozenset({"virtio_pci", "virtio_blk", "virtio_console"})
        assert initrd.missing_options(present, {}) == ("CONFIG_EXT4_FS",)
        assert initrd.missing_options(present, {"CONFIG_EXT4_FS": "y"}) == ()
        assert initrd.missing_options(present, {"CONFIG_EXT4_FS": "m"}) == ("CONFIG_EXT4_FS",)

    def test_a_config_has_only_what_is_set(self) -> None:
        text = "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\n"
        assert initrd.parse_config(text) == {"CONFIG_B": "y", "CONFIG_C": "m"}

    @pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress)])
    def test_modules_are_unpacked(self, tmp_path: Path, suffix: str, pack: object) -> None:
        assert callable(pack)
        path = tmp_path / f"a.ko{suffix}"
        path.write_bytes(pack(b"\x7fELF"))
        assert initrd.read_module(path) == b"\x7fELF"

    @pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
    def test_zstd_modules_are_unpacked(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ko"
        path.write_bytes(b"\x7fELF")
        subprocess.run(("zstd", "--quiet", str(path)), check=True, timeout=10)
        assert initrd.read_module(tmp_path / "a.ko.zst") == b"\x7fELF"

    @pytest.mark.parametrize("suffix", [".xz", ".gz"])
    def test_a_broken_module_is_named(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"a.ko{suffix}"
        path.write_bytes(b"garbage")
        with pytest.raises(PrerequisiteError, match=path.name):
            initrd.read_module(path)


class TestKernelPart:
    def test_it_holds_what_the_way_to_root_needs_and_no_netfilter(self, modules: Path, busybox: Path) -> None:
        members = unpack(initrd.kernel_part(modules, busybox))
        assert members["modules/order"][1].decode().split() == [
            "virtio.ko",
            "virtio_ring.ko",
            "virtio_pci_modern_dev.ko",
            "virtio_pci.ko",
            "virtio_blk.ko",
            "overlay.ko",
            "virtio_console.ko",
        ]
        assert members["modules/overlay.ko"][1] == b"overlay.ko"
        assert members["bin/sh"] == (0o120777, b"busybox")
        assert members["init"] == (0o100755, initrd.init_script())
        assert "modules/disk" not in members

    def test_a_second_disk_is_marked(self, modules: Path, busybox: Path) -> None:
        assert "modules/disk" in unpack(initrd.kernel_part(modules, busybox, modules_disk=True))

    def test_an_optional_module_may_be_gone(self, modules: Path, busybox: Path) -> None:
        (modules / "kernel/fs/overlayfs/overlay.ko").unlink()
        assert "modules/overlay.ko" not in unpack(initrd.kernel_part(modules, busybox))

    def test_a_missing_driver_is_named_by_its_option(self, modules: Path, busybox: Path) -> None:
        (modules / "modules.builtin").write_text("kernel/other.ko\n")
        with pytest.raises(PrerequisiteError, match="CONFIG_EXT4_FS"):
            initrd.kernel_part(modules, busybox)

    def test_a_kernel_without_modules_needs_all_built_in(self, busybox: Path) -> None:
        config = "".join(f"{driver.option}=y\n" for driver in initrd.DRIVERS)
        assert unpack(initrd.kernel_part(None, busybox, config=config))["modules/order"][1] == b""
        with pytest.raises(PrerequisiteError, match="CONFIG_VIRTIO_BLK"):
            initrd.kernel_part(None, busybox, config=config.replace("CONFIG_VIRTIO_BLK=y", ""))

    def test_a_kernel_of_which_nothing_is_known_is_tried(self, busybox: Path) -> None:
        assert "init" in unpack(initrd.kernel_part(None, busybox))


class TestInitScript:
    def test_a_shell_understands_it(self) -> None:
        subprocess.run(("sh", "-n"), input=initrd.init_script(), check=True, timeout=10)

    def test_its_commands_are_all_linked(self) -> None:
        script = initrd.init_script().decode()
        used = {line.split()[0] for line in script.splitlines() if line.strip()}
        commands = {"cp", "insmod", "ln", "mkdir", "mount", "umount", "usleep"}
        assert commands & used <= set(initrd.APPLETS)
        assert {"mdev", "switch_root", "sh"} <= set(initrd.APPLETS)
