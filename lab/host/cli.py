"""The command line: the one place that prints and that decides the exit status."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import lab
from lab.core.compare_junit import comparison_junit
from lab.core.errors import LabError
from lab.core.github import run_summary
from lab.core.occupancy import ASCII, BLOCKS
from lab.core.result import exit_status, results_document
from lab.core.text import plural, printable
from lab.host import boxes, compare_output, completion, ending, github, images, listing, output, replay, verify
from lab.host.cache import Deadline
from lab.host.ci import FORMATS, CiFiles
from lab.host.commands import (
    BOX_BOOT_SECONDS,
    PlannedRun,
    RunOptions,
    Services,
    check_host,
    open_kept,
    open_shell,
    plan_run,
    run_cells,
    too_small,
)
from lab.host.comparison import compare_runs
from lab.host.doctor import report
from lab.host.ending import EXIT_WRONG
from lab.host.kernels.fetch import fetch_source, kernels_in
from lab.host.kernels.listing import kernel_lines, suite_lines
from lab.host.kernels.source import join_sources
from lab.host.progress import Loudness, Reporter
from lab.host.provision import leftovers
from lab.host.provision.machine import Deadlines
from lab.host.provision.qemu import prune_saved_states, saved_states
from lab.host.report import PAGE, report_markdown, write_report
from lab.host.run import KEPT_MACHINE, judge_run
from lab.host.samples import sparklines
from lab.host.scenario_files import load_scenarios, scenario_directories, scenarios_in
from lab.host.schemas import SCHEMAS, schema_text
from lab.host.store import stored_seconds
from lab.host.targets import TARGETS, expand_targets

_FETCH_SECONDS = 900.0
DEFAULT_TARGET = "debian12"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status (lab/host/ending.py)."""
    parser = _parser()
    if completion.asked():
        completion.answer(parser)
    return ending.status_of(lambda: _command_of(parser, argv), _say)


def _command_of(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    options = parser.parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def _list(options: argparse.Namespace) -> int:
    wants_scenarios, wants_targets = (options.what in (what, "all") for what in ("scenarios", "targets"))
    paths = scenarios_in(scenario_directories()) if wants_scenarios else {}
    scenarios = listing.scenarios_of(load_scenarios([str(path) for path in paths.values()], ()))
    targets = listing.targets_of() if wants_targets else ()
    if options.format == "json":
        told = listing.document(scenarios if wants_scenarios else None, targets if wants_targets else None)
        print(json.dumps(told, indent=1))
        return 0
    width = _columns(sys.stdout)
    tables = [listing.scenario_table(scenarios, width)] if wants_scenarios else []
    tables += [listing.target_table(targets, width)] if wants_targets else []
    print("\n\n".join(tables))
    return 0


def _run(options: argparse.Namespace) -> int:
    wanted = _run_options(options)
    planned = plan_run(wanted)
    if options.dry_run:
        for line in planned.describe(wanted.accelerator, wanted.mitigate, wanted.provider):
            print(github.printed(line))
        return 0
    files = _ci_files(options)
    files.check()
    run, cells = _run_planned(planned, wanted, options)
    _tell(cells, run, options.format, files)
    return exit_status(cells)


def _run_planned(
    planned: PlannedRun, wanted: RunOptions, options: argparse.Namespace
) -> tuple[Path, list[dict[str, Any]]]:
    """Run cells with progress on stderr; the run's folder and the results."""
    for line in too_small(planned):
        _say(line)
    expected = stored_seconds(wanted.output / "latest", [plan.cell for plan in planned.plans])
    reporter = Reporter(github.stream(sys.stderr), len(planned.plans), loudness=_loudness(options), expected=expected)
    wanted = replace(wanted, detail=reporter.detail)
    services = Services(say=reporter.say, on_progress=reporter.progress, on_result=reporter.result)
    try:
        run, cells = _async(run_cells(planned, wanted, services))
    finally:
        reporter.close()
    reporter.say(f"results: {run}")
    for kept in sorted(run.glob(f"cells/*/{KEPT_MACHINE}")):
        reporter.say(f"kept: lab shell --kept '{kept.parent}'")
    return run, cells


def _tell(cells: list[dict[str, Any]], run: Path, form: str, files: CiFiles) -> None:
    """A run's results: to the files that CI reads, to stdout, and to GitHub where it runs this."""
    files.write(cells, run)
    print(_formatted(cells, form, run))
    for command in github.workflow_commands(cells, str(run)):
        print(command, file=sys.stderr, flush=True)
    github.append_summary(partial(run_summary, cells, str(run)), _say)


def _ci_files(options: argparse.Namespace) -> CiFiles:
    return CiFiles({name: Path(path) for name in FORMATS if (path := getattr(options, name)) is not None})


def _judge(options: argparse.Namespace) -> int:
    files = _ci_files(options)
    files.check()
    cells = judge_run(Path(options.directory))
    print(_formatted(cells, options.format, Path(options.directory)))
    files.write(cells, Path(options.directory))
    return exit_status(cells)


def _compare(options: argparse.Namespace) -> int:
    file = CiFiles({"junit": Path(options.junit)} if options.junit else {})
    file.check()
    matches = tuple(options.match or ())
    comparison = compare_runs(
        Path(options.base), Path(options.new), matches, subset=options.subset, strict=options.strict
    )
    file.write_texts({"junit": partial(comparison_junit, comparison, "conntrack-lab compare")})
    if options.format == "json":
        print(github.printed_json(json.dumps(comparison.to_json(), indent=1)))
    else:
        print(github.printed(compare_output.FORMATS[options.format](comparison)))
    github.append_summary(partial(compare_output.summary, comparison), _say)
    return comparison.exit_status


def _replay(options: argparse.Namespace) -> int:
    files = _ci_files(options)
    files.check()
    again = replay.prepare(Path(options.directory), _replay_wish(options), _voice(options))
    for change in again.changes:
        _say(f"{'cannot be had' if change.needed else 'not the same'}: {change.what}")
    again.check(options.anyway)
    if options.dry_run:
        for plan in again.planned.plans:
            print(github.printed(plan.cell))
        return 0
    run, cells = _run_planned(again.planned, again.options, options)
    _tell(cells, run, options.format, files)
    try:
        comparison = compare_runs(again.run, run)
    except LabError as error:
        _say(f"not compared with {again.run}: {error}")
        return exit_status(cells)
    if options.format != "json":
        print(f"\n{github.printed(compare_output.FORMATS[options.format](comparison))}")
    github.append_summary(partial(compare_output.summary, comparison), _say)
    return comparison.exit_status


def _replay_wish(options: argparse.Namespace) -> RunOptions:
    """What a replay is told; the run that it repeats tells the rest."""
    return RunOptions(
        scenarios=(),
        targets=(),
        kernel=None,
        modules=None,
        mirror=options.mirror,
        accelerator=options.accelerator,
        connections=None,
        max=None,
        chosen=(),
        repeat=1,
        parallel=options.parallel,
        output=Path(options.output),
        deadlines=Deadlines(),
        keep_failed=False,
        mitigate=False,
        command=tuple(sys.argv),
        disposable_host=options.disposable_host,
    )


def _verify(options: argparse.Namespace) -> int:
    states: Counter[str] = Counter()
    files = 0
    for one in verify.verify_run(Path(options.directory)):
        states[one.state] += 1
        files += one.files
        if one.state != verify.OK:
            print(github.printed(printable(f"{one.state:8} {one.where}: {one.what}")), flush=True)
    print(verify.verdict(states, files))
    return verify.exit_status(states)


def _report(options: argparse.Namespace) -> int:
    run = Path(options.directory)
    if options.format == "md" and not options.output:
        print(github.printed(report_markdown(run)), end="")
        return 0
    page = Path(options.output) if options.output else run / PAGE
    write_report(run, page, options.format)
    print(page)
    return 0


def _shell(options: argparse.Namespace) -> int:
    wanted = replace(_run_options(options), detail=_detail(options))
    if options.kept:
        kept: int = _async(open_kept(Path(options.kept), wanted, _voice(options)))
        return kept
    if not wanted.scenarios:
        raise LabError("lab shell: names no scenario", hint="lab shell nat-present, or lab shell --kept CELL")
    status: int = _async(open_shell(plan_run(wanted), wanted, _voice(options)))
    return status


def _image_build(options: argparse.Namespace) -> int:
    say, detail = _voice(options), _detail(options)
    for spec in expand_targets(options.targets):
        if options.form == "box":
            wish = images.BuildWish(say, options.mirror, detail, rebuild=options.rebuild)
            box = boxes.build(spec.target, wish)
            print(f"{box.name}  sha256={box.sha256}  {box.size_bytes / 10**6:.0f} MB  {box.file}")
            continue
        image = images.build(spec.target, mirror=options.mirror, progress=say, detail=detail, rebuild=options.rebuild)
        print(f"{image.name}  {image.digest[:12]}  {image.size_bytes / 10**6:.0f} MB  {image.directory}")
    return 0


def _image_list(options: argparse.Namespace) -> int:
    for image in images.list_images():
        target = TARGETS.get(image.name)
        current = target is not None and images.is_current(image, target)
        print(_cached(image.name, image.kernel_release, image.size_bytes, current, image.directory))
    for box in boxes.list_boxes():
        print(_cached(f"vagrant:{box.name}", box.kernel_release, box.size_bytes, boxes.is_current(box), box.file))
    states = saved_states()
    print(f"{plural(len(states), 'saved state')} of booted machines: {_size_mb(states):.0f} MB", end=" ")
    print("(lab image remove --saved-states)")
    return 0


def _size_mb(folders: Sequence[Path]) -> float:
    """What folders take; what goes meanwhile counts nothing."""
    total_bytes = 0
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            total_bytes += sum(file.stat().st_blocks * 512 for file in folder.iterdir())
    return total_bytes / 10**6


def _cached(name: str, kernel_release: str, size_bytes: int, current: bool, place: Path) -> str:
    """What the cache has, in a line."""
    state = "current" if current else "outdated"
    return f"{name:20}  {kernel_release}  {size_bytes / 10**6:.0f} MB  {state}  {place}"


def _image_key(options: argparse.Namespace) -> int:
    """Names of images that need not be there: what a CI's cache is to be kept by."""
    for spec in expand_targets(options.names):
        if spec.provisioner != "qemu":
            raise LabError(f"{spec.name}: is no image of the lab's", hint=f"for example lab image key {DEFAULT_TARGET}")
        print(images.final_folder(spec.target).name)
    return 0


def _image_remove(options: argparse.Namespace) -> int:
    if options.saved_states:
        print(f"removed {plural(prune_saved_states(keep=0), 'saved state')}")
    for name in options.names:
        for folder in (*images.remove(name), *boxes.remove(name)):
            print(f"removed {folder}")
    return 0


def _kernel_list(options: argparse.Namespace) -> int:
    if options.suite is None:
        lines = suite_lines()
    else:
        deadline = Deadline.after(_FETCH_SECONDS, f"reading the lists of {options.suite}")
        lines = kernel_lines(options.suite, kernels_in(options.suite, _voice(options), deadline))
    print("\n".join(lines))
    return 0


def _kernel_fetch(options: argparse.Namespace) -> int:
    for source in options.kernels:
        deadline = Deadline.after(_FETCH_SECONDS, f"fetching {source}")
        for file in fetch_source(source, _voice(options), deadline):
            print(f"{file.path}  sha256={file.sha256}", flush=True)
    return 0


def _schema(options: argparse.Namespace) -> int:
    print(schema_text(options.name), end="")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    if options.clean:
        print(
            f"removed {plural(leftovers.clean(_voice(options)), 'machine')} of labs that were killed, or that "
            "--keep-failed kept"
        )
        return 0
    checks = _async(check_host(_voice(options), options.again))
    print(report(checks))
    return 0 if all(check.ok for check in checks if check.required) else EXIT_WRONG


def _completion(options: argparse.Namespace) -> int:
    print(completion.shell_code(options.shell), end="")
    return 0


def _run_options(options: argparse.Namespace) -> RunOptions:
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
    boxes_wanted = any(target.startswith("vagrant:") for target in options.target or ())
    return replace(Deadlines(), boot=BOX_BOOT_SECONDS, destroy=150.0) if boxes_wanted else Deadlines()


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


def _formatted(cells: list[dict[str, Any]], form: str, run: Path) -> str:
    """The results of a run in one of the formats; what is not in them is read in the run's folder."""
    if form == "json":
        return github.printed_json(json.dumps(results_document(cells), indent=1))
    if form == "md":
        return github.printed(output.markdown_table(cells))
    marks = BLOCKS if _shows(sys.stdout, BLOCKS.all) else ASCII
    return github.printed(output.human_table(cells, sparklines(run, marks)))


def _columns(stream: TextIO) -> int | None:
    """How wide a terminal is; None where the stream leads to none, or it does not tell."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def _shows(stream: TextIO, text: str) -> bool:
    """Whether the stream's encoding has the characters of a text."""
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


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


def _loudness(options: argparse.Namespace) -> Loudness:
    if options.quiet:
        return Loudness.QUIET
    return Loudness.VERBOSE if getattr(options, "verbose", False) else Loudness.NORMAL


def _voice(options: argparse.Namespace) -> Callable[[str], None]:
    """Says what happens, unless --quiet was given."""
    return _hush if options.quiet else _say


def _detail(options: argparse.Namespace) -> Callable[[str], None]:
    """Says what happens in full, where --verbose was given."""
    return _say if options.verbose else _hush


def _hush(text: str) -> None:
    """Says nothing."""


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        # what a guest or a file said may be in it
        safe = "\n".join(map(printable, text.split("\n")))
        print(github.printed(safe), file=sys.stderr, flush=True)


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
    _verify_parser(commands)
    _replay_parser(commands)
    _schema_parser(commands)
    _image_parser(commands)
    _kernel_parser(commands)
    _completion_parser(commands)
    doctor = _command(commands, "doctor", _doctor, "say what this host lacks, with the mend", "lab doctor --again")
    doctor.add_argument("--clean", action="store_true", help="remove the machines that a killed lab left in Vagrant")
    _loudness_arguments(doctor)
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
    parser = _command(commands, "list", _list, "list scenarios and targets", "lab list targets")
    parser.add_argument("what", nargs="?", choices=("all", "scenarios", "targets"), default="all")
    parser.add_argument("--format", choices=("human", "json"), default="human")


def _completion_parser(commands: Any) -> None:
    example = "lab completion fish | source (in bash and zsh: source <(lab completion bash))"
    parser = _command(commands, "completion", _completion, "print what a shell sources to complete lab", example)
    parser.add_argument("shell", choices=completion.SHELLS)


def _run_parser(commands: Any) -> None:
    example = "lab run nat-flushed --target 'debian1?' --repeat 3 --junit out.xml"
    parser = _command(commands, "run", _run, "run cells and judge them", example)
    _machine_arguments(parser)
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="every cell N times")
    parser.add_argument("-j", dest="parallel", type=_positive, metavar="N", help="cells at once")
    parser.add_argument("--output", default="results", metavar="DIR", help="where the run's folder is made (results)")
    _ci_arguments(parser)
    parser.add_argument("--format", choices=("human", "json", "md"), default="human")
    parser.add_argument("--keep-failed", action="store_true", help="keep the machine of a cell that is not as expected")
    parser.add_argument("--mitigate", action="store_true", help="try the removal of what holds conntrack, where it is")
    parser.add_argument("--share-machine", action="store_true", help="one box machine, returned to its snapshot")
    _loudness_arguments(parser, verbose="each stage and step of every cell, and what programs print")
    parser.add_argument("--dry-run", action="store_true", help="print every step and QEMU's command line, run nothing")


def _ci_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML too")
    parser.add_argument("--ktap", metavar="FILE", help="write KTAP too, as the kernel's own tests print it")


def _shell_parser(commands: Any) -> None:
    example = "lab shell nat-flushed --set iptables=nft --target debian13"
    parser = _command(commands, "shell", _shell, "open a shell in the guest, at the scenario's state", example)
    _machine_arguments(parser, scenarios="?")
    parser.add_argument("--kept", metavar="CELL", help="the folder of a cell that was run with --keep-failed")
    _loudness_arguments(parser, verbose="each stage and step, and what programs print")


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
    help_of_kernel = "another kernel: packages (each with a --kernel), a folder, a bzImage, apt:SUITE, URL#sha256=HEX"
    parser.add_argument("--kernel", action="append", metavar="KERNEL", help=help_of_kernel)
    parser.add_argument("--modules", metavar="DIR", help="the modules of a bzImage, a folder or a package")
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
    _ci_arguments(parser)


def _report_parser(commands: Any) -> None:
    example = "lab report results/latest"
    parser = _command(commands, "report", _report, "make a page of a run, with plots", example)
    parser.add_argument("directory", metavar="DIR", help="the run's folder")
    parser.add_argument("--output", metavar="FILE", help=f"where to write it (DIR/{PAGE}; Markdown: stdout)")
    parser.add_argument("--format", choices=("html", "md"), default="html")


def _replay_parser(commands: Any) -> None:
    example = "lab replay results/latest --junit out.xml"
    parser = _command(commands, "replay", _replay, "run a stored run's cells again, and compare", example)
    parser.add_argument("directory", metavar="DIR", help="the run's folder, or one with its results alone")
    parser.add_argument("--anyway", action="store_true", help="go on where something of the run cannot be had any more")
    parser.add_argument("--dry-run", action="store_true", help="say what is not the same, and the cells; run nothing")
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
    parser = _command(commands, "schema", _schema, "print the schema of a document of the lab", example)
    parser.add_argument("name", choices=tuple(SCHEMAS), help="; ".join(f"{name}: {of}" for name, of in SCHEMAS.items()))


def _verify_parser(commands: Any) -> None:
    example = "lab verify results/latest"
    parser = _command(commands, "verify", _verify, "check that a stored run is what was recorded", example)
    parser.add_argument("directory", metavar="DIR", help="the run's folder, or one with its results alone")


def _compare_parser(commands: Any) -> None:
    example = "lab compare results/reference results/latest --format md"
    parser = _command(commands, "compare", _compare, "compare the findings and numbers of two runs", example)
    parser.add_argument("base", metavar="BASE", help="a run's folder, or one with its manifest.json and results.json")
    parser.add_argument("new", metavar="NEW", help="the same of the run that is compared with it")
    help_of_match = "compare these targets, and no others; for what has no family in common"
    parser.add_argument("--match", action="append", metavar="TARGET=TARGET", help=help_of_match)
    parser.add_argument(
        "--subset", action="store_true", help="NEW is meant to lack cells of BASE: none of them is missing"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1, not 3, where something cannot be told")
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML too")
    parser.add_argument("--format", choices=("human", "json", "md"), default="human")


def _image_parser(commands: Any) -> None:
    parser = commands.add_parser("image", help="build, list and remove guest images")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    build = _command(actions, "build", _image_build, "build images", "lab image build debian12 debian13")
    build.add_argument("targets", nargs="+", metavar="TARGET", help="a target or glob")
    build.add_argument("--mirror", metavar="URL", help="the Debian mirror (the host's own)")
    build.add_argument("--format", dest="form", choices=("image", "box"), default="image", help="box: for Vagrant")
    build.add_argument("--rebuild", action="store_true", help="also where a current image is there")
    _loudness_arguments(build, verbose="what programs print")
    _command(actions, "list", _image_list, "list the images in the cache", "lab image list")
    key = _command(actions, "key", _image_key, "print what identifies images, for a cache", "lab image key debian12")
    key.add_argument("names", nargs="+", metavar="TARGET", help="a target or glob")
    remove = _command(actions, "remove", _image_remove, "remove images", "lab image remove debian12")
    remove.add_argument("names", nargs="*", metavar="TARGET")
    remove.add_argument("--saved-states", action="store_true", help="the saved memory of booted machines")


def _kernel_parser(commands: Any) -> None:
    parser = commands.add_parser("kernel", help="list and fetch kernels of distributions")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    what = "list suites, and what kernels a suite has"
    listing_ = _command(actions, "list", _kernel_list, what, "lab kernel list bookworm-security")
    listing_.add_argument("suite", nargs="?", metavar="SUITE", help="without: all suites, and what is in the cache")
    _loudness_arguments(listing_)
    what = "fetch kernels into the cache, verified"
    fetch = _command(actions, "fetch", _kernel_fetch, what, "lab kernel fetch apt:bookworm/linux-image-rt-amd64")
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
