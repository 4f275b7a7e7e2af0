"""What a distribution's own boot would load, set and start, from the files that say so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

# modules-load.d(5), sysctl.d(5): a file of the same name in a folder that comes first is taken in place of the others
_FOLDERS = ("etc", "run", "usr/lib", "lib")
# OpenRC and Debian's kmod read it
_MODULES = "etc/modules"
_SYSCTL = "etc/sysctl.conf"
# a service that is enabled: systemd.unit(5), and the runlevels of OpenRC
_WANTED = re.compile(r"etc/systemd/system/[^/]+\.(?:wants|requires)/([^/]+\.service)|etc/runlevels/[^/]+/([^/]+)")
SETTINGS = (
    _MODULES,
    *(f"{folder}/modules-load.d/*.conf" for folder in _FOLDERS),
    _SYSCTL,
    *(f"{folder}/sysctl.d/*.conf" for folder in _FOLDERS),
    *(f"etc/systemd/system/*.{kind}/*.service" for kind in ("wants", "requires")),
    "etc/runlevels/*/*",
)
_MOST = 500
_MOST_CHARACTERS = 200


@dataclass(frozen=True)
class BootSettings:
    """What a boot does: modules loaded, sysctls set (the last value of each), services that are enabled."""

    modules: tuple[str, ...]
    sysctls: Mapping[str, str]
    services: tuple[str, ...]


def boot_settings(texts: Mapping[str, str]) -> BootSettings:
    """What the files of SETTINGS say, by their paths."""
    modules = dict.fromkeys(line.split()[0] for text in _in_order(texts, "modules-load.d", _MODULES) for line in text)
    sysctls: dict[str, str] = {}
    for lines in _in_order(texts, "sysctl.d", _SYSCTL):
        for line in lines:
            name, mark, value = line.partition("=")
            if mark:
                sysctls[name.strip().lstrip("-").replace("/", ".")[:_MOST_CHARACTERS]] = value.strip()[
                    :_MOST_CHARACTERS
                ]
    services = sorted({match[1] or match[2] for path in texts if (match := _WANTED.fullmatch(path))})
    return BootSettings(
        tuple(module[:_MOST_CHARACTERS] for module in modules)[:_MOST],
        dict(list(sysctls.items())[:_MOST]),
        tuple(service[:_MOST_CHARACTERS] for service in services)[:_MOST],
    )


def _in_order(texts: Mapping[str, str], folder: str, last: str) -> Iterator[list[str]]:
    """The lines of each file of a kind, by the files' names, and then those of the one file that is older than .d."""
    chosen: dict[str, str] = {}
    for base in reversed(_FOLDERS):
        for path, text in texts.items():
            if str(PurePosixPath(path).parent) == f"{base}/{folder}":
                chosen[PurePosixPath(path).name] = text
    for text in (*(chosen[name] for name in sorted(chosen)), texts.get(last, "")):
        lines = (line.strip() for line in text.splitlines())
        yield [line for line in lines if line and line[0] not in "#;"]
