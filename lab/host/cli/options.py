"""The options that say which machines and what load: from words to RunOptions."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lab.core.errors import LabError
from lab.host.cli.parsing import DEFAULT_TARGET

if TYPE_CHECKING:
    from lab.host.machines.machine import Deadlines
    from lab.host.run.commands import RunOptions


def add_scenarios(parser: argparse.ArgumentParser, count: str = "+") -> argparse._ArgumentGroup:
    """The group of options that say what is run."""
    group = parser.add_argument_group("what to run")
    group.add_argument("scenarios", nargs=count, metavar="SCENARIO", help="a name, a glob or a path")
    group.add_argument("--set", action="append", metavar="AXIS=VALUE", help="only variants with this value")
    return group


def add_machines(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The group of options that say where it is run."""
    group = parser.add_argument_group("where")
    group.add_argument("--target", action="append", metavar="T", help=f"a target or glob ({DEFAULT_TARGET})")
    help_of_kernel = "another kernel: packages (each with a --kernel), a folder, a bzImage, apt:SUITE, URL#sha256=HEX"
    group.add_argument("--kernel", action="append", metavar="[NAME=]KERNEL", help=help_of_kernel)
    group.add_argument("--modules", metavar="DIR", help="the modules of a bzImage, a folder or a package")
    group.add_argument("--mirror", metavar="URL", help="the Debian mirror for images that are missing")
    group.add_argument("--provisioner", choices=("qemu", "vagrant", "host"), help="what runs the machines")
    group.add_argument("--accelerator", choices=("auto", "kvm", "tcg"), default="auto")
    group.add_argument("--provider", choices=("libvirt", "virtualbox"), default="libvirt", help="of Vagrant (libvirt)")
    help_of_control = "control a box by its serial port, or SSH"
    group.add_argument("--control", choices=("auto", "ssh"), default="auto", help=help_of_control)
    group.add_argument("--disposable-host", action="store_true", help="allow this machine itself to be changed (host)")
    group.add_argument("--timeouts", metavar="STAGE=SECONDS,...", help="for example boot=60,load=120")
    return group


def add_load(parser: argparse.ArgumentParser) -> None:
    """The group of options that change the load."""
    group = parser.add_argument_group("load")
    group.add_argument("--connections", type=int, metavar="N", help="connections that the load opens")
    group.add_argument("--max", type=int, metavar="N", help="nf_conntrack_max")


def run_options(options: argparse.Namespace) -> RunOptions:
    """The options of `run` or `shell`. Raises LabError for one that cannot be understood."""
    from lab.host.kernels.source import join_sources
    from lab.host.run.commands import RunOptions

    return RunOptions(
        scenarios=(options.scenarios,) if isinstance(options.scenarios, str) else tuple(options.scenarios or ()),
        targets=tuple(options.target or (DEFAULT_TARGET,)),
        kernel=join_sources(options.kernel or ()),
        modules=Path(options.modules) if options.modules else None,
        mirror=options.mirror,
        accelerator=options.accelerator,
        connections=options.connections,
        max=options.max,
        chosen=tuple(options.set or ()),
        repeat=getattr(options, "repeat", 1),
        parallel=getattr(options, "parallel", None),
        output=Path(getattr(options, "output", "results")),
        deadlines=_deadlines(options.timeouts, _base_deadlines(options)),
        keep_failed=getattr(options, "keep_failed", False),
        mitigate=getattr(options, "mitigate", False),
        command=tuple(sys.argv),
        provisioner=options.provisioner,
        share_machine=getattr(options, "share_machine", False),
        disposable_host=options.disposable_host,
        provider=options.provider,
        control=options.control,
    )


def _base_deadlines(options: argparse.Namespace) -> Deadlines:
    """Vagrant boots a whole distribution and takes it down again; the rest is as everywhere."""
    from dataclasses import replace

    from lab.host.machines.machine import Deadlines
    from lab.host.run.commands import BOX_BOOT_SECONDS

    boxes_wanted = any(target.startswith("vagrant:") for target in options.target or ())
    return replace(Deadlines(), boot=BOX_BOOT_SECONDS, destroy=150.0) if boxes_wanted else Deadlines()


def _deadlines(text: str | None, base: Deadlines) -> Deadlines:
    """`boot=60,load=120` over the defaults. Raises LabError that names the stage and the known ones."""
    from dataclasses import fields, replace

    from lab.host.machines.machine import Deadlines

    known = [field.name for field in fields(Deadlines)]
    changes = {}
    for part in filter(None, (text or "").split(",")):
        stage, _, seconds = part.partition("=")
        try:
            changes[stage] = float(seconds)
        except ValueError:
            changes[stage] = -1.0
        if stage not in known or not 0 < changes[stage] < 10**6:
            raise LabError(f"--timeouts {part}: is no stage=seconds", hint=f"stages: {', '.join(known)}")
    return replace(base, **changes)
