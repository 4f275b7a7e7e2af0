"""The command line: the one place that prints and that decides the exit status."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import lab
from lab.core.errors import LabError
from lab.core.result import exit_status, results_document
from lab.host import boxes, compare_output, images, output
from lab.host.commands import RunOptions, Services, check_host, open_kept, open_shell, plan_run, run_cells
from lab.host.comparison import compare_runs
from lab.host.doctor import report
from lab.host.progress import Reporter
from lab.host.provision import vagrant
from lab.host.provision.machine import Deadlines
from lab.host.provision.qemu import prune_saved_states, saved_states
from lab.host.report import PAGE, report_markdown, write_report
from lab.host.run import KEPT_MACHINE, judge_run
from lab.host.scenario_files import load_scenarios, scenario_directories, scenarios_in
from lab.host.targets import FOREIGN, TARGETS, expand_targets

EXIT_WRONG = 2
EXIT_INTERRUPTED = 130
DEFAULT_TARGET = "debian12"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        _say("interrupted: what had finished is kept")
        return EXIT_INTERRUPTED
    except LabError as error:
        return _complain(error)
    except BaseExceptionGroup as group:
        errors, bugs = group.split(LabError)
        if bugs is not None or errors is None:
            raise
        return _complain(_first(errors))
    except BrokenPipeError:
        # whoever read our output has gone: what remains is for nobody
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_WRONG


def _list(options: argparse.Namespace) -> int:
    if options.what in ("scenarios", "all"):
        paths = scenarios_in(scenario_directories())
        scenarios = load_scenarios([str(path) for path in paths.values()], ())
        width = max((len(scenario.name) for scenario in scenarios), default=0)
        for scenario in scenarios:
            print(f"{scenario.name:{width}}  {scenario.summary}")
    if options.what in ("targets", "all"):
        for target in TARGETS.values():
            built = "built" if images.load(target) is not None else "not built"
            print(f"{target.name:20}  {target.summary} ({built})")
        for name, target in FOREIGN.items():
            print(f"{name:20}  {target.summary}")
        for box in boxes.list_boxes():
            print(f"{'vagrant:' + box.name:20}  box, Linux {box.kernel_release} ({box.file})")
    return 0


def _run(options: argparse.Namespace) -> int:
    wanted = _run_options(options)
    planned = plan_run(wanted)
    if options.dry_run:
        for line in planned.describe(wanted.accelerator, wanted.mitigate):
            print(line)
        return 0
    if options.junit:
        _check_writable(Path(options.junit))
    reporter = Reporter(sys.stderr, len(planned.plans))
    services = Services(say=reporter.say, on_progress=reporter.progress, on_result=reporter.result)
    try:
        run, cells = _async(run_cells(planned, wanted, services))
    finally:
        reporter.close()
    _say(f"results: {run}")
    for kept in sorted(run.glob(f"cells/*/{KEPT_MACHINE}")):
        _say(f"kept: lab shell --kept '{kept.parent}'")
    print(_formatted(cells, options.format))
    if options.junit:
        Path(options.junit).write_text(output.junit(cells, "conntrack-lab"), encoding="utf-8")
    return exit_status(cells)


def _check_writable(path: Path) -> None:
    """Raises LabError for a file that could not be written at the end of the run."""
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise LabError(f"--junit {path}: cannot be written", hint="name a file in a folder that exists")


def _judge(options: argparse.Namespace) -> int:
    cells = judge_run(Path(options.directory))
    print(_formatted(cells, options.format))
    return exit_status(cells)


def _compare(options: argparse.Namespace) -> int:
    comparison = compare_runs(Path(options.base), Path(options.new), tuple(options.match or ()))
    if options.format == "json":
        print(json.dumps(comparison.to_json(), indent=1))
    else:
        print(compare_output.FORMATS[options.format](comparison))
    return comparison.exit_status


def _report(options: argparse.Namespace) -> int:
    run = Path(options.directory)
    if options.format == "md" and not options.output:
        print(report_markdown(run), end="")
        return 0
    page = Path(options.output) if options.output else run / PAGE
    write_report(run, page, options.format)
    print(page)
    return 0


def _shell(options: argparse.Namespace) -> int:
    wanted = _run_options(options)
    if options.kept:
        kept: int = _async(open_kept(Path(options.kept), wanted, _say))
        return kept
    if not wanted.scenarios:
        raise LabError("lab shell: names no scenario", hint="lab shell nat-present, or lab shell --kept CELL")
    status: int = _async(open_shell(plan_run(wanted), wanted, _say))
    return status


def _image_build(options: argparse.Namespace) -> int:
    for spec in expand_targets(options.targets):
        if options.form == "box":
            box = boxes.build(spec.target, mirror=options.mirror, progress=_say, rebuild=options.rebuild)
            print(f"{box.name}  sha256={box.sha256}  {box.size_bytes / 10**6:.0f} MB  {box.file}")
            continue
        image = images.build(spec.target, mirror=options.mirror, progress=_say, rebuild=options.rebuild)
        print(f"{image.name}  {image.digest[:12]}  {image.size_bytes / 10**6:.0f} MB  {image.directory}")
    return 0


def _image_list(options: argparse.Namespace) -> int:
    for image in images.list_images():
        target = TARGETS.get(image.name)
        state = "current" if target is not None and images.is_current(image, target) else "outdated"
        row = (f"{image.name:20}", image.kernel_release, f"{image.size_bytes / 10**6:.0f} MB", state, image.directory)
        print("  ".join(map(str, row)))
    for box in boxes.list_boxes():
        state = "current" if boxes.is_current(box) else "outdated"
        row = (f"{'vagrant:' + box.name:20}", box.kernel_release, f"{box.size_bytes / 10**6:.0f} MB", state, box.file)
        print("  ".join(map(str, row)))
    states = saved_states()
    size_mb = sum(file.stat().st_blocks * 512 for folder in states for file in folder.iterdir()) / 10**6
    print(f"{len(states)} saved states of booted machines: {size_mb:.0f} MB (lab image remove --saved-states)")
    return 0


def _image_remove(options: argparse.Namespace) -> int:
    if options.saved_states:
        print(f"removed {prune_saved_states(keep=0)} saved states")
    for name in options.names:
        for folder in (*images.remove(name), *boxes.remove(name)):
            print(f"removed {folder}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    if options.clean:
        print(f"removed {vagrant.clean(_say)} machines of labs that were killed, or that --keep-failed kept")
        return 0
    checks = _async(check_host(_say, options.again))
    print(report(checks))
    return 0 if all(check.ok for check in checks if check.required) else EXIT_WRONG


def _run_options(options: argparse.Namespace) -> RunOptions:
    return RunOptions(
        scenarios=(options.scenarios,) if isinstance(options.scenarios, str) else tuple(options.scenarios or ()),
        targets=tuple(options.target or (DEFAULT_TARGET,)),
        kernel=Path(options.kernel) if options.kernel else None,
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
    boxes_wanted = any(target.startswith("vagrant:") for target in options.target or ())
    return replace(Deadlines(), boot=900.0, destroy=150.0) if boxes_wanted else Deadlines()


def _deadlines(text: str | None, base: Deadlines) -> Deadlines:
    """`boot=60,load=120` over the defaults. Raises LabError that names the stage and the known ones."""
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


def _formatted(cells: list[dict[str, Any]], form: str) -> str:
    if form == "json":
        return json.dumps(results_document(cells), indent=1)
    return output.markdown_table(cells) if form == "md" else output.human_table(cells)


def _async(work: Any) -> Any:
    """Run a coroutine; SIGTERM ends it as Ctrl-C does, with everything cleaned up."""

    async def watched() -> Any:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _first(group: BaseExceptionGroup[LabError]) -> LabError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _complain(error: LabError) -> int:
    _say(f"lab: {error}")
    if error.hint:
        _say(f"  mend: {error.hint}")
    return EXIT_WRONG


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab",
        description="In this state, on this kernel, are connections tracked, and what happens when the table fills?",
        epilog="example: lab run 'nat-*' --target debian12 --target debian13",
    )
    parser.add_argument("--version", action="version", version=f"conntrack-lab {lab.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _list_parser(commands)
    _run_parser(commands)
    _shell_parser(commands)
    _judge_parser(commands)
    _compare_parser(commands)
    _report_parser(commands)
    _image_parser(commands)
    doctor = _command(commands, "doctor", _doctor, "say what this host lacks, with the mend", "lab doctor --again")
    doctor.add_argument("--clean", action="store_true", help="remove the machines that a killed lab left in Vagrant")
    doctor.add_argument("--again", action="store_true", help="boot a guest with KVM anew instead of remembering")
    return parser


def _command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], summary: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary.capitalize() + ".", epilog=f"example: {example}"
    )
    parser.set_defaults(command=function)
    return parser


def _list_parser(commands: Any) -> None:
    parser = _command(commands, "list", _list, "list scenarios and targets, one line each", "lab list targets")
    parser.add_argument("what", nargs="?", choices=("all", "scenarios", "targets"), default="all")


def _run_parser(commands: Any) -> None:
    example = "lab run nat-flushed --target 'debian1?' --repeat 3 --junit out.xml"
    parser = _command(commands, "run", _run, "run cells and judge them", example)
    _machine_arguments(parser)
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="every cell N times")
    parser.add_argument("-j", dest="parallel", type=_positive, metavar="N", help="cells at once")
    parser.add_argument("--output", default="results", metavar="DIR", help="where the run's folder is made (results)")
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML too")
    parser.add_argument("--format", choices=("human", "json", "md"), default="human")
    parser.add_argument("--keep-failed", action="store_true", help="keep the machine of a cell that is not as expected")
    parser.add_argument("--mitigate", action="store_true", help="try the removal of what holds conntrack, where it is")
    parser.add_argument("--share-machine", action="store_true", help="one box machine, returned to its snapshot")
    parser.add_argument("--dry-run", action="store_true", help="print every step and QEMU's command line, run nothing")


def _shell_parser(commands: Any) -> None:
    example = "lab shell nat-flushed --set iptables=nft --target debian13"
    parser = _command(commands, "shell", _shell, "open a shell in the guest, at the scenario's state", example)
    _machine_arguments(parser, scenarios="?")
    parser.add_argument("--kept", metavar="CELL", help="the folder of a cell that was run with --keep-failed")


def _machine_arguments(parser: argparse.ArgumentParser, scenarios: int | str = "+") -> None:
    parser.add_argument("scenarios", nargs=scenarios, metavar="SCENARIO", help="a name, a glob or a path")
    parser.add_argument("--target", action="append", metavar="T", help=f"a target or glob ({DEFAULT_TARGET})")
    parser.add_argument("--provisioner", choices=("qemu", "vagrant", "host"), help="what makes the targets' machines")
    parser.add_argument("--provider", choices=("libvirt", "virtualbox"), default="libvirt", help="of Vagrant (libvirt)")
    parser.add_argument(
        "--control", choices=("auto", "ssh"), default="auto", help="into a box: its serial port, or SSH"
    )
    parser.add_argument("--disposable-host", action="store_true", help="this machine may be changed for good (host)")
    parser.add_argument("--accelerator", choices=("auto", "kvm", "tcg"), default="auto")
    parser.add_argument("--kernel", metavar="PATH", help="another kernel: a .deb, a folder, or a bzImage")
    parser.add_argument("--modules", metavar="DIR", help="the modules of a bzImage")
    parser.add_argument("--mirror", metavar="URL", help="the Debian mirror for images that are missing")
    parser.add_argument("--connections", type=int, metavar="N", help="how many the load opens")
    parser.add_argument("--max", type=int, metavar="N", help="nf_conntrack_max")
    parser.add_argument("--set", action="append", metavar="AXIS=VALUE", help="only variants with this value")
    parser.add_argument("--timeouts", metavar="STAGE=SECONDS,...", help="for example boot=60,load=120")


def _judge_parser(commands: Any) -> None:
    example = "lab judge results/latest"
    parser = _command(commands, "judge", _judge, "judge a run again from its stored evidence", example)
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--format", choices=("human", "json", "md"), default="human")


def _report_parser(commands: Any) -> None:
    example = "lab report results/latest"
    parser = _command(commands, "report", _report, "make a page of a run, with plots", example)
    parser.add_argument("directory", metavar="DIR", help="the run's folder")
    parser.add_argument("--output", metavar="FILE", help=f"where to write it (DIR/{PAGE}; Markdown: stdout)")
    parser.add_argument("--format", choices=("html", "md"), default="html")


def _compare_parser(commands: Any) -> None:
    example = "lab compare results/reference results/latest --format md"
    parser = _command(commands, "compare", _compare, "compare the findings and numbers of two runs", example)
    parser.add_argument("base", metavar="BASE", help="a run's folder, or one with its manifest.json and results.json")
    parser.add_argument("new", metavar="NEW", help="the same of the run that is compared with it")
    help_of_match = "compare these targets, and no others; for what has no family in common"
    parser.add_argument("--match", action="append", metavar="TARGET=TARGET", help=help_of_match)
    parser.add_argument("--format", choices=("human", "json", "md"), default="human")


def _image_parser(commands: Any) -> None:
    parser = commands.add_parser("image", help="build, list and remove guest images")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    build = _command(actions, "build", _image_build, "build images", "lab image build debian12 debian13")
    build.add_argument("targets", nargs="+", metavar="TARGET", help="a target or glob")
    build.add_argument("--mirror", metavar="URL", help="the Debian mirror (the host's own)")
    build.add_argument("--format", dest="form", choices=("image", "box"), default="image", help="box: for Vagrant")
    build.add_argument("--rebuild", action="store_true", help="also where a current image is there")
    _command(actions, "list", _image_list, "list the images in the cache", "lab image list")
    remove = _command(actions, "remove", _image_remove, "remove images", "lab image remove debian12")
    remove.add_argument("names", nargs="*", metavar="TARGET")
    remove.add_argument("--saved-states", action="store_true", help="the saved memory of booted machines")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}, must be a number of at least 1")
    return int(text)
