"""What differs between two manifests, and between what two scenarios mean: a line for each thing."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass

from lab.core.manifest import Manifest, Target

# what differs between any two runs, is shown elsewhere, or by another key
_NOT_SHOWN = (
    *("schema_version", "started_at", "ended_at", "scenarios", "targets"),
    *("cells", "options", "scenario_files", "replay_of", "shard", "parts", "resumed"),
)
_NOT_SHOWN_OF_TARGETS = ("image_sha256s", "kernel_release")
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


def manifest_differences(base: Manifest, new: Manifest) -> list[Difference]:
    """What differs in how two runs were made, by the manifests' keys; their targets are left out."""
    return _differences("", *(_flat(_shown(manifest)) for manifest in (base, new)))


def target_differences(name: str, base: Target, new: Target, kernels: Sequence[str | None]) -> list[Difference]:
    """What differs between two targets of the manifests; `kernels` are the releases that their guests said."""
    left, right = (
        {"kernel": kernel, **_shown_of_target(target)} for kernel, target in zip(kernels, (base, new), strict=True)
    )
    return _differences(f"{name}: ", _flat(left), _flat(right))


def program_differences(name: str, base: Mapping[str, str], new: Mapping[str, str]) -> list[Difference]:
    """What differs between the versions of programs that two targets' guests said."""
    return _differences(f"{name}: ", _flat(base), _flat(new))


def meaning_differences(base: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Where two scenarios' meanings differ: `load.connections is 20000 in BASE and 500 in NEW`."""
    return [_sentence(difference) for difference in _differences("", _flat(base), _flat(new))]


def _shown(manifest: Manifest) -> Mapping[str, object]:
    overrides = {name: value for name, value in vars(manifest.overrides).items() if value}
    workers = {f"{worker.qemu_version}, {worker.host_cpu}" for worker in manifest.workers}
    more = {"overrides": overrides, "workers": tuple(sorted(workers)) or None}
    document = {**vars(manifest), "provisioner": manifest.provisioner.document, **more}
    return {name: value for name, value in document.items() if name not in _NOT_SHOWN}


def _shown_of_target(target: Target) -> Mapping[str, object]:
    """With one digest for all files of the image, and the kernel's package under one name for every release of it."""
    packages = {
        _KERNEL_PACKAGE.rstrip("-") if package.startswith(_KERNEL_PACKAGE) else package: version
        for package, version in (target.packages or {}).items()
    }
    files = json.dumps(target.image_sha256s, sort_keys=True) if target.image_sha256s else None
    return {
        **{name: value for name, value in target.document.items() if name not in _NOT_SHOWN_OF_TARGETS},
        "image_files": files and hashlib.sha256(files.encode()).hexdigest(),
        "packages": packages,
    }


def _flat(value: object, path: str = "") -> dict[str, str]:
    """Every value by its dotted path, as text; null is left out, for it is what an absent key is."""
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        parts = (_flat(inner, f"{path}.{name}" if path else str(name)) for name, inner in value.items())
        return {name: text for part in parts for name, text in part.items()}
    return {} if value is None else {path: _text(value)}


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return shlex.join(value)
    return json.dumps(value)


def _differences(prefix: str, base: Mapping[str, str], new: Mapping[str, str]) -> list[Difference]:
    names: Iterable[str] = dict.fromkeys((*base, *new))
    return [
        Difference(f"{prefix}{name}", base.get(name), new.get(name))
        for name in names
        if base.get(name) != new.get(name)
    ]


def _sentence(difference: Difference) -> str:
    base, new = ("absent" if text is None else text for text in (difference.base, difference.new))
    if max(len(base), len(new)) > _MOST_SHOWN:
        return f"{difference.what} differs"
    return f"{difference.what} is {base} in BASE and {new} in NEW"
