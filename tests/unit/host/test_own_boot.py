"""The script of fresh-install: what a distribution's own boot would do, on folders here instead of the root."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import ROOT

SCRIPT = ROOT / "scenarios/programs/own-boot.sh"
SHELLS = [shell for shell in (("dash",), ("bash", "--posix"), ("busybox", "sh")) if shutil.which(shell[0])]


def boot(shell: tuple[str, ...], root: Path, files: dict[str, str], links: tuple[str, ...] = ()) -> list[str]:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for path in links:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to("/somewhere")
    (root / "bin").mkdir(exist_ok=True)
    (root / "bin/modprobe").write_text('#!/bin/sh\n[ "$1" != broken ] || { echo "no such module" >&2; exit 1; }\n')
    (root / "bin/modprobe").chmod(0o755)
    script = re.sub(r"(?<![\w}*])/(etc|run|usr/lib|lib|proc/sys)(?=[/ ;])", rf"{root}/\1", SCRIPT.read_text())
    done = subprocess.run(
        [*shell, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={"PATH": f"{root}/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"},
    )
    assert done.stderr == ""
    return done.stdout.replace(str(root), "").splitlines()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_modules_and_sysctls(shell: tuple[str, ...], tmp_path: Path) -> None:
    files = {
        "etc/modules": "# none\n\nnf_conntrack hashsize=4096\nbroken\n",
        "usr/lib/modules-load.d/a.conf": "vendor\n",
        "etc/modules-load.d/a.conf": "; the vendor's is not wanted\nown\n",
        "usr/lib/sysctl.d/10-a.conf": "net.ipv4.ip_forward = 0\n-kernel.none=1\nnet.ipv4.conf.*.rp_filter=2\n",
        "etc/sysctl.conf": "net/ipv4/ip_forward=1\n",
        "proc/sys/net/ipv4/ip_forward": "0",
        "proc/sys/net/ipv4/conf/lo/rp_filter": "0",
    }
    assert boot(shell, tmp_path, files) == [
        "module own: loaded",
        "module nf_conntrack hashsize=4096: loaded",
        "module broken: not loaded: no such module",
        "sysctl /proc/sys/net/ipv4/ip_forward = 0",
        "sysctl /proc/sys/kernel/none: not set",
        "sysctl /proc/sys/net/ipv4/conf/lo/rp_filter = 2",
        "sysctl /proc/sys/net/ipv4/ip_forward = 1",
    ]
    assert (tmp_path / "proc/sys/net/ipv4/ip_forward").read_text() == "1\n"


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_firewall_services(shell: tuple[str, ...], tmp_path: Path) -> None:
    units = {
        "usr/lib/systemd/system/nftables.service": "[Service]\nType=oneshot\nExecStart=-/bin/echo rules of nft\n",
        "usr/lib/systemd/system/firewalld.service": "[Service]\nType=dbus\nExecStart=/usr/sbin/firewalld --nofork\n",
        "usr/lib/systemd/system/iptables.service": "[Service]\nType=oneshot\nExecStart=/bin/false\n",
        "usr/lib/systemd/system/ufw.service": "[Service]\nType=oneshot\nExecStart=/x $OPTIONS\n",
        "etc/runlevels/default/nftables": "",
    }
    enabled = ("nftables", "firewalld", "iptables", "ufw", "ip6tables", "cloud-init")
    links = tuple(f"etc/systemd/system/multi-user.target.wants/{name}.service" for name in enabled)
    assert boot(shell, tmp_path, units, links) == [
        "service firewalld.service: unknown: it is a service that stays, and needs its init",
        "service ip6tables.service: unknown: it has no unit",
        "service iptables.service: ran /bin/false: status 1",
        "rules of nft",
        "service nftables.service: ran /bin/echo rules of nft: status 0",
        "service ufw.service: unknown: its command needs its init: /x $OPTIONS",
        "service nftables: unknown: OpenRC starts it",
    ]


def test_nothing_there_is_nothing_done(tmp_path: Path) -> None:
    assert boot(SHELLS[0], tmp_path, {}) == []
