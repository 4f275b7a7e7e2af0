"""Which packages a distribution has, as its own package manager prints them: those that matter to rules and kernels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Manager:
    """A package manager: the command that lists all packages, a line each, and how a line is read."""

    argv: tuple[str, ...]
    line: re.Pattern[str]  # groups: name, version


_NAME_VERSION = re.compile(r"(\S+) (\S+)")
MANAGERS = (
    Manager(("dpkg-query", "--show", "--showformat=${Package} ${Version}\\n"), _NAME_VERSION),
    Manager(("rpm", "--query", "--all", "--queryformat=%{NAME} %{VERSION}-%{RELEASE}\\n"), _NAME_VERSION),
    Manager(("apk", "info", "--verbose"), re.compile(r"(\S+)-(\d[^-\s]*-r\d+)")),
    Manager(("pacman", "--query"), _NAME_VERSION),
)
# what decides which rules a machine can have, who makes them, and what is read of them
_MATTERS = re.compile(
    r"iptables(-nft|-legacy|-services|-persistent)?|nftables|libnftnl\d*|libxtables\d*|xtables-nft|conntrack(-tools)?"
    r"|kmod|iproute2?|ipset|ufw|firewalld|netfilter-persistent|libc6|glibc|musl|busybox|systemd|openrc|docker(\.io|-ce)?"
)
# the package of a kernel, by the release that it brings or without one
_KERNELS = re.compile(
    r"linux-image-.*|kernel(-core|-default|-default-base|-uek-core)?|linux(-virt|-lts|-zen|-hardened)?|kernel\d.*"
)


def parse_packages(manager: Manager, printed: str) -> Mapping[str, str]:
    """All packages, each with its version, of what a package manager printed."""
    found = (manager.line.fullmatch(line.strip()) for line in printed.splitlines())
    return {match[1]: match[2] for match in found if match}


def noted(packages: Mapping[str, str], release: str) -> Mapping[str, str]:
    """The versions that matter; that of the kernel `release` comes first, under the name `kernel`."""
    kernel = _kernel(packages, release)
    rest = {name: packages[name] for name in sorted(packages) if _MATTERS.fullmatch(name)}
    return {**({} if kernel is None else {"kernel": kernel}), **rest}


def _kernel(packages: Mapping[str, str], release: str) -> str | None:
    """The version of the kernel's package: the one with the release in its name, or in its version, or the only one."""
    kernels = {name: version for name, version in packages.items() if _KERNELS.fullmatch(name)}
    named = [version for name, version in kernels.items() if name.endswith(release)]
    of_release = [version for version in kernels.values() if release.startswith(version)]
    return _only(named) or _only(of_release) or _only(kernels.values())


def _only(versions: Iterable[str]) -> str | None:
    found = set(versions)
    return found.pop() if len(found) == 1 else None
