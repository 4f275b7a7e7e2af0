"""The command line: the one place that prints and that decides the exit status."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lab.core.errors import LabError
from lab.core.text import plural, printable
from lab.host.cli import completion, ending
from lab.host.cli.arguments import DEFAULT_TARGET, command_line
from lab.host.cli.ending import EXIT_WRONG
from lab.host.publish import github

if TYPE_CHECKING:
    from lab.host.cli.progress import Loudness
    from lab.host.machines.machine import Deadlines
    from lab.host.publish.ci import CiFiles
    from lab.host.run.commands import PlannedRun, RunOptions

_FETCH_SECONDS = 900.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status (lab/host/cli/ending.py)."""
    parser = command_line()
    if completion.asked():
        completion.answer(parser)
    return ending.status_of(lambda: _command_of(parser, argv), _say)


def _command_of(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 0
    return _COMMANDS[options.command](options)


def _list(options: argparse.Namespace) -> int:
    from lab.host.cli import listing
    from lab.host.scenario_files import load_scenarios, scenario_directories, scenarios_in

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
    from lab.core.result import exit_status
    from lab.host.run.commands import plan_run

    wanted = _run_options(options)
    planned = plan_run(wanted)
    if options.dry_run:
        for line in planned.describe(wanted.accelerator, wanted.mitigate, wanted.provider, options.verbose):
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
    from dataclasses import replace

    from lab.host.cli.progress import Reporter
    from lab.host.results.store import stored_seconds
    from lab.host.run.commands import Services, run_cells, too_small
    from lab.host.run.runner import KEPT_MACHINE

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
    from lab.core.render.github import run_summary

    files.write(cells, run)
    print(_formatted(cells, form, run))
    for command in github.workflow_commands(cells, str(run)):
        print(command, file=sys.stderr, flush=True)
    github.append_summary(partial(run_summary, cells, str(run)), _say)


def _ci_files(options: argparse.Namespace) -> CiFiles:
    from lab.host.publish.ci import FORMATS, CiFiles

    return CiFiles({name: Path(path) for name in FORMATS if (path := getattr(options, name)) is not None})


def _judge(options: argparse.Namespace) -> int:
    from lab.core.result import exit_status
    from lab.host.run.runner import judge_run

    files = _ci_files(options)
    files.check()
    cells = judge_run(_stored_run(options.directory))
    print(_formatted(cells, options.format, Path(options.directory)))
    files.write(cells, Path(options.directory))
    return exit_status(cells)


def _compare(options: argparse.Namespace) -> int:
    from lab.core.render import comparison as compare_output
    from lab.core.render.compare_junit import comparison_junit
    from lab.host.publish.ci import CiFiles
    from lab.host.results.comparison import compare_runs

    file = CiFiles({"junit": Path(options.junit)} if options.junit else {})
    file.check()
    base, new = _stored_run(options.base), _stored_run(options.new)
    matches = tuple(options.match or ())
    comparison = compare_runs(base, new, matches, subset=options.subset, strict=options.strict)
    file.write_texts({"junit": partial(comparison_junit, comparison, "conntrack-lab compare")})
    if options.format == "json":
        print(github.printed_json(json.dumps(comparison.to_json(), indent=1)))
    else:
        print(github.printed(compare_output.FORMATS[options.format](comparison)))
    github.append_summary(partial(compare_output.summary, comparison), _say)
    return comparison.exit_status


def _replay(options: argparse.Namespace) -> int:
    from lab.core.render import comparison as compare_output
    from lab.core.result import exit_status
    from lab.host.results.comparison import compare_runs
    from lab.host.run import replay

    files = _ci_files(options)
    files.check()
    again = replay.prepare(_stored_run(options.directory), _replay_wish(options), _voice(options))
    for change in again.changes:
        _say(f"{'unavailable' if change.needed else 'changed'}: {change.what}")
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
    from lab.host.machines.machine import Deadlines
    from lab.host.run.commands import RunOptions

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
    from collections import Counter

    from lab.host.results import verify

    states: Counter[str] = Counter()
    files = 0
    for one in verify.verify_run(_stored_run(options.directory)):
        states[one.state] += 1
        files += one.files
        if one.state != verify.OK:
            print(github.printed(printable(f"{one.state:8} {one.where}: {one.what}")), flush=True)
    print(verify.verdict(states, files))
    return verify.exit_status(states)


def _report(options: argparse.Namespace) -> int:
    from lab.host.report import PAGE, report_markdown, write_report

    run = _stored_run(options.directory)
    if options.format == "md" and not options.output:
        print(github.printed(report_markdown(run)), end="")
        return 0
    page = Path(options.output) if options.output else run / PAGE
    write_report(run, page, options.format)
    print(page)
    return 0


def _shell(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from lab.host.run.commands import open_kept, open_shell, plan_run

    wanted = replace(_run_options(options), detail=_detail(options))
    if options.kept:
        kept: int = _async(open_kept(Path(options.kept), wanted, _voice(options)))
        return kept
    if not wanted.scenarios:
        raise LabError("lab shell: names no scenario", hint="lab shell nat-present, or lab shell --kept CELL")
    status: int = _async(open_shell(plan_run(wanted), wanted, _voice(options)))
    return status


def _image_build(options: argparse.Namespace) -> int:
    from lab.host import images
    from lab.host.images import boxes
    from lab.host.machines.targets import expand_targets

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
    from lab.host import images
    from lab.host.images import boxes
    from lab.host.machines.qemu.provisioner import saved_states
    from lab.host.machines.targets import TARGETS

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
    from lab.host import images
    from lab.host.machines.targets import expand_targets

    for spec in expand_targets(options.names):
        if spec.provisioner != "qemu":
            raise LabError(f"{spec.name}: is no image of the lab's", hint=f"for example lab image key {DEFAULT_TARGET}")
        print(images.final_folder(spec.target).name)
    return 0


def _image_remove(options: argparse.Namespace) -> int:
    from lab.host import images
    from lab.host.images import boxes
    from lab.host.machines.qemu.provisioner import prune_saved_states

    if options.saved_states:
        print(f"removed {plural(prune_saved_states(keep=0), 'saved state')}")
    for name in options.names:
        for folder in (*images.remove(name), *boxes.remove(name)):
            print(f"removed {folder}")
    return 0


def _kernel_list(options: argparse.Namespace) -> int:
    from lab.host.cache import Deadline
    from lab.host.kernels.fetch import kernels_in
    from lab.host.kernels.listing import kernel_lines, suite_lines

    if options.suite is None:
        lines = suite_lines()
    else:
        deadline = Deadline.after(_FETCH_SECONDS, f"reading the lists of {options.suite}")
        lines = kernel_lines(options.suite, kernels_in(options.suite, _voice(options), deadline))
    print("\n".join(lines))
    return 0


def _kernel_fetch(options: argparse.Namespace) -> int:
    from lab.host.cache import Deadline
    from lab.host.kernels.fetch import fetch_source

    for source in options.kernels:
        deadline = Deadline.after(_FETCH_SECONDS, f"fetching {source}")
        for file in fetch_source(source, _voice(options), deadline):
            print(f"{file.path}  sha256={file.sha256}", flush=True)
    return 0


def _schema(options: argparse.Namespace) -> int:
    from lab.host.publish.schemas import schema_text

    print(schema_text(options.name), end="")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from lab.host.cli.doctor import report
    from lab.host.machines import leftovers
    from lab.host.run.commands import check_host

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


def _stored_run(folder: str) -> Path:
    """A run's folder. Raises LabError where there is nothing of that name; what is in it, its readers check."""
    run = Path(folder)
    if not run.exists():
        raise LabError(f"{folder}: there is no such run", hint="name a run's folder, for example results/latest")
    return run


def _run_options(options: argparse.Namespace) -> RunOptions:
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


def _formatted(cells: list[dict[str, Any]], form: str, run: Path) -> str:
    """The results of a run in one of the formats; what is not in them is read in the run's folder."""
    from lab.core.render import tables as output
    from lab.core.render.occupancy import ASCII, BLOCKS
    from lab.core.result import results_document
    from lab.host.results.samples import sparklines

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
    """Run a coroutine; SIGTERM, and the end of its terminal unless nohup was used, end it as Ctrl-C does, with
    everything cleaned up.
    """
    import asyncio
    import signal

    async def watched() -> Any:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _loudness(options: argparse.Namespace) -> Loudness:
    from lab.host.cli.progress import Loudness

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


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "run": _run,
    "shell": _shell,
    "judge": _judge,
    "compare": _compare,
    "report": _report,
    "verify": _verify,
    "replay": _replay,
    "schema": _schema,
    "completion": _completion,
    "doctor": _doctor,
    "image build": _image_build,
    "image list": _image_list,
    "image key": _image_key,
    "image remove": _image_remove,
    "kernel list": _kernel_list,
    "kernel fetch": _kernel_fetch,
}
