"""What a kernel must have to boot a guest, looked up in its modules and its configuration before anything boots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import PrerequisiteError
from lab.host.images.initrd import DRIVERS, module_name, parse_builtin, parse_config
from lab.host.images.modules import module_files
from lab.host.kernels.find import KernelFiles


@dataclass(frozen=True)
class Need:
    """An option that must be built in, for what."""

    option: str
    purpose: str


# On the way to the agent; drivers are in initrd.DRIVERS, and may be modules.
NEEDS = (
    Need("CONFIG_64BIT", "64-bit programs"),
    Need("CONFIG_BLK_DEV_INITRD", "the initial RAM disk"),
    Need("CONFIG_BINFMT_ELF", "programs"),
    Need("CONFIG_BINFMT_SCRIPT", "the first program, a script"),
    Need("CONFIG_PROC_FS", "/proc"),
    Need("CONFIG_SYSFS", "/sys"),
    Need("CONFIG_TMPFS", "what a guest writes"),
    Need("CONFIG_SERIAL_8250_CONSOLE", "a serial console, to see why it does not boot"),
)

# Without these modules, where the configuration builds them as such, something of the kernel was left out.
_WITNESSES = {
    "CONFIG_NF_CONNTRACK": "nf_conntrack",
    "CONFIG_NETFILTER_XTABLES": "x_tables",
    "CONFIG_NF_TABLES": "nf_tables",
}


def in_words() -> str:
    """What a guest's kernel needs, in a line, for a kernel of which nothing could be looked up."""
    drivers = ", ".join(driver.option for driver in DRIVERS if driver.mandatory)
    return f"{drivers} (built in or modules), {', '.join(need.option for need in NEEDS)} (built in)"


def check(files: KernelFiles, missing_hint: str, *, whole: bool) -> None:
    """Return if the kernel can boot a guest, as far as its modules and configuration tell.

    `whole` says that what was given should have everything of the kernel, so that no modules means that they were
    left out; `missing_hint` says how to add them. Raises PrerequisiteError that names everything that is missing.
    """
    options = parse_config(files.options())
    present = _modules_in(files.modules)
    if not present.loadable and _is_modular(options, whole and not present.builtin):
        raise PrerequisiteError(
            f"there are no modules of {files.release}, the kernel {files.vmlinuz}", hint=missing_hint
        )
    witnesses = {name for option, name in _WITNESSES.items() if options.get(option) == "m"}
    # of a kernel without list and configuration nothing is known: its boot will tell
    drivers = tuple(_missing_drivers(options, present)) if options or present.builtin else ()
    left_out = sorted(
        {module for module, option in drivers if options.get(option) == "m"} | (witnesses - present.loadable)
    )
    if left_out:
        raise PrerequisiteError(
            f"the modules of {files.release} are not complete: {', '.join(left_out)} "
            f"{'is' if len(left_out) == 1 else 'are'} missing, which its configuration builds",
            hint=missing_hint,
        )
    lacking = [option for _, option in drivers]
    lacking += [f"{need.option} ({need.purpose})" for need in NEEDS if options and options.get(need.option) != "y"]
    if lacking:
        raise PrerequisiteError(
            f"the kernel {files.release} cannot boot a guest: it lacks {', '.join(lacking)}",
            hint="take another build of it, or build these options in",
        )


@dataclass(frozen=True)
class _Present:
    loadable: frozenset[str]
    builtin: frozenset[str]


def _modules_in(folder: Path | None) -> _Present:
    if folder is None:
        return _Present(frozenset(), frozenset())
    loadable = frozenset(module_name(path.name) for path in module_files(folder) if ".ko" in path.name)
    builtin = folder / "modules.builtin"
    return _Present(loadable, parse_builtin(builtin.read_text()) if builtin.exists() else frozenset())


def _is_modular(options: Mapping[str, str], whole: bool) -> bool:
    return "m" in options.values() if options else whole


def _missing_drivers(options: Mapping[str, str], present: _Present) -> Iterator[tuple[str, str]]:
    for driver in DRIVERS:
        there = present.loadable | present.builtin
        if driver.mandatory and driver.module not in there and options.get(driver.option) != "y":
            yield driver.module, driver.option
