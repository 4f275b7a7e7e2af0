"""Which packages matter, of what package managers print."""

from __future__ import annotations

from lab.core.distribution.packages import MANAGERS, noted, parse_packages

DPKG, RPM, APK, PACMAN = MANAGERS


def test_of_dpkg() -> None:
    printed = (
        "bash 5.2\nlinux-image-6.8.0-45-generic 6.8.0-45.45\nlinux-image-6.8.0-31-generic 6.8.0-31.31\nufw 0.36.2\n"
    )
    found = noted(parse_packages(DPKG, printed), "6.8.0-45-generic")
    assert found == {"kernel": "6.8.0-45.45", "ufw": "0.36.2"}


def test_of_rpm() -> None:
    printed = "kernel-core 5.14.0-503.el9\nkernel-core 5.14.0-570.el9\nnftables 1.0.9-1.el9\nfirewalld 1.3.4-1.el9\n"
    packages = parse_packages(RPM, printed)
    assert noted(packages, "5.14.0-570.el9.x86_64")["kernel"] == "5.14.0-570.el9"
    assert list(noted(packages, "5.14.0-570.el9.x86_64")) == ["kernel", "firewalld", "nftables"]


def test_of_apk() -> None:
    printed = "WARNING: opening /var/cache: No such file\nlinux-virt-6.18.56-r0\nmusl-1.2.5-r21\nlibnftnl-1.3.0-r0\n"
    assert noted(parse_packages(APK, printed), "6.18.56-0-virt") == {
        "kernel": "6.18.56-r0",
        "libnftnl": "1.3.0-r0",
        "musl": "1.2.5-r21",
    }


def test_of_pacman() -> None:
    found = noted(parse_packages(PACMAN, "linux 6.17.1.arch1-1\niptables-nft 1:1.8.11-2\n"), "6.17.1-arch1-1")
    assert found == {"kernel": "6.17.1.arch1-1", "iptables-nft": "1:1.8.11-2"}


def test_a_kernel_that_cannot_be_told_from_others_has_no_version() -> None:
    assert noted({"kernel": "1", "linux-image-x": "2"}, "6.1.0") == {}
