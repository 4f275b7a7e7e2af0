"""The targets: which Debian userspace and kernel a machine runs, and how a user names one."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab.core.errors import LabError, ScenarioError

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
# `NAME=` before a kernel; a path that begins so is written with ./
_NAMED_KERNEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,39})=(?=.)")
_RELEASE = re.compile(r"\d+\.\d+(?:x86_64|[A-Za-z0-9.+~-])*")  # in a file's name, up to the package's own version
_NO_LABEL = re.compile(r"[^A-Za-z0-9._+~-]+")
_LONGEST_LABEL = 40


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
    """What a user asked for: a target, perhaps with another kernel."""

    target: Target
    kernel: str | None = None  # as lab.host.kernels.source reads it
    box: str | None = None  # a Vagrant box: a name, a path, or a URL with its checksum
    label: str | None = None  # what the kernel is called in the target's name

    @property
    def provisioner(self) -> str:
        """What makes its machines: `qemu`, `vagrant` or `host`."""
        return "vagrant" if self.box is not None else "host" if self.target is HOST else "qemu"

    @property
    def name(self) -> str:
        """`debian12`, `vagrant:BOX`, `host`; with another kernel `debian12+LABEL`, before it has a label
        `debian12+kernel:PATH`.
        """
        if self.box is not None:
            return f"{_BOX_MARK}{self.box}"
        if self.label is not None:
            return f"{self.target.name}+{self.label}"
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


def split_kernel(text: str) -> tuple[str | None, str]:
    """`NAME=PATH` as (NAME, PATH), and any other `--kernel` as (None, all of it)."""
    named = _NAMED_KERNEL.match(text)
    return (named[1], text[named.end() :]) if named else (None, text)


def parse_target(text: str, kernel: str | None = None) -> TargetSpec:
    """The target that `text` names: `debian12`, `debian12+kernel:PATH`, `vagrant:BOX`, or `host`.

    `debian12+LABEL`, the name of a stored target, needs the `kernel` that was called so.

    Raises ScenarioError that names the nearest known target. Whether PATH, which may be any
    kernel source, holds a kernel is not looked at.
    """
    if text == _HOST:
        return TargetSpec(HOST)
    if text.startswith(_BOX_MARK):
        if text == _BOX_MARK:
            raise ScenarioError(f"target {text!r}: names no box", hint="vagrant:debian12, or the path of a box")
        return TargetSpec(_BOX, box=text.removeprefix(_BOX_MARK))
    name, mark, source = text.partition(_KERNEL_MARK)
    if mark and not source:
        raise ScenarioError(f"target {text!r}: no path after {_KERNEL_MARK!r}", hint=f"{name}{_KERNEL_MARK}PATH")
    if mark:
        label, kernel = split_kernel(source)
    else:
        name, _, label_text = text.partition("+")
        label = label_text or None
    if name not in TARGETS:
        raise _unknown(text, name)
    if label is not None and not kernel:
        raise ScenarioError(
            f"target {text!r}: which kernel is {label!r}?", hint=f"--target {name} --kernel {label}=PATH names one"
        )
    return TargetSpec(TARGETS[name], kernel if kernel and (mark or label) else None, label=label)


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


def labelled(specs: Sequence[TargetSpec]) -> tuple[TargetSpec, ...]:
    """The targets, those with another kernel called by its release where the user gave it no name.

    Raises ScenarioError for two kernels of one name.
    """
    named = tuple(
        replace(spec, label=kernel_label(str(spec.kernel))) if spec.kernel and not spec.label else spec
        for spec in specs
    )
    kernels: dict[str, object] = {}
    for spec in named:
        if kernels.setdefault(spec.name, spec.kernel) != spec.kernel:
            raise ScenarioError(
                f"{kernels[spec.name]} and {spec.kernel} are both {spec.name}",
                hint=f"give each a name: --target {spec.target.name}+kernel:NAME={spec.kernel}",
            )
    return named


def kernel_label(source: str) -> str:
    """What a kernel without a name is called: its release, from its first file's name, or from a bzImage's first bytes,
    else that name.
    """
    path = Path(source.partition(",")[0].partition("#")[0])
    stem = re.sub(r"\.(deb|rpm|apk|pkg\.tar\.\w+)$", "", path.name)
    found = _RELEASE.search(stem) or _RELEASE.search(_release_inside(path.expanduser()))
    return _NO_LABEL.sub("_", found[0] if found else stem)[:_LONGEST_LABEL] or "kernel"


def _release_inside(path: Path) -> str:
    """The release of a kernel without a version in its file's name; empty where none is found."""
    from lab.host import kernels  # only here: it knows how images are made, which takes time to import

    try:
        return kernels.find_kernel(path).release if path.exists() else ""
    except LabError:
        return ""


def _unknown(text: str, name: str) -> ScenarioError:
    near = difflib.get_close_matches(name, TARGETS, n=1)
    other = "vagrant:NAME or vagrant:PATH is any Vagrant box, --kernel PATH another distribution's kernel"
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(TARGETS)}; {other}"
    return ScenarioError(f"unknown target {text!r}", hint=hint)
