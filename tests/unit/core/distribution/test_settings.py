"""What a distribution's own boot would do."""

from __future__ import annotations

from lab.core.distribution.settings import boot_settings


def test_modules_sysctls_and_services() -> None:
    found = boot_settings(
        {
            "etc/modules": "# a comment\nnf_conntrack  hashsize=4096\n",
            "usr/lib/modules-load.d/fwupd.conf": "msr\n;no\n",
            "usr/lib/sysctl.d/10-default.conf": "net.ipv4.ip_forward = 0\n-net/core/somaxconn=4096\nkernel.x\n",
            "etc/sysctl.d/99-own.conf": "net.ipv4.ip_forward=1\n",
            "etc/systemd/system/multi-user.target.wants/firewalld.service": "",
            "etc/systemd/system/sysinit.target.wants/nftables.service": "",
            "etc/runlevels/default/nftables": "",
        }
    )
    assert found.modules == ("msr", "nf_conntrack")
    assert found.sysctls == {"net.ipv4.ip_forward": "1", "net.core.somaxconn": "4096"}
    assert found.services == ("firewalld.service", "nftables", "nftables.service")


def test_a_file_of_the_same_name_in_etc_is_taken_in_place_of_the_vendors() -> None:
    found = boot_settings({"usr/lib/modules-load.d/a.conf": "one\n", "etc/modules-load.d/a.conf": "# none\n"})
    assert found.modules == ()


def test_nothing_there_is_nothing_done() -> None:
    assert boot_settings({}) == boot_settings({"etc/hosts": "127.0.0.1 x\n"})
