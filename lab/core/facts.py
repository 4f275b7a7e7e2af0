"""What is known of a machine before its starting state: its kernel, what that can load, and its programs' versions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.core.kernel.version import Release, parse_release

# programs whose versions are recorded, and the number in what they print: "iptables v1.8.9 (legacy)", "nftables v1.0.6"
_PROGRAM_VERSION = re.compile(r"\bv?(\d+\.\d+(?:\.\d+)*)")
_CONFIG_LINE = re.compile(r"CONFIG_([A-Z0-9_]+)=(.*)", re.ASCII)


@dataclass(frozen=True)
class Facts:
    """A machine, as far as it told; None is unknown, which is neither yes nor no."""

    target: str
    kernel_release: str | None = None
    config: Mapping[str, str] | None = field(default=None, hash=False)  # NF_CONNTRACK -> m; an absent option is unset
    loadable: frozenset[str] | None = None  # modules that this kernel has as files, of those that are recorded
    builtin: frozenset[str] | None = None
    versions: Mapping[str, str] = field(default_factory=dict, hash=False)  # iptables -> 1.8.9
    ipv6: bool | None = None
    about: tuple[str, ...] | None = None  # how the names of modules begin that are recorded; None: it was not said
    programs_of_lab: tuple[str, ...] = ()  # those that a distribution lacks, and the lab lent

    @property
    def release(self) -> Release:
        """The kernel's; raises ValueError when that is unknown or no release."""
        if self.kernel_release is None:
            raise ValueError("the machine never told its kernel's release")
        return parse_release(self.kernel_release)

    def version(self, program: str) -> Release:
        """A program's; raises ValueError when that is unknown."""
        if program not in self.versions:
            raise ValueError(f"the version of {program} is unknown")
        return parse_release(self.versions[program])

    def option(self, name: str) -> str:
        """What a kernel option is set to, `n` when it is not; raises ValueError when the configuration is unknown."""
        if self.config is None:
            raise ValueError("the kernel's configuration is unknown")
        return self.config.get(name, "n")


def parse_facts(target: str, machine: Mapping[str, Any] | None) -> Facts:
    """The facts in what the guest's agent said of its machine. Raises ValueError for what it cannot have said."""
    said = machine or {}
    release, config = (_text(said, name) for name in ("kernel_release", "kernel_config"))
    versions = said.get("versions") or {}
    if not isinstance(versions, dict):
        raise ValueError(f"the programs' versions are no object: {versions!r:.80}")
    lent = _names(said, "programs_of_lab")
    return Facts(
        target=target,
        kernel_release=release,
        config=None if config is None else parse_config(config),
        loadable=_names(said, "modules_loadable"),
        builtin=_names(said, "modules_builtin"),
        about=None if (about := _names(said, "modules_about")) is None else tuple(sorted(about)),
        programs_of_lab=tuple(sorted(lent or ())),
        ipv6=said["ipv6"] if isinstance(said.get("ipv6"), bool) else None,
        versions={str(name): found[1] for name, text in versions.items() if (found := _version_in(text)) is not None},
    )


def parse_config(text: str) -> Mapping[str, str]:
    """The options that a kernel's configuration sets, without CONFIG_ and without quotes (Documentation/kbuild)."""
    return {found[1]: found[2].strip('"') for line in text.splitlines() if (found := _CONFIG_LINE.fullmatch(line))}


def relevant_config(lines: Iterable[str], prefixes: tuple[str, ...]) -> str:
    """The lines of a configuration that set options of these prefixes."""
    wanted = tuple(f"CONFIG_{prefix}" for prefix in prefixes)
    return "".join(f"{line.rstrip()}\n" for line in lines if line.startswith(wanted))


def _version_in(text: object) -> re.Match[str] | None:
    return _PROGRAM_VERSION.search(text) if isinstance(text, str) else None


def _text(said: Mapping[str, Any], name: str) -> str | None:
    value = said.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is no text: {value!r:.80}")
    return value


def _names(said: Mapping[str, Any], name: str) -> frozenset[str] | None:
    value = said.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} is no list of names: {value!r:.80}")
    return frozenset(value)
