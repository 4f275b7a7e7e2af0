"""The targets: which Debian userspace and kernel a machine runs, and how a user names one."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.core.errors import ScenarioError

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

_KERNEL_MARK = "+kernel:"
_BOX_MARK = "vagrant:"
_HOST = "host"


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


@dataclass(frozen=True)
class TargetSpec:
    """What a user asked for: a target, perhaps with a kernel of one's own."""

    target: Target
    kernel: str | None = None  # as lab.host.kernels.source reads it
    box: str | None = None  # a Vagrant box: a name, a path, or a URL with its checksum

    @property
    def provisioner(self) -> str:
        """What makes its machines: `qemu`, `vagrant` or `host`."""
        return "vagrant" if self.box is not None else "host" if self.target is HOST else "qemu"

    @property
    def name(self) -> str:
        """As the user writes it: `debian12`, `debian12+kernel:PATH`, `vagrant:BOX`, or `host`."""
        if self.box is not None:
            return f"{_BOX_MARK}{self.box}"
        return self.target.name if self.kernel is None else f"{self.target.name}{_KERNEL_MARK}{self.kernel}"


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


# what is not made from packages by the lab: a Vagrant box, and the machine that the lab runs on
_BOX = Target("vagrant", summary="any Vagrant box: vagrant:NAME, vagrant:PATH, vagrant:URL#sha256=HEX", suite="")
HOST = Target(_HOST, summary="this very machine, with --disposable-host", suite="")
FOREIGN: Mapping[str, Target] = {"vagrant:BOX": _BOX, _HOST: HOST}


def parse_target(text: str) -> TargetSpec:
    """The target that `text` names: `debian12`, `debian12+kernel:PATH`, `vagrant:BOX`, or `host`.

    Raises ScenarioError that names the nearest known target. Whether PATH, which may be any
    kernel source, holds a kernel is not looked at.
    """
    if text == _HOST:
        return TargetSpec(HOST)
    if text.startswith(_BOX_MARK):
        if text == _BOX_MARK:
            raise ScenarioError(f"target {text!r}: names no box", hint="vagrant:debian12, or the path of a box")
        return TargetSpec(_BOX, box=text.removeprefix(_BOX_MARK))
    name, mark, kernel = text.partition(_KERNEL_MARK)
    if mark and not kernel:
        raise ScenarioError(f"target {text!r}: no path after {_KERNEL_MARK!r}", hint=f"{name}{_KERNEL_MARK}PATH")
    if name not in TARGETS:
        raise _unknown(text, name)
    return TargetSpec(TARGETS[name], kernel if mark else None)


def expand_targets(patterns: Sequence[str]) -> tuple[TargetSpec, ...]:
    """The targets that names and globs (`debian1?`, `*`, `debian*+kernel:PATH`) mean, each once, in the order asked.

    Raises ScenarioError for a pattern that means none.
    """
    specs: dict[str, TargetSpec] = {}
    for pattern in patterns:
        if pattern == _HOST or pattern.startswith(_BOX_MARK):
            spec = parse_target(pattern)
            specs.setdefault(spec.name, spec)
            continue
        name, mark, kernel = pattern.partition(_KERNEL_MARK)
        names = fnmatch.filter(TARGETS, name)
        if not names:
            raise _unknown(pattern, name)
        for spec in (parse_target(f"{found}{mark}{kernel}") for found in names):
            specs.setdefault(spec.name, spec)
    return tuple(specs.values())


def _unknown(text: str, name: str) -> ScenarioError:
    near = difflib.get_close_matches(name, TARGETS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(TARGETS)}"
    return ScenarioError(f"unknown target {text!r}", hint=hint)
