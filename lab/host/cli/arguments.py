"""The command line's words: every command and option with its help, and nothing that takes time to import."""

from __future__ import annotations

import argparse
from typing import Any

import lab
from lab.host.cli.completion import SHELLS
from lab.host.publish.schemas import SCHEMAS

DEFAULT_TARGET = "debian12"


def command_line() -> argparse.ArgumentParser:
    """The parser of `lab`. What it makes of a command line has the command's name as `command`, None without one."""
    parser = argparse.ArgumentParser(
        prog="lab",
        description="In this state, on this kernel, are connections tracked, and what happens when the table fills?",
        epilog="example: lab run 'nat-*' --target debian12 --target debian13",
    )
    parser.add_argument("--version", action="version", version=f"conntrack-lab {lab.__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    _list_parser(commands)
    _run_parser(commands)
    _shell_parser(commands)
    _judge_parser(commands)
    _compare_parser(commands)
    _report_parser(commands)
    _verify_parser(commands)
    _replay_parser(commands)
    _schema_parser(commands)
    _image_parser(commands)
    _kernel_parser(commands)
    _completion_parser(commands)
    doctor = _command(
        commands, "doctor", "doctor", "show what is missing on this host, and how to fix it", "lab doctor --again"
    )
    doctor.add_argument("--clean", action="store_true", help="remove the machines that a killed lab left in Vagrant")
    _loudness_arguments(doctor)
    doctor.add_argument("--again", action="store_true", help="repeat the test that boots a guest with KVM")
    return parser


def _command(commands: Any, name: str, command: str, summary: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary.capitalize() + ".", epilog=f"example: {example}"
    )
    parser.set_defaults(command=command)
    return parser


def _list_parser(commands: Any) -> None:
    parser = _command(commands, "list", "list", "list scenarios and targets", "lab list targets")
    parser.add_argument("what", nargs="?", choices=("all", "scenarios", "targets"), default="all")
    parser.add_argument("--format", choices=("human", "json"), default="human")


def _completion_parser(commands: Any) -> None:
    example = "lab completion fish | source (in bash and zsh: source <(lab completion bash))"
    parser = _command(commands, "completion", "completion", "print the completion code of a shell", example)
    parser.add_argument("shell", choices=SHELLS)


def _run_parser(commands: Any) -> None:
    example = "lab run nat-flushed --target 'debian1?' --repeat 3 --junit out.xml"
    parser = _command(commands, "run", "run", "run cells and say what each found", example)
    _machine_arguments(parser)
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="every cell N times")
    parser.add_argument("-j", dest="parallel", type=_positive, metavar="N", help="cells at once")
    parser.add_argument("--output", default="results", metavar="DIR", help="where the run's folder is made (results)")
    _ci_arguments(parser)
    parser.add_argument("--format", choices=("human", "json", "md"), default="human")
    parser.add_argument("--keep-failed", action="store_true", help="keep the machine of a cell that is not as expected")
    parser.add_argument(
        "--mitigate",
        action="store_true",
        help="then try to remove what holds conntrack",
    )
    parser.add_argument("--share-machine", action="store_true", help="one box machine for all cells, reset each time")
    _loudness_arguments(parser, verbose="each stage and step of every cell, and what programs print")
    parser.add_argument("--dry-run", action="store_true", help="print every step, run nothing; -v: QEMU's lines too")


def _ci_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--junit", metavar="FILE", help="also write JUnit XML")
    parser.add_argument("--ktap", metavar="FILE", help="also write KTAP, the format of the kernel's own tests")


def _shell_parser(commands: Any) -> None:
    example = "lab shell nat-flushed --set iptables=nft --target debian13"
    parser = _command(commands, "shell", "shell", "open a shell in the guest, at the scenario's state", example)
    _machine_arguments(parser, scenarios="?")
    parser.add_argument("--kept", metavar="CELL", help="the folder of a cell that was run with --keep-failed")
    _loudness_arguments(parser, verbose="each stage and step, and what programs print")


def _machine_arguments(parser: argparse.ArgumentParser, scenarios: int | str = "+") -> None:
    parser.add_argument("scenarios", nargs=scenarios, metavar="SCENARIO", help="a name, a glob or a path")
    parser.add_argument("--target", action="append", metavar="T", help=f"a target or glob ({DEFAULT_TARGET})")
    parser.add_argument(
        "--provisioner",
        choices=("qemu", "vagrant", "host"),
        help="what runs the machines",
    )
    parser.add_argument("--provider", choices=("libvirt", "virtualbox"), default="libvirt", help="of Vagrant (libvirt)")
    parser.add_argument(
        "--control",
        choices=("auto", "ssh"),
        default="auto",
        help="control a box by its serial port, or SSH",
    )
    parser.add_argument("--disposable-host", action="store_true", help="allow this machine itself to be changed (host)")
    parser.add_argument("--accelerator", choices=("auto", "kvm", "tcg"), default="auto")
    help_of_kernel = "another kernel: packages (each with a --kernel), a folder, a bzImage, apt:SUITE, URL#sha256=HEX"
    parser.add_argument("--kernel", action="append", metavar="[NAME=]KERNEL", help=help_of_kernel)
    parser.add_argument("--modules", metavar="DIR", help="the modules of a bzImage, a folder or a package")
    parser.add_argument("--mirror", metavar="URL", help="the Debian mirror for images that are missing")
    parser.add_argument("--connections", type=int, metavar="N", help="connections that the load opens")
    parser.add_argument("--max", type=int, metavar="N", help="nf_conntrack_max")
    parser.add_argument("--set", action="append", metavar="AXIS=VALUE", help="only variants with this value")
    parser.add_argument("--timeouts", metavar="STAGE=SECONDS,...", help="for example boot=60,load=120")


def _judge_parser(commands: Any) -> None:
    example = "lab judge results/latest"
    parser = _command(commands, "judge", "judge", "judge a run again from its stored evidence", example)
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--format", choices=("human", "json", "md"), default="human")
    _ci_arguments(parser)


def _report_parser(commands: Any) -> None:
    example = "lab report results/latest"
    parser = _command(commands, "report", "report", "make an HTML page of a run, with plots", example)
    parser.add_argument("directory", metavar="DIR", help="the run's folder")
    parser.add_argument("--output", metavar="FILE", help="where to write it (DIR/report.html; Markdown: stdout)")
    parser.add_argument("--format", choices=("html", "md"), default="html")


def _replay_parser(commands: Any) -> None:
    example = "lab replay results/latest --junit out.xml"
    parser = _command(commands, "replay", "replay", "run a stored run's cells again, and compare", example)
    parser.add_argument("directory", metavar="DIR", help="the run's folder, or one with its results alone")
    parser.add_argument("--anyway", action="store_true", help="go on where something of the run is no longer available")
    parser.add_argument("--dry-run", action="store_true", help="list what has changed, and the cells; run nothing")
    parser.add_argument("-j", dest="parallel", type=_positive, metavar="N", help="cells at once (as then)")
    parser.add_argument("--output", default="results", metavar="DIR", help="where the run's folder is made (results)")
    parser.add_argument("--accelerator", choices=("auto", "kvm", "tcg"), default="auto", help="auto: as then")
    parser.add_argument("--mirror", metavar="URL", help="the Debian mirror for images that are missing")
    parser.add_argument("--disposable-host", action="store_true", help="this machine may be changed for good (host)")
    parser.add_argument("--format", choices=("human", "json", "md"), default="human")
    _ci_arguments(parser)
    _loudness_arguments(parser, verbose="each stage and step of every cell, and what programs print")


def _schema_parser(commands: Any) -> None:
    example = "lab schema scenario > scenario.schema.json"
    parser = _command(commands, "schema", "schema", "print the schema of a document of the lab", example)
    parser.add_argument("name", choices=tuple(SCHEMAS), help="; ".join(f"{name}: {of}" for name, of in SCHEMAS.items()))


def _verify_parser(commands: Any) -> None:
    example = "lab verify results/latest"
    parser = _command(commands, "verify", "verify", "check that a stored run has not changed", example)
    parser.add_argument("directory", metavar="DIR", help="the run's folder, or one with its results alone")


def _compare_parser(commands: Any) -> None:
    example = "lab compare results/reference results/latest --format md"
    parser = _command(commands, "compare", "compare", "compare the findings and numbers of two runs", example)
    parser.add_argument("base", metavar="BASE", help="a run's folder, or its manifest.json and results.json alone")
    parser.add_argument("new", metavar="NEW", help="the run to compare with it")
    help_of_match = "compare only these targets with each other, for targets of different names"
    parser.add_argument("--match", action="append", metavar="TARGET=TARGET", help=help_of_match)
    parser.add_argument("--subset", action="store_true", help="NEW is meant to have fewer cells than BASE")
    parser.add_argument("--strict", action="store_true", help="exit with 1, not 3, where something is undecided")
    parser.add_argument("--junit", metavar="FILE", help="also write JUnit XML")
    parser.add_argument("--format", choices=("human", "json", "md"), default="human")


def _image_parser(commands: Any) -> None:
    parser = commands.add_parser("image", help="build, list and remove guest images")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    build = _command(actions, "build", "image build", "build images", "lab image build debian12 debian13")
    build.add_argument("targets", nargs="+", metavar="TARGET", help="a target or glob")
    build.add_argument("--mirror", metavar="URL", help="the Debian mirror (the host's own)")
    build.add_argument("--format", dest="form", choices=("image", "box"), default="image", help="box: for Vagrant")
    build.add_argument("--rebuild", action="store_true", help="even if there is a current image")
    _loudness_arguments(build, verbose="what programs print")
    _command(actions, "list", "image list", "list the images in the cache", "lab image list")
    key = _command(actions, "key", "image key", "print the keys of images, for a cache in CI", "lab image key debian12")
    key.add_argument("names", nargs="+", metavar="TARGET", help="a target or glob")
    remove = _command(actions, "remove", "image remove", "remove images", "lab image remove debian12")
    remove.add_argument("names", nargs="*", metavar="TARGET")
    remove.add_argument("--saved-states", action="store_true", help="the saved memory of booted machines")


def _kernel_parser(commands: Any) -> None:
    parser = commands.add_parser("kernel", help="list and fetch kernels of distributions")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    what = "list suites, and what kernels a suite has"
    listing = _command(actions, "list", "kernel list", what, "lab kernel list bookworm-security")
    listing.add_argument("suite", nargs="?", metavar="SUITE", help="without: all suites, and what is in the cache")
    _loudness_arguments(listing)
    what = "fetch kernels into the cache, verified"
    fetch = _command(actions, "fetch", "kernel fetch", what, "lab kernel fetch apt:bookworm/linux-image-rt-amd64")
    fetch.add_argument("kernels", nargs="+", metavar="KERNEL", help="apt:SUITE[/PACKAGE] or URL#sha256=HEX")
    _loudness_arguments(fetch)


def _loudness_arguments(parser: argparse.ArgumentParser, verbose: str | None = None) -> None:
    """--quiet, and, where there is more to tell, --verbose."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("-q", "--quiet", action="store_true", help="results and errors, no progress")
    if verbose:
        choice.add_argument("-v", "--verbose", action="store_true", help=verbose)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}, must be a number of at least 1")
    return int(text)
