"""Images with further packages: each is an image of its own beside the target's, which stays as it is.

`debian12-with-ufw` is Debian 12 by the same recipe, and the package ufw with what it depends on. The name says all
packages, so scenarios that ask for the same ones share an image, and so do all runs.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lab.core.errors import ScenarioError
from lab.core.scenario import MAX_PACKAGES_LENGTH, PACKAGE_NAME
from lab.host.images.image import Image
from lab.host.releases import TARGETS, Target

_MARK = "-with-"
_BETWEEN = "_"  # no package has it in its name


def with_packages(target: Target, packages: Iterable[str]) -> Target:
    """The target with these packages too; the target itself for none."""
    kept = sorted(set(packages))
    if not kept:
        return target
    return replace(target, name=f"{target.name}{_MARK}{_BETWEEN.join(kept)}", packages=(*target.packages, *kept))


def is_layer(text: str) -> bool:
    """Whether a text names an image with further packages."""
    return _MARK in text


def targets_named(pattern: str) -> tuple[Target, ...]:
    """The targets of a name such as `debian12-with-ufw`, whose first part may be a glob over targets.

    Raises ScenarioError for a target that there is not, and for what is no name of a package.
    """
    base, _, words = pattern.partition(_MARK)
    packages = words.split(_BETWEEN)
    for package in packages:
        if not PACKAGE_NAME.fullmatch(package) or len(words) > MAX_PACKAGES_LENGTH:
            hint = "for example debian12-with-ufw; several packages are joined by _"
            raise ScenarioError(f"image {pattern[:200]!r}: {package[:60]!r} is no name of a Debian package", hint=hint)
    names = fnmatch.filter(TARGETS, base)
    if not names:
        raise ScenarioError(f"image {pattern!r}: unknown target {base!r}", hint=f"known: {', '.join(TARGETS)}")
    return tuple(with_packages(TARGETS[name], packages) for name in names)


def target_of(image: Image) -> Target | None:
    """The target, as it is today, that an image was made of; None where there is none of that name any more."""
    if not is_layer(image.name):
        return TARGETS.get(image.name)
    try:
        return targets_named(image.name)[0]
    except ScenarioError:
        return None


def added_packages(image: Image, base: Image) -> Mapping[str, str]:
    """The versions of what an image has beyond another one."""
    packages, those = (_versions(one) for one in (image, base))
    return {name: version for name, version in packages.items() if name not in those}


def _versions(image: Image) -> Mapping[str, str]:
    lines = (line.split() for line in image.packages.read_text().splitlines())
    return {fields[0]: fields[1] for fields in lines if len(fields) >= 2}
