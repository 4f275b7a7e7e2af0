"""`lab bisect`: the first kernel with another finding, among packages or the commits of a tree."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from lab.host.cli.console import say as complain
from lab.host.cli.console import voice
from lab.host.cli.parsing import command
from lab.host.cli.scan import NOT_HERE, SETS, add_form, runner
from lab.host.options import add_options, read_options
from lab.host.publish import github

if TYPE_CHECKING:
    from lab.core.bisecting.bisection import Limits
    from lab.core.bisecting.report import Bisection
    from lab.host.bisecting.looks import Say
    from lab.host.options import RunOptions


BUILD_SECONDS = 3600.0  # of a whole kernel on a small host


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab bisect nat-flushed --set iptables=nft --good 6.12.43 --bad 6.12.95 --kernels packages/"
    parser = command(commands, "bisect", _bisect, "find the first kernel with another finding", example)
    groups = add_options(parser, without=(*NOT_HERE, "keep_failed", "repeat"), scenarios={"nargs": None})
    what, where = groups["what to run"], groups["where"]
    help_of_repeat = "look N times at each end and at the culprit (4)"
    what.add_argument("--repeat", dest="looks", type=_count, default=4, metavar="N", help=help_of_repeat)
    help_of_confidence = "for a finding that does not come each time (0.99)"
    what.add_argument("--confidence", type=_share, default=0.99, metavar="P", help=help_of_confidence)
    what.add_argument("--good", metavar="K", help="the good end (the first kernel of the set)")
    what.add_argument("--bad", metavar="K", help="the bad end (the last kernel of the set)")
    where.add_argument("--kernels", action="append", metavar="SET", help=SETS)
    where.add_argument("--git", metavar="TREE", help="a clone of a kernel's repository; K are commits")
    where.add_argument("--build", metavar="CMD", help="builds one commit: leaves a bzImage, and modules if it has any")
    add_form(groups["output"])


def _count(text: str) -> int:
    """How often a kernel is looked at, for argparse."""
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"is {text!r}, must be 1 to 100")
    return int(text)


def _share(text: str) -> float:
    """A probability above one half and below 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 < value < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}, must be above 0.5 and below 1")
    return value


def _bisect(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from lab.core.bisecting.bisection import Limits, Verdict
    from lab.core.bisecting.report import equal_hint

    _check_together(options)
    asked = read_options(options, sys.argv)
    asked = replace(asked, parallel=asked.parallel or 1)
    limits = Limits(options.looks, asked.parallel or 1, options.confidence)
    found = (_commits if options.git else _kernels)(options, asked, limits, voice(options))
    _show(found, options)
    if found.answer.verdict is Verdict.EQUAL:
        complain(f"lab: the ends show the same, {found.answer.good}: there is nothing to bisect")
        complain(f"  hint: {equal_hint(limits)}")
    return found.exit_status


def _check_together(options: argparse.Namespace) -> None:
    """Raises ScenarioError for options that lack or contradict each other."""
    from lab.core.errors import ScenarioError

    if bool(options.kernels) == bool(options.git):
        what = "--kernels and --git are two ways to name kernels" if options.git else "no kernels are named"
        raise ScenarioError(what, hint="give --kernels SET, or --git TREE --build CMD")
    if bool(options.git) != bool(options.build):
        raise ScenarioError(
            "--git and --build belong together", hint="--git TREE --build 'make ...'; docs/bisect.md has a command"
        )
    if options.git and not (options.good and options.bad):
        raise ScenarioError("--git needs both ends", hint="--good v6.1 --bad HEAD")


def _kernels(options: argparse.Namespace, asked: RunOptions, limits: Limits, say: Say) -> Bisection:
    from lab.core.bisecting.points import between, require_several
    from lab.host.bisecting import search
    from lab.host.bisecting.kernel_sets import expand
    from lab.host.bisecting.looks import Looks

    points = expand(options.kernels, say)
    require_several(points, f"--kernels {' --kernels '.join(options.kernels)}")
    looks = Looks(between(points, options.good, options.bad), asked, runner(options), say)
    return search.bisect(looks, limits, say)


def _commits(options: argparse.Namespace, asked: RunOptions, limits: Limits, say: Say) -> Bisection:
    from pathlib import Path

    from lab.host.bisecting import search
    from lab.host.bisecting.builds import Builds
    from lab.host.bisecting.commits import Tree
    from lab.host.bisecting.looks import Looks

    tree = Tree.open(Path(options.git))
    points = tree.between(options.good, options.bad)
    builds = Builds(tree, options.build, asked.timeouts.get("build", BUILD_SECONDS), say)
    looks = Looks(points, asked, runner(options), say, lambda point: str(builds.of(point.source)))
    return search.bisect(looks, limits, say, lambda point: tree.about(point.source))


def _show(found: Bisection, options: argparse.Namespace) -> None:
    from lab.core.bisecting.report import bisection_text
    from lab.core.render.markdown import block

    if options.format == "json":
        print(github.printed_json(json.dumps(found.to_json(), indent=1)))
    else:
        text = bisection_text(found)
        print(github.printed(block(text, "") if options.format == "md" else text))
