"""Completion of the command line in bash, zsh and fish, by argcomplete: the shell asks the lab itself what may follow.

argcomplete is imported only when a shell asks, and what knows a word when that word is asked for: the parser waits for
none of them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from lab.core.errors import LabError, PrerequisiteError
from lab.core.text import printable
from lab.host.cli.parsing import command
from lab.host.distributions.source import MARK
from lab.host.distributions.table import rows
from lab.host.machines.kinds import KINDS
from lab.host.machines.vagrant.targets import BOX_MARK
from lab.host.options import STAGES
from lab.host.releases import TARGETS

SHELLS = ("bash", "zsh", "fish")
_PROGRAMS = ["lab", "conntrack-lab"]
_ASKED = "_ARGCOMPLETE"
_RESULTS = Path("results")
_NEWEST = 20  # of the runs in results/
_NAME = re.compile(r"[\w.+-]+")  # of a kernel: no path, no URL

# what argcomplete takes: the words, or with what each means
Words = Iterable[str] | Mapping[str, str]
Completer = Callable[..., Words]


def asked() -> bool:
    """Whether a shell started this program to ask what may follow."""
    return _ASKED in os.environ


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab completion fish | source (in bash and zsh: source <(lab completion bash))"
    parser = command(commands, "completion", _completion, "print the completion code of a shell", example)
    parser.add_argument("shell", choices=SHELLS)


def _completion(options: argparse.Namespace) -> int:
    print(shell_code(options.shell), end="")
    return 0


def answer(parser: argparse.ArgumentParser) -> NoReturn:
    """Tell the shell what may follow, and end the program."""
    import argcomplete

    _attach(parser)
    # options are offered once a dash is typed
    argcomplete.autocomplete(parser, always_complete_options=False)
    raise AssertionError("argcomplete ends the program when a shell has asked")


def shell_code(shell: str) -> str:
    """What a shell sources so that it asks. Raises PrerequisiteError without argcomplete."""
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError as error:
        hint = "pip install argcomplete, or run scripts/setup"
        raise PrerequisiteError("lab completion needs argcomplete, which is not installed", hint=hint) from error
    return shellcode(_PROGRAMS, shell=shell)


def scenario_words(prefix: str, **rest: object) -> Words:
    """The scenarios by name with their summaries, and from a slash or a dot on files."""
    if "/" in prefix or prefix.startswith("."):
        return _files(prefix, "toml")
    return {name: _summary(path) for name, path in _scenarios().items()}


def target_words(prefix: str, **rest: object) -> Words:
    """The targets, the boxes that were built, and this machine; after `+kernel:` files."""
    name, mark, path = prefix.partition("+kernel:")
    if mark:
        return [f"{name}{mark}{file}" for file in _files(path)]
    if prefix.startswith(BOX_MARK) and "/" in prefix:
        return [f"{BOX_MARK}{file}" for file in _files(prefix.removeprefix(BOX_MARK), "box")]
    if prefix.startswith(MARK):
        return [f"{MARK}{file}" for file in _files(prefix.removeprefix(MARK))]
    own = {target.name: target.summary for target in TARGETS.values()}
    boxes = {f"{BOX_MARK}{name}": "the box that was built" for name in _boxes()}
    # a target that needs no more than its name
    whole = {kind.example: kind.listed[kind.example] for kind in KINDS.values() if kind.example in kind.listed}
    return {**own, **_distributions(), **boxes, **whole}


def distribution_words(prefix: str, **rest: object) -> Words:
    """The distributions, whose images are their publishers'."""
    return _distributions()


def _distributions() -> dict[str, str]:
    with contextlib.suppress(LabError):
        return {row.name: row.summary for row in rows().values()}
    return {}


def buildable_words(prefix: str, **rest: object) -> Words:
    """The targets of which images are built."""
    return {target.name: target.summary for target in TARGETS.values()}


def built_words(prefix: str, **rest: object) -> Words:
    """The images and boxes in the cache."""
    from lab.host import images

    with contextlib.suppress(LabError, OSError):
        return list(dict.fromkeys([*(image.name for image in images.list_images()), *_boxes()]))
    return ()


def run_words(prefix: str, **rest: object) -> Words:
    """The newest runs in results/; where none of them is meant, any folder."""
    runs = [run for run in _runs() if run.startswith(prefix)]
    return runs or [file for file in _files(prefix) if file.endswith("/")]


def kept_words(prefix: str, **rest: object) -> Words:
    """The folders of cells whose machine was kept."""
    from lab.host.results.layout import KEPT_MACHINE

    return [str(file.parent) for file in sorted(_RESULTS.glob(f"*/cells/*/{KEPT_MACHINE}"))]


def axis_words(prefix: str, parsed_args: argparse.Namespace | None = None, **rest: object) -> Words:
    """`axis=value` of the scenarios that are named already, or of all."""
    named = getattr(parsed_args, "scenarios", None) or ()
    asked = {named} if isinstance(named, str) else set(named)
    found: dict[str, None] = {}
    for name, path in _scenarios().items():
        if name in asked or not asked & set(_scenarios()):
            found.update(dict.fromkeys(_axes(path)))
    return list(found)


def timeout_words(prefix: str, **rest: object) -> Words:
    """The stages that have a deadline, after those that were given one."""
    given, comma, _ = prefix.rpartition(",")
    used = {part.partition("=")[0] for part in given.split(",")}
    return [f"{given}{comma}{stage}=" for stage in STAGES if stage not in used]


def match_words(prefix: str, **rest: object) -> Words:
    """`TARGET=TARGET`, one side after the other."""
    ours, equals, _ = prefix.partition("=")
    return [f"{ours}={name}" if equals else f"{name}=" for name in TARGETS]


def file_words(prefix: str, **rest: object) -> Words:
    """Files: what a word is of which nothing else is known."""
    return _files(prefix)


def nothing(prefix: str, **rest: object) -> Words:
    """Nothing: a number, or a word that only its author knows."""
    return ()


def suite_words(prefix: str, **rest: object) -> Words:
    """The suites that have kernels."""
    from lab.host.kernels.suites import SUITES

    return list(SUITES)


def kernel_words(prefix: str, **rest: object) -> Words:
    """The suites as --kernel names them."""
    from lab.host.kernels.suites import SUITES

    return [f"apt:{name}" for name in SUITES]


def named_kernel_words(prefix: str, **rest: object) -> Words:
    """What --kernel takes: files and suites, after `NAME=` too."""
    name, equals, kernel = prefix.partition("=")
    if not equals or not _NAME.fullmatch(name):
        name, equals, kernel = "", "", prefix
    return [f"{name}{equals}{word}" for word in (*_files(kernel), *kernel_words(kernel)) if word.startswith(kernel)]


# by the name that an option has in the namespace; a name means the same in every command
COMPLETERS: Mapping[str, Completer] = {
    "scenarios": scenario_words,
    "targets": target_words,
    "images": buildable_words,
    "names": built_words,
    "distributions": distribution_words,
    "directory": run_words,
    "base": run_words,
    **dict.fromkeys(("new", "runs", "resume", "durations"), run_words),
    "kept": kept_words,
    "chosen": axis_words,
    "timeouts": timeout_words,
    "match": match_words,
    "suite": suite_words,
    "kernel": named_kernel_words,
    "kernels": kernel_words,
    **dict.fromkeys(("connections", "max", "repeat", "parallel", "mirror", "shard", "watch"), nothing),
    **dict.fromkeys(("good", "bad", "build", "looks", "confidence"), nothing),
    **dict.fromkeys(("fleet", "scheduler", "listen", "dashboard", "slots", "name", "days", "artifacts"), nothing),
}


def _attach(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                _attach(inner)
        elif action.choices is None and action.nargs != 0:
            # argcomplete looks for it; argparse does not know it
            setattr(action, "completer", COMPLETERS.get(action.dest, file_words))  # noqa: B010


def _scenarios() -> dict[str, Path]:
    from lab.host.scenario_files import all_scenarios

    with contextlib.suppress(LabError, OSError):
        return all_scenarios()
    return {}


def _content(path: Path) -> Mapping[str, Any]:
    """A scenario file, unchecked: a broken one must not stop the completion of the others."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return tomllib.loads(path.read_text(encoding="utf-8"))
    return {}


def _summary(path: Path) -> str:
    return printable(str(_content(path).get("summary", "")))


def _axes(path: Path) -> list[str]:
    matrix = _content(path).get("matrix")
    axes = matrix.items() if isinstance(matrix, dict) else ()
    return [f"{axis}={value}" for axis, values in axes if isinstance(values, list) for value in values]


def _boxes() -> list[str]:
    from lab.host.images import boxes

    with contextlib.suppress(LabError, OSError):
        return [box.name for box in boxes.list_boxes()]
    return []


def _runs() -> list[str]:
    with contextlib.suppress(OSError):
        runs = [path for path in _RESULTS.iterdir() if (path / "cells").is_dir() or (path / "results.json").is_file()]
        # their names begin with the time at which they began
        return [str(path) for path in sorted(runs, reverse=True)[:_NEWEST]]
    return []


def _files(prefix: str, suffix: str = "") -> list[str]:
    """The files, all or those with a suffix, and the folders with a slash at their end."""
    folder, _, begun = prefix.rpartition("/")
    place = Path(os.path.expanduser(f"{folder}/" if "/" in prefix else "."))
    with contextlib.suppress(OSError):
        found = sorted(place.iterdir())
        lead = prefix[: len(prefix) - len(begun)]
        shown = [path for path in found if not path.name.startswith(".") or begun.startswith(".")]
        folders = [f"{lead}{path.name}/" for path in shown if path.is_dir()]
        return [*(f"{lead}{path.name}" for path in shown if path.is_file() and path.name.endswith(suffix)), *folders]
    return []
