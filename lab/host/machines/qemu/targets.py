"""Targets of QEMU: a Debian release, or a glob of them, perhaps with another kernel; a whole distribution's image."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path

from lab.core.errors import LabError, ScenarioError
from lab.host.distributions import table
from lab.host.distributions.source import MARK, parse_source
from lab.host.machines.targets import TargetSpec
from lab.host.releases import TARGETS

KIND = "qemu"
_KERNEL_MARK = "+kernel:"
# `NAME=` before a kernel; a path that begins so is written with ./
_NAMED_KERNEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,39})=(?=.)")
_RELEASE = re.compile(r"\d+\.\d+(?:x86_64|[A-Za-z0-9.+~-])*")  # in a file's name, up to the package's own version
_NO_LABEL = re.compile(r"[^A-Za-z0-9._+~-]+")
_LONGEST_LABEL = 40


def debian(release: str, kernel: str | None = None, label: str | None = None) -> TargetSpec:
    """The target that is a release of TARGETS, perhaps with another kernel that is called `label`."""
    suffix = f"+{label}" if label else f"{_KERNEL_MARK}{kernel}" if kernel else ""
    return TargetSpec(KIND, f"{release}{suffix}", release, kernel, label)


def parse(text: str, kernel: str | None = None) -> TargetSpec:
    """`debian12` or `debian12+kernel:PATH`; `debian12+LABEL`, the name of a stored target, needs the `kernel` that was
    called so.

    Raises ScenarioError that names the nearest known target. Whether PATH, which may be any kernel source, holds a
    kernel is not looked at.
    """
    if (found := _distribution(text)) is not None:
        return found
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
    return debian(name, kernel if kernel and (mark or label) else None, label)


def _distribution(text: str) -> TargetSpec | None:
    """The target that is a whole distribution, by its image or its row; None where the text names none."""
    if text.startswith(MARK):
        parse_source(text.removeprefix(MARK))
    elif text in TARGETS or text not in table.rows():
        return None
    return TargetSpec(KIND, text, text)


def is_distribution(spec: TargetSpec) -> bool:
    """Whether a target is a whole distribution, and not made by the lab."""
    return not spec.is_made


def expand(pattern: str) -> tuple[TargetSpec, ...]:
    """The targets that a glob means (`debian1?`, `*`, `debian*+kernel:PATH`). Raises ScenarioError for none."""
    if (found := _distribution(pattern)) is not None:
        return (found,)
    name, mark, kernel = pattern.partition(_KERNEL_MARK)
    names = fnmatch.filter(TARGETS, name)
    if not names:
        names = [] if mark else fnmatch.filter(table.rows(), name)
    if not names:
        raise _unknown(pattern, name)
    return tuple(parse(f"{found}{mark}{kernel}") for found in names)


def with_kernel(spec: TargetSpec, kernel: str) -> TargetSpec:
    """A target with the kernel of --kernel, unless it names one itself."""
    if spec.kernel is not None:
        return spec
    if spec.of not in TARGETS:
        raise ScenarioError(
            f"--kernel: {spec.name} boots its own kernel", hint="use a target such as debian12 for another kernel"
        )
    label, source = split_kernel(kernel)
    return debian(spec.of, source, label)


def split_kernel(text: str) -> tuple[str | None, str]:
    """`NAME=PATH` as (NAME, PATH), and any other `--kernel` as (None, all of it)."""
    named = _NAMED_KERNEL.match(text)
    return (named[1], text[named.end() :]) if named else (None, text)


def labelled(specs: Sequence[TargetSpec]) -> tuple[TargetSpec, ...]:
    """The targets, those with another kernel called by its release where the user gave it no name.

    Raises ScenarioError for two kernels of one name.
    """
    named = tuple(
        debian(spec.of, spec.kernel, kernel_label(spec.kernel)) if spec.kernel and not spec.label else spec
        for spec in specs
    )
    kernels: dict[str, object] = {}
    for spec in named:
        if kernels.setdefault(spec.name, spec.kernel) != spec.kernel:
            raise ScenarioError(
                f"{kernels[spec.name]} and {spec.kernel} are both {spec.name}",
                hint=f"give each a name: --target {spec.of}+kernel:NAME={spec.kernel}",
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
    from lab.host.kernels.find import find_kernel  # only here: it takes time to import

    try:
        return find_kernel(path).release if path.exists() else ""
    except LabError:
        return ""


def _unknown(text: str, name: str) -> ScenarioError:
    near = difflib.get_close_matches(name, [*TARGETS, *table.rows()], n=1)
    other = "image:PATH is a cloud image, vagrant:BOX a Vagrant box, --kernel PATH another distribution's kernel"
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(TARGETS)}; {other}"
    return ScenarioError(f"unknown target {text!r}", hint=hint)
