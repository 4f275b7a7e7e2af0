"""Kernels of one's own: where they are found, what their header says, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host.images import initrd
from lab.host.kernels import preparing
from lab.host.kernels.bundle import KernelBundle, kernels_folder
from lab.host.kernels.bundle import verify as verify_kernel
from lab.host.kernels.find import find_kernel
from lab.host.kernels.header import parse_release, read_release

RELEASE = "3.10.108-lab"
ALL_BUILT_IN = "".join(f"kernel/x/{driver.module}.ko\n" for driver in initrd.DRIVERS)


def bz_image(release: str) -> bytes:
    """The setup part of a bzImage (Documentation/arch/x86/boot.rst) with this version in it."""
    image = bytearray(0x1000)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = (0x800 - 0x200).to_bytes(2, "little")
    text = f"{release} (builder@host) #1 SMP".encode() + b"\0"
    image[0x800 : 0x800 + len(text)] = text
    return bytes(image)


def place_kernel(root: Path, release: str = RELEASE, name: str = "boot/vmlinuz-{release}") -> Path:
    path = root / name.format(release=release)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bz_image(release))
    return path


def place_modules(root: Path, release: str = RELEASE, where: str = "lib/modules") -> Path:
    folder = root / where / release
    (folder / "kernel").mkdir(parents=True)
    (folder / "modules.builtin").write_text(ALL_BUILT_IN)
    (folder / "modules.order").touch()
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "busybox").write_bytes(b"busybox")
    folder = tmp_path / "kernel"
    folder.mkdir()
    return folder


def prepare(path: Path, modules: Path | None = None) -> KernelBundle:
    busybox = path.parent / "busybox" if (path.parent / "busybox").exists() else path.parent.parent / "busybox"
    return preparing.prepare(path, busybox=busybox, modules=modules, progress=lambda line: None)


class TestHeader:
    @pytest.mark.parametrize("release", ["3.10.0-1160.el7.x86_64", "6.1.0-50-cloud-amd64", "7.2+deb14~rc1"])
    def test_it_tells_the_release(self, release: str) -> None:
        assert parse_release(bz_image(release)) == release

    @pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(4096), bytes(4096)])
    def test_anything_else_has_none(self, content: bytes) -> None:
        assert parse_release(content) is None

    def test_a_wild_pointer_has_none(self) -> None:
        image = bytearray(bz_image(RELEASE))
        image[0x20E:0x210] = b"\xff\xff"
        assert parse_release(bytes(image)) is None

    def test_an_elf_kernel_is_refused_with_the_mend(self, root: Path) -> None:
        (root / "vmlinux").write_bytes(b"\x7fELF" + bytes(1024))
        with pytest.raises(ScenarioError, match="is not a bzImage") as caught:
            read_release(root / "vmlinux")
        assert "arch/x86/boot/bzImage" in caught.value.hint


class TestFind:
    @pytest.mark.parametrize("name", ["boot/vmlinuz-{release}", "vmlinuz", "bzImage", "arch/x86/boot/bzImage"])
    @pytest.mark.parametrize("where", ["lib/modules", "usr/lib/modules", "modules/lib/modules", "modules", "."])
    def test_the_usual_places(self, root: Path, name: str, where: str) -> None:
        kernel, modules = place_kernel(root, name=name), place_modules(root, where=where)
        found = find_kernel(root)
        assert (found.release, found.vmlinuz) == (RELEASE, kernel)
        assert found.modules and found.modules.samefile(modules)

    def test_a_kernel_alone_has_no_modules(self, root: Path) -> None:
        assert find_kernel(place_kernel(root)).modules is None

    @pytest.mark.parametrize("given", ["", "lib", "lib/modules", f"lib/modules/{RELEASE}"])
    def test_modules_can_be_given_at_any_height(self, root: Path, given: str) -> None:
        kernel, modules = place_kernel(root), place_modules(root)
        if given == "lib":
            modules = modules.rename(root / "lib" / RELEASE)
        found = find_kernel(kernel, root / given)
        assert found.modules and found.modules.samefile(modules)

    def test_a_kernels_config_is_found(self, root: Path) -> None:
        place_kernel(root)
        (root / "boot" / f"config-{RELEASE}").touch()
        assert find_kernel(root).config == root / "boot" / f"config-{RELEASE}"

    def test_a_build_tree_is_not_taken_for_modules(self, root: Path) -> None:
        place_kernel(root, name="arch/x86/boot/bzImage")
        (root / "kernel").mkdir()
        (root / "fs").mkdir()
        (root / "fs" / "modules.order").touch()
        assert find_kernel(root).modules is None

    def test_other_modules_are_refused_by_both_names(self, root: Path) -> None:
        place_kernel(root)
        place_modules(root, "6.1.0")
        with pytest.raises(ScenarioError, match=rf"is {RELEASE}, but the modules in .* are of 6\.1\.0"):
            find_kernel(root)

    def test_modules_that_are_not_there_are_refused(self, root: Path) -> None:
        kernel = place_kernel(root)
        with pytest.raises(ScenarioError, match="no folder of modules"):
            find_kernel(kernel, root / "absent")
        with pytest.raises(ScenarioError, match="no modules in"):
            find_kernel(kernel, root)

    def test_several_kernels_are_refused_by_name(self, root: Path) -> None:
        place_kernel(root, "5.10.1")
        place_kernel(root, "6.1.0")
        with pytest.raises(ScenarioError, match=r"several kernels: 5\.10\.1, 6\.1\.0"):
            find_kernel(root)

    def test_one_kernel_by_two_names_is_one(self, root: Path) -> None:
        place_kernel(root)
        place_kernel(root, name="vmlinuz")
        assert find_kernel(root).release == RELEASE

    def test_a_folder_without_one_says_where_it_looked(self, root: Path) -> None:
        with pytest.raises(ScenarioError, match="no kernel in") as caught:
            find_kernel(root)
        assert "arch/x86/boot/bzImage" in caught.value.hint


class TestPrepare:
    def test_a_path_that_is_not_there(self, root: Path) -> None:
        with pytest.raises(ScenarioError, match="no such file or folder"):
            prepare(root / "absent")

    def test_a_kernel_with_all_built_in(self, root: Path) -> None:
        bundle = prepare(place_kernel(root, name="bzImage"))
        assert (bundle.release, bundle.modules_disk, bundle.config) == (RELEASE, None, None)
        assert bundle.vmlinuz.read_bytes() == bz_image(RELEASE)
        assert bundle.directory.name.startswith(f"{RELEASE}-")
        verify_kernel(bundle)
        assert [path.name for path in kernels_folder().iterdir()] == [bundle.directory.name]

    def test_the_second_time_it_comes_from_the_cache(self, root: Path) -> None:
        lines: list[str] = []
        kernel = place_kernel(root, name="bzImage")
        first = preparing.prepare(kernel, busybox=root.parent / "busybox", progress=lines.append)
        assert preparing.prepare(kernel, busybox=root.parent / "busybox", progress=lines.append) == first
        assert len(lines) == 1

    def test_another_init_script_makes_another_bundle(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        kernel = place_kernel(root, name="bzImage")
        first = prepare(kernel)
        monkeypatch.setattr(initrd, "init_script", lambda: b"#!/bin/sh\n")
        second = prepare(kernel)
        assert first.digest == second.digest
        assert first.directory != second.directory

    def test_a_kernel_that_cannot_boot_leaves_nothing(self, root: Path) -> None:
        kernel = place_kernel(root, name="bzImage")
        (root / "config").write_text("CONFIG_EXT4_FS=y\n")
        with pytest.raises(PrerequisiteError, match="CONFIG_VIRTIO_PCI, CONFIG_VIRTIO_BLK, CONFIG_VIRTIO_CONSOLE"):
            prepare(kernel)
        assert list(kernels_folder().iterdir()) == []

    def test_damage_is_named(self, root: Path) -> None:
        bundle = prepare(place_kernel(root, name="bzImage"))
        bundle.initrd.write_bytes(b"")
        with pytest.raises(PrerequisiteError, match=rf"kernel {RELEASE} is damaged: .*initrd\.cpio"):
            verify_kernel(bundle)

    @pytest.mark.skipif(
        not all(shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin") for name in ("depmod", "mke2fs", "setpriv")),
        reason="depmod (kmod), mke2fs (e2fsprogs) or setpriv (util-linux) is not installed",
    )
    def test_modules_become_a_disk_and_the_source_stays_as_it_was(self, root: Path) -> None:
        place_kernel(root)
        modules = place_modules(root)
        bundle = prepare(root)
        assert bundle.modules_disk and bundle.modules_disk.stat().st_size > 0
        assert not (modules / "modules.dep").exists()
