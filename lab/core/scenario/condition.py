"""Conditions on a machine: for an expectation to speak, and for a scenario to be possible at all."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, fields

from lab.core.facts import Facts
from lab.core.kernel.version import VersionSpec, parse_version_spec

# a condition such as NF_CONNTRACK=m, or NF_CONNTRACK=m|y
_OPTION = re.compile(r"(?:CONFIG_)?(?P<name>[A-Z0-9_]+)=(?P<values>[^|=\s]+(?:\|[^|=\s]+)*)", re.ASCII)


@dataclass(frozen=True)
class ConfigSpec:
    """A kernel option and the values that it may have; `n` is one that is not set."""

    name: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}={'|'.join(self.values)}"


def parse_config_spec(text: str) -> ConfigSpec:
    """The condition that text such as `NF_CONNTRACK=m` or `NF_TABLES=m|y` states. Raises ValueError."""
    found = _OPTION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:60]!r} is no option with a value, as in NF_CONNTRACK=m")
    return ConfigSpec(found["name"], tuple(found["values"].split("|")))


@dataclass(frozen=True)
class Condition:
    """What must all be so of a machine; what is not stated always holds."""

    kernel: VersionSpec | None = None
    target: str | None = None  # a glob
    iptables_version: VersionSpec | None = None
    nft_version: VersionSpec | None = None
    config: tuple[ConfigSpec, ...] = ()

    @property
    def stated(self) -> bool:
        """Whether anything is asked for."""
        return any(getattr(self, one.name) for one in fields(Condition))

    def unmet(self, facts: Facts) -> str | None:
        """What is not so, as a phrase; None when all is. Raises ValueError when something that is asked for is unknown.

        What is known decides first: a condition that fails in one part fails, whatever is unknown in the others.
        """
        unknown: ValueError | None = None
        for part in (self._target, self._kernel, self._iptables, self._nft, self._config):
            try:
                if phrase := part(facts):
                    return phrase
            except ValueError as error:
                unknown = error
        if unknown is not None:
            raise unknown
        return None

    def _target(self, facts: Facts) -> str | None:
        met = self.target is None or fnmatch.fnmatchcase(facts.target, self.target)
        return None if met else f"the target is {facts.target}, not {self.target}"

    def _kernel(self, facts: Facts) -> str | None:
        met = self.kernel is None or self.kernel.matches(facts.release)
        return None if met else f"the kernel is {facts.kernel_release}, not {self.kernel}"

    def _iptables(self, facts: Facts) -> str | None:
        return _unmet_version("iptables", self.iptables_version, facts)

    def _nft(self, facts: Facts) -> str | None:
        return _unmet_version("nft", self.nft_version, facts)

    def _config(self, facts: Facts) -> str | None:
        for spec in self.config:
            found = facts.option(spec.name)
            if found not in spec.values:
                return f"the kernel has CONFIG_{spec.name}={found}, not {'|'.join(spec.values)}"
        return None


ALWAYS = Condition()


@dataclass(frozen=True)
class Requirement:
    """What a scenario needs of a machine to mean anything there: a condition, and modules."""

    condition: Condition = ALWAYS
    modules: tuple[str, ...] = ()  # loadable or built in
    loadable: tuple[str, ...] = ()  # and not built in
    backends: tuple[str, ...] = ()  # of iptables, as in BACKEND_NEEDS
    ipv6: bool = False

    def unmet(self, facts: Facts) -> str | None:
        """Why the scenario cannot run on this machine; None where nothing known speaks against it."""
        for backend in self.backends:
            if phrase := BACKEND_NEEDS[backend].unmet(facts):
                return f"iptables-{backend} does not work here: {phrase}"
        try:
            if phrase := self.condition.unmet(facts):
                return phrase
        except ValueError:
            pass  # what is unknown is no reason to skip
        if self.ipv6 and facts.ipv6 is False:
            return "IPv6 is off in this kernel"
        return self._unmet_modules(facts)

    def _unmet_modules(self, facts: Facts) -> str | None:
        if facts.loadable is None or facts.builtin is None:
            return None
        present = facts.loadable | facts.builtin
        for module in (*self.modules, *self.loadable):
            if module not in present and (facts.about is None or module.startswith(facts.about)):
                return f"the kernel has no {module}"
        for module in self.loadable:
            if module in facts.builtin:
                return f"{module} is built into the kernel"
        return None


NOTHING = Requirement()

# iptables-nft speaks to nf_tables with generation IDs, which the kernel has since 3.18, and reaches the matches and
# targets of xtables through nft_compat. Since 6.17 a kernel may come without legacy tables (NETFILTER_XTABLES_LEGACY).
BACKEND_NEEDS = {
    "legacy": Requirement(modules=("ip_tables", "iptable_filter", "iptable_nat")),
    "nft": Requirement(
        Condition(kernel=parse_version_spec(">=3.18")),
        modules=("nf_tables", "nft_compat"),
    ),
}


def _unmet_version(program: str, spec: VersionSpec | None, facts: Facts) -> str | None:
    if spec is None or spec.matches(facts.version(program)):
        return None
    return f"{program} is {facts.versions[program]}, not {spec}"
