"""Packages of kernels as distributions make them, from a tree with boot/ and lib/modules/: real formats, real tools."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SPEC = """\
Name: {name}
Version: 1
Release: 1
Summary: for a test
License: none
AutoReqProv: no
%global __os_install_post %{{nil}}
%global _binary_payload w3.zstdio
%description
For a test.
%files
/
"""


def run(*argv: str, **options: object) -> None:
    """Run a program that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{argv}: {done.stderr[-2000:]}"


def make_deb(tree: Path, package: Path, architecture: str = "amd64") -> Path:
    """A Debian package of everything in `tree`."""
    control = tree / "DEBIAN" / "control"
    control.parent.mkdir()
    name = package.name.partition("_")[0]
    control.write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: {architecture}\nMaintainer: A <a@example.org>\nDescription: test\n"
    )
    run("dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", str(tree), str(package))
    shutil.rmtree(control.parent)
    return package


def make_rpm(tree: Path, package: Path) -> Path:
    """An RPM package of everything in `tree`, by rpmbuild, with a payload in zstd as Fedora's."""
    top = package.parent / f"rpmbuild-{package.stem}"
    top.mkdir()
    (top / "kernel.spec").write_text(SPEC.format(name=package.stem.partition("_")[0]))
    buildroot = top / "root"
    shutil.copytree(tree, buildroot, symlinks=True)
    define = ["--define", f"_topdir {top}", "--define", f"buildroot {buildroot}", "--buildroot", str(buildroot)]
    run("rpmbuild", "-bb", "--quiet", "--noprep", "--noclean", *define, str(top / "kernel.spec"))
    (made,) = (top / "RPMS").rglob("*.rpm")
    made.rename(package)
    shutil.rmtree(top)
    return package


def make_apk(tree: Path, package: Path) -> Path:
    """An Alpine package (version 2): three gzip streams in a row, the first two tar archives without an end."""
    scratch = package.parent / f"apk-{package.stem}"
    scratch.mkdir()
    (scratch / ".PKGINFO").write_text("pkgname = linux-virt\npkgver = 1-r0\narch = x86_64\n")
    (scratch / ".SIGN.RSA.test.rsa.pub").write_bytes(b"signature")
    parts = []
    for folder, names in ((scratch, [".SIGN.RSA.test.rsa.pub"]), (scratch, [".PKGINFO"]), (tree, ["."])):
        made = subprocess.run(["tar", "-C", str(folder), "-c", *names], capture_output=True, check=True).stdout
        # the first two are cut before the blocks of zeros that end an archive (abuild-tar --cut)
        parts.append(gzip.compress(made if folder == tree else made[:1024], 1))
    package.write_bytes(b"".join(parts))
    shutil.rmtree(scratch)
    return package


def make_arch(tree: Path, package: Path) -> Path:
    """An Arch package: a tar archive in zstd, with its description in front."""
    (tree / ".PKGINFO").write_text("pkgname = linux\npkgver = 1\narch = x86_64\n")
    names = sorted(path.name for path in tree.iterdir())
    run("bsdtar", "--zstd", "-c", "-f", str(package), "-C", str(tree), *names)
    (tree / ".PKGINFO").unlink()
    return package


MAKERS: Mapping[str, Callable[[Path, Path], Path]] = {
    ".deb": make_deb,
    ".rpm": make_rpm,
    ".apk": make_apk,
    ".pkg.tar.zst": make_arch,
}
NEEDED_PROGRAMS = ("bsdtar", "dpkg-deb", "rpmbuild", "zstd", "depmod", "mke2fs", "setpriv", "prlimit")


def compress_modules(folder: Path, ending: str) -> None:
    """Compress every module as a distribution does; "" leaves them as they are, or unpacks them."""
    for path in sorted(folder.rglob("*.ko*")):
        if path.suffix != ".ko":
            run("xz", "--decompress", str(path))
            path = path.with_suffix("")
        if ending == ".xz":
            path.with_name(path.name + ".xz").write_bytes(lzma.compress(path.read_bytes(), preset=0))
        elif ending == ".gz":
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        elif ending == ".zst":
            run("zstd", "-q", "-1", str(path))
        if ending:
            path.unlink()


def split(tree: Path, parts: Mapping[str, Sequence[str]]) -> dict[str, Path]:
    """Trees with parts of `tree`, by name: the first part whose pattern a file matches has it."""
    made = {name: tree.parent / f"{tree.name}-{name}" for name in parts}
    left = [path for path in sorted(tree.rglob("*")) if path.is_file() or path.is_symlink()]
    for name, patterns in parts.items():
        for path in [path for path in left if any(path.relative_to(tree).match(pattern) for pattern in patterns)]:
            target = made[name] / path.relative_to(tree)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
            left.remove(path)
    return made
