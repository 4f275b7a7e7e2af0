"""The Debian releases, each with a kernel, of which images and boxes are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# what a guest needs beside Debian's essential packages; python3 brings the whole standard library
_GUEST_PACKAGES = (
    "python3",
    "iptables",
    "nftables",
    "conntrack",
    "ipset",  # saved rules that look into a set (`-m set`) load only where it was made
    "kmod",
    "iproute2",
    "procps",
    "mount",
    "busybox-static",
    # kernels depend on a maker of initial RAM disks; this is the smallest, the lab writes its own disk
    "tiny-initramfs",
)


@dataclass(frozen=True)
class Target:
    """A Debian release with a kernel; everything that decides what its image holds."""

    name: str
    summary: str
    # the release's code name, as in the mirror's dists/
    suite: str
    # further suites of the same mirror, and the kernel's package, "/SUITE" added where it comes from one of those
    extra_suites: tuple[str, ...] = ()
    kernel_package: str = "linux-image-cloud-amd64"
    packages: tuple[str, ...] = _GUEST_PACKAGES
    # False for a suite whose Release file is past its Valid-Until (rolling suites of a mirror that is not updated)
    check_valid_until: bool = True
    # 12 only: merges /usr by mmdebstrap's hook instead of by the package usrmerge, which brings all of Perl
    merge_usr: bool = False


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("debian11", summary="Debian 11 (bullseye), Linux 5.10", suite="bullseye"),
        Target(
            "debian12",
            summary="Debian 12 (bookworm), Linux 6.1",
            suite="bookworm",
            packages=(*_GUEST_PACKAGES, "usr-is-merged"),
            merge_usr=True,
        ),
        Target("debian13", summary="Debian 13 (trixie), Linux 6.12", suite="trixie"),
        Target(
            "forky",
            summary="Debian 14 in the making (forky), its newest kernel",
            suite="forky",
            check_valid_until=False,
        ),
        Target(
            "debian13-backports",
            summary="Debian 13 (trixie) with the kernel of trixie-backports",
            suite="trixie",
            extra_suites=("trixie-backports",),
            kernel_package="linux-image-cloud-amd64/trixie-backports",
        ),
    )
}
