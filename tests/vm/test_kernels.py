"""A real kernel in the packages of other distributions: each boots and gives the findings that Debian's package gives.

Debian 12's cloud kernel is fetched by apt and packed anew, with its modules compressed as there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lab.host.cache import Deadline
from lab.host.kernels import preparing
from lab.host.kernels.fetch import fetch_source
from lab.host.machines.qemu.preparing import PreparedImage
from tests.kernel_packages import MAKERS, NEEDED_PROGRAMS, compress_modules, split
from tests.vm.conftest import Guests

SEARCH = "/usr/sbin:/sbin:/usr/bin:/bin"
pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(
        any(shutil.which(name, path=SEARCH) is None for name in NEEDED_PROGRAMS),
        reason=f"needs {', '.join(NEEDED_PROGRAMS)}: scripts/setup --tests",
    ),
]

# ending, compression of the modules, where the modules lie, whether kernel and modules are apart; a minute each, so two
# by default (tests/unit/host/kernels/test_kernel_packages.py has every kind of package)
KINDS = {
    "rhel": (".rpm", ".xz", "lib", True),
    "alpine": (".apk", ".gz", "lib", False),
    "ubuntu": (".deb", ".zst", "lib", True),
    "arch": (".pkg.tar.zst", ".zst", "usr/lib", False),
}
TRIED = os.environ.get("LAB_TEST_KERNEL_PACKAGES", "rhel alpine").split()

# both sources of the counters, in one machine in which packets were dropped
BOTH_SOURCES = '''
version = 1
name = "counters"
summary = "For a test."
[[state]]
run = ["iptables-nft", "--append", "INPUT", "--match", "conntrack", "--ctstate", "ESTABLISHED", "--jump", "ACCEPT"]
[[state]]
sysctl = { "net.netfilter.nf_conntrack_max" = 2 }
[[state]]
run = ["python3", "-c", """
import socket, sys
for _ in range(9):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))
    except OSError:
        pass
sys.path.insert(0, '/run/agent.pyz')
from lab.guest.ctnetlink import Counters
def table(text):
    names, *rows = [line.split() for line in text.splitlines()]
    return [dict(zip(names, row)) for row in rows]
by_netlink = table(Counters().text())
by_proc = table(open('/proc/net/stat/nf_conntrack').read())
common = set(by_netlink[0]) & set(by_proc[0])
assert set('entries drop early_drop insert_failed'.split()) <= common, common
assert sum(int(row['drop'], 16) for row in by_proc) > 0
assert all(a[n] == b[n] for a, b in zip(by_netlink, by_proc) for n in common)
"""]
[load]
connections = 200
'''


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's kernel, unpacked."""
    source, deadline = "apt:bookworm/linux-image-cloud-amd64", Deadline.after(600, "fetching a kernel")
    (deb,) = fetch_source(source, lambda line: None, deadline)
    folder = tmp_path_factory.mktemp("kernel") / "tree"
    subprocess.run(["dpkg-deb", "--extract", str(deb.path), str(folder)], check=True, timeout=120)
    shutil.rmtree(folder / "usr")
    return folder


def packed(tree: Path, folder: Path, kind: str) -> list[Path]:
    """The packages of a distribution of that kind, made of `tree`."""
    ending, compression, where, apart = KINDS[kind]
    root = Path(shutil.copytree(tree, folder / "root", symlinks=True))
    compress_modules(root / "lib", compression)
    if where != "lib":
        (root / where).parent.mkdir()
        (root / "lib").rename(root / where)
    if kind != "ubuntu":  # the others keep the kernel among its modules
        (release,) = (root / where / "modules").iterdir()
        for name in ("vmlinuz", "config"):
            (root / "boot" / f"{name}-{release.name}").rename(release / name)
    if not apart:
        return [MAKERS[ending](root, folder / f"kernel{ending}")]
    parts = split(root, {"image": ["boot/vmlinuz*", "modules/*/vmlinuz"], "modules": ["*"]})
    return [MAKERS[ending](part, folder / f"kernel-{name}{ending}") for name, part in parts.items()]


@pytest.mark.parametrize("kind", TRIED)
def test_a_kernel_in_the_packages_of_another_distribution(
    guests: Guests,
    shipped: Callable[[str], str],
    tree: Path,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packages = packed(tree, tmp_path, kind)
    source = ",".join(map(str, packages))
    bundle = preparing.prepare(source, busybox=guests.target.image.busybox, progress=lambda line: None)
    spec = replace(guests.target.spec, kernel=source)
    booted = replace(guests, target=PreparedImage(spec, guests.target.image, bundle))
    for name, finding in (
        ("nat-present", "table-full"),
        ("nat-flushed", "untracked"),
        ("modules-blocked", "state-refused"),
    ):
        text = shipped(name).replace("connections = 20000", "connections = 1000")
        ran = booted.run(text, iptables="legacy")
        assert (ran.result["finding"], ran.result["as_expected"]) == (finding, True), ran.result["reason"]
        assert ran.result["kernel_release"] == bundle.release
    assert list(bundle.given) == [package.name for package in packages]
    shutil.rmtree(tmp_path)  # a gigabyte, which pytest would keep for three runs


def test_both_sources_of_the_counters_agree(guests: Guests) -> None:
    ran = guests.run(BOTH_SOURCES)
    assert ran.result["finding"] != "state-refused", ran.result["reason"]
