"""What differs between two manifests, and between what two scenarios mean: a line for each thing."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

# what differs between any two runs, is told elsewhere, or is told by another key
_NOT_TOLD = (
    *("schema_version", "started_at", "ended_at", "scenarios", "targets"),
    *("cells", "options", "scenario_files", "replay_of"),
)
_NOT_TOLD_OF_TARGETS = ("image_sha256s", "kernel_release")
_KERNEL_PACKAGE = "linux-image-"
_MOST_SHOWN = 60


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same; None is unknown, or not there."""

    what: str
    base: str | None
    new: str | None

    def to_json(self) -> dict[str, str | None]:
        """As in a comparison's `differences`."""
        return {"what": self.what, "base": self.base, "new": self.new}


def manifest_differences(base: Json, new: Json) -> list[Difference]:
    """What differs in how two runs were made, by the manifests' keys; their targets are left out."""
    return _differences("", *(_flat(_told(manifest)) for manifest in (base, new)))


def target_differences(name: str, base: Json, new: Json, kernels: Sequence[str | None]) -> list[Difference]:
    """What differs between two targets of the manifests; `kernels` are the releases that their guests told."""
    left, right = (
        {"kernel": kernel, **_told_of_target(target)} for kernel, target in zip(kernels, (base, new), strict=True)
    )
    return _differences(f"{name}: ", _flat(left), _flat(right))


def program_differences(name: str, base: Json, new: Json) -> list[Difference]:
    """What differs between the versions of programs that two targets' guests told."""
    return _differences(f"{name}: ", _flat(base), _flat(new))


def meaning_differences(base: Json, new: Json) -> list[str]:
    """Where two scenarios' meanings differ: `load.connections is 20000 in BASE and 500 in NEW`."""
    return [_sentence(one) for one in _differences("", _flat(base), _flat(new))]


def _told(manifest: Json) -> Json:
    overrides = {name: value for name, value in _part(manifest, "overrides").items() if value}
    return {name: value for name, value in manifest.items() if name not in _NOT_TOLD} | {"overrides": overrides}


def _told_of_target(target: Json) -> Json:
    """With one digest for all files of the image, and the kernel's package under one name for every release of it."""
    packages = {
        _KERNEL_PACKAGE.rstrip("-") if package.startswith(_KERNEL_PACKAGE) else package: version
        for package, version in _part(target, "packages").items()
    }
    files = json.dumps(sums, sort_keys=True) if (sums := _part(target, "image_sha256s")) else None
    return {
        **{name: value for name, value in target.items() if name not in _NOT_TOLD_OF_TARGETS},
        "image_files": files and hashlib.sha256(files.encode()).hexdigest(),
        "packages": packages,
    }


def _part(document: Json, name: str) -> Json:
    """A table of a document; an empty one where it is absent or none."""
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _flat(value: object, path: str = "") -> dict[str, str]:
    """Every value by its dotted path, as text; null is left out, for it is what an absent key is."""
    if isinstance(value, Mapping):
        parts = (_flat(one, f"{path}.{name}" if path else str(name)) for name, one in value.items())
        return {name: text for part in parts for name, text in part.items()}
    return {} if value is None else {path: _text(value)}


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return shlex.join(value)
    return json.dumps(value)


def _differences(prefix: str, base: Mapping[str, str], new: Mapping[str, str]) -> list[Difference]:
    names: Iterable[str] = dict.fromkeys((*base, *new))
    return [
        Difference(f"{prefix}{name}", base.get(name), new.get(name))
        for name in names
        if base.get(name) != new.get(name)
    ]


def _sentence(one: Difference) -> str:
    base, new = ("absent" if text is None else text for text in (one.base, one.new))
    if max(len(base), len(new)) > _MOST_SHOWN:
        return f"{one.what} differs"
    return f"{one.what} is {base} in BASE and {new} in NEW"
