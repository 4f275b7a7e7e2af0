"""Kernels from packages of every kind: what is taken of them, and what is refused in which words."""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.core.errors import LabError, PrerequisiteError, ScenarioError
from lab.host.cache import Deadline
from lab.host.kernels import preparing
from lab.host.kernels import unpack as unpacking
from lab.host.kernels.bundle import KernelBundle, kernels_folder
from lab.host.kernels.bundle import verify as verify_kernel
from lab.host.kernels.unpack import unpack
from tests.kernel_packages import MAKERS, NEEDED_PROGRAMS, compress_modules, make_arch, make_deb
from tests.unit.host.kernels.test_kernels import bz_image

RELEASE = "6.8.0-31-generic"
SEARCHED = f"{os.environ['PATH']}:/usr/sbin:/sbin"
DRIVERS = ("virtio_pci", "virtio_blk", "ext4", "virtio_console")
MODULES = (*DRIVERS, "nf_conntrack", "nf_tables", "x_tables")
CONFIG = "".join(
    f"CONFIG_{name}=y\n"
    for name in (
        *("64BIT", "BLK_DEV_INITRD", "BINFMT_ELF", "BINFMT_SCRIPT", "PROC_FS", "SYSFS", "TMPFS"),
        "SERIAL_8250_CONSOLE",
    )
) + "".join(
    f"CONFIG_{name}=m\n"
    for name in (
        *("VIRTIO_PCI", "VIRTIO_BLK", "EXT4_FS", "VIRTIO_CONSOLE"),
        *("NF_CONNTRACK", "NF_TABLES", "NETFILTER_XTABLES"),
    )
)

pytestmark = pytest.mark.skipif(
    any(shutil.which(name, path=SEARCHED) is None for name in NEEDED_PROGRAMS),
    reason=f"needs {', '.join(NEEDED_PROGRAMS)}: scripts/setup --tests",
)


def kernel_image(release: str) -> bytes:
    """A kernel's header, and what does not compress, as in a kernel."""
    return bz_image(release) + random.Random(release).randbytes(100_000)


def module(name: str) -> bytes:
    """A relocatable ELF file for x86-64 with no sections, which is enough for depmod (elf(5))."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2)
    names = b"\0.modinfo\0.shstrtab\0"
    info = f"name={name}".encode() + b"\0"
    at = 64 + 3 * 64
    sections = (
        bytes(64)
        + struct.pack("<IIQQQQIIQQ", 1, 1, 2, 0, at, len(info), 0, 0, 1, 0)
        + struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, at + len(info), len(names), 0, 0, 1, 0)
    )
    return header + sections + info + names


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for packages, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", SEARCHED)
    (tmp_path / "busybox").write_bytes(b"busybox")
    yield tmp_path


def kernel_tree(place: Path, release: str = RELEASE, where: str = "lib/modules", vmlinuz: str = "boot") -> Path:
    """A distribution's tree with a kernel; `vmlinuz` is "boot", or "modules" for one that lies among its modules."""
    root = place / f"tree-{release}"
    modules = root / where / release
    (modules / "kernel").mkdir(parents=True)
    for name in MODULES:
        (modules / "kernel" / f"{name}.ko").write_bytes(module(name))
    for name in ("modules.builtin", "modules.order"):
        (modules / name).touch()
    (modules / "build").symlink_to(f"/usr/src/linux-headers-{release}")
    (root / "boot").mkdir()
    (root / "boot" / f"config-{release}").write_text(CONFIG)
    kernel = root / "boot" / f"vmlinuz-{release}" if vmlinuz == "boot" else modules / "vmlinuz"
    kernel.write_bytes(kernel_image(release))
    return root


def parts_of(tree: Path, ending: str) -> tuple[Path, Path]:
    """Two packages, the kernel's image alone and everything else, as Ubuntu and RHEL part them."""
    image = tree.with_name(f"{tree.name}-image")
    (image / "boot").mkdir(parents=True)
    for kernel in (tree / "boot").glob("vmlinuz-*"):
        kernel.rename(image / "boot" / kernel.name)
    make = MAKERS[ending]
    return (
        make(image, tree.with_name(f"linux-image-{tree.name}{ending}")),
        make(tree, tree.with_name(f"linux-modules-{tree.name}{ending}")),
    )


def prepare(place: Path, *packages: Path) -> KernelBundle:
    source = ",".join(map(str, packages))
    return preparing.prepare(source, busybox=place / "busybox", progress=lambda line: None)


@pytest.mark.parametrize("compression", ["", ".xz", ".zst", ".gz"])
@pytest.mark.parametrize("ending", list(MAKERS))
def test_a_whole_package_of_each_kind(place: Path, ending: str, compression: str) -> None:
    tree = kernel_tree(place, where="usr/lib/modules", vmlinuz="modules" if ending == ".pkg.tar.zst" else "boot")
    compress_modules(tree, compression)
    package = MAKERS[ending](tree, place / f"linux{ending}")
    bundle = prepare(place, package)
    assert (bundle.release, list(bundle.given)) == (RELEASE, [package.name])
    assert bundle.vmlinuz.read_bytes() == kernel_image(RELEASE)
    assert bundle.config is not None and bundle.config.read_text() == CONFIG
    assert bundle.modules_disk is not None
    # the drivers on the way to the disk are in the initial RAM disk, unpacked
    assert all(module(name) in bundle.initrd.read_bytes() for name in DRIVERS)
    verify_kernel(bundle)


@pytest.mark.parametrize("ending", list(MAKERS))
def test_a_kernel_in_two_packages(place: Path, ending: str) -> None:
    image, modules = parts_of(kernel_tree(place), ending)
    bundle = prepare(place, image, modules)
    assert bundle.release == RELEASE and bundle.modules_disk is not None
    assert prepare(place, modules, image) == bundle, "in another order it is the same kernel"


def test_modules_alone_can_be_a_package(place: Path) -> None:
    _, modules = parts_of(kernel_tree(place), ".deb")
    kernel = place / f"tree-{RELEASE}-image" / "boot" / f"vmlinuz-{RELEASE}"
    bundle = preparing.prepare(kernel, busybox=place / "busybox", modules=modules, progress=lambda line: None)
    assert bundle.modules_disk is not None


@pytest.mark.parametrize(
    ("ending", "named"),
    [(".deb", f"linux-modules-{RELEASE}"), (".rpm", f"kernel-modules-core-{RELEASE}"), (".apk", "lib/modules/")],
)
def test_a_kernel_without_its_modules_is_refused_with_the_package_that_has_them(
    place: Path, ending: str, named: str
) -> None:
    image, _ = parts_of(kernel_tree(place), ending)
    with pytest.raises(PrerequisiteError, match=f"no modules of {RELEASE}") as caught:
        prepare(place, image)
    assert named in caught.value.hint and "/cache/" not in str(caught.value)


def test_a_kernel_whose_modules_are_not_complete_is_refused(place: Path) -> None:
    tree = kernel_tree(place)
    (tree / "lib/modules" / RELEASE / "kernel" / "nf_tables.ko").unlink()
    with pytest.raises(PrerequisiteError, match="are not complete: nf_tables is missing"):
        prepare(place, make_deb(tree, place / "linux.deb"))


def test_a_kernel_without_virtio_is_refused_with_what_it_lacks(place: Path) -> None:
    tree = kernel_tree(place)
    config = CONFIG.replace("CONFIG_VIRTIO_BLK=m\n", "").replace("CONFIG_SERIAL_8250_CONSOLE=y\n", "")
    (tree / "boot" / f"config-{RELEASE}").write_text(config)
    (tree / "lib/modules" / RELEASE / "kernel" / "virtio_blk.ko").unlink()
    with pytest.raises(PrerequisiteError, match=r"lacks CONFIG_VIRTIO_BLK, CONFIG_SERIAL_8250_CONSOLE \(a serial"):
        prepare(place, make_deb(tree, place / "linux.deb"))


def test_modules_without_a_kernel_are_refused(place: Path) -> None:
    _, modules = parts_of(kernel_tree(place), ".deb")
    with pytest.raises(ScenarioError, match=r"no kernel in .*linux-modules") as caught:
        prepare(place, modules)
    assert "linux-image-" in caught.value.hint


def test_packages_of_two_releases_are_refused_by_both(place: Path) -> None:
    image, modules = parts_of(kernel_tree(place), ".deb")
    other_image, other_modules = parts_of(kernel_tree(place, "6.8.0-40-generic"), ".deb")
    with pytest.raises(ScenarioError, match=rf"is {RELEASE}, but the modules in .* are of 6\.8\.0-40"):
        prepare(place, image, other_modules)
    with pytest.raises(ScenarioError, match=r"and modules of 6\.8\.0-40-generic too"):
        prepare(place, image, modules, other_modules)
    with pytest.raises(ScenarioError, match=rf"several kernels: {RELEASE}, 6\.8\.0-40"):
        prepare(place, image, other_image, modules)


@pytest.mark.parametrize("ending", list(MAKERS))
def test_a_package_that_is_cut_off_is_named(place: Path, ending: str) -> None:
    package = MAKERS[ending](kernel_tree(place), place / f"linux{ending}")
    whole = package.read_bytes()
    for kept in (1, len(whole) // 50, len(whole) // 2, len(whole) * 9 // 10):
        package.write_bytes(whole[:kept])
        with pytest.raises(ScenarioError, match=rf"linux{ending}: (cannot be unpacked|brings neither)") as caught:
            prepare(place, package)
        assert "cut off" in caught.value.hint
    assert not list(kernels_folder().iterdir())


@pytest.mark.parametrize("ending", list(MAKERS))
def test_what_is_no_package_is_named(place: Path, ending: str) -> None:
    package = place / f"linux{ending}"
    package.write_bytes(b"no package" * 100)
    with pytest.raises(ScenarioError, match=f"linux{ending}: "):
        prepare(place, package)


def test_a_kernel_for_arm64_is_named(place: Path) -> None:
    tree = kernel_tree(place)
    image = bytearray(4096)
    image[0x38:0x3C] = b"ARM\x64"
    (tree / "boot" / f"vmlinuz-{RELEASE}").write_bytes(image)
    with pytest.raises(ScenarioError, match="is a kernel for arm64, and guests here are x86-64"):
        prepare(place, make_deb(tree, place / "linux_arm64.deb", "arm64"))


def test_links_out_of_a_package_are_not_followed(place: Path) -> None:
    secret = place / "secret"
    secret.write_text("secret")
    tree = kernel_tree(place)
    (tree / "boot" / f"config-{RELEASE}").unlink()
    (tree / "boot" / f"config-{RELEASE}").symlink_to(secret)
    (tree / "lib/modules" / RELEASE / "outside").symlink_to(place)
    bundle = prepare(place, make_arch(tree, place / "linux.pkg.tar.zst"))
    assert bundle.config is None


@pytest.mark.parametrize("name", ["../escaped", "/tmp/lab-escaped", "boot/link/escaped"])
def test_names_that_lead_out_of_the_tree_write_nothing_there(place: Path, name: str) -> None:
    archive = place / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("boot/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(place)
        tar.addfile(link)
        entry = tarfile.TarInfo(name)
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"evil"))
    with pytest.raises(LabError):
        prepare(place, archive)
    assert not list(place.glob("escaped")) and not Path("/tmp/lab-escaped").exists()


def test_a_package_larger_than_any_kernel_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "TREE_BYTES", 1000)
    package = make_deb(kernel_tree(place), place / "linux.deb")
    with pytest.raises(ScenarioError, match="unpacks to more than"):
        unpack(package, place / "there", Deadline.after(60, "unpacking"))


def test_several_kernels_that_are_no_packages_are_refused(place: Path) -> None:
    for name in ("bzImage-1", "bzImage-2"):
        (place / name).write_bytes(kernel_image(RELEASE))
    with pytest.raises(ScenarioError, match=r"several --kernel make one kernel, and .*bzImage-2 is no package"):
        prepare(place, place / "bzImage-1", place / "bzImage-2")
