"""Reading the steps of a scenario: programs, files, sysctls, modules to unload."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from lab.core.errors import ScenarioError
from lab.core.scenario.expectation import Chosen
from lab.core.scenario.model import FileStep, Matrix, RunStep, Step, SysctlStep, UnloadStep
from lab.core.scenario.read_matrix import read_when
from lab.core.scenario.table import Table, did_you_mean, quoted, said
from lab.core.scenario.template import UnknownPlaceholder, substitute, verbatim

_MAX_SYSCTL = 2**64 - 1
MODULE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SYSCTL = re.compile(r"[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)+")

ReadSource = Callable[[str], str]


@dataclass(frozen=True)
class Given:
    """What the texts of steps may refer to: placeholders, and files beside the scenario."""

    names: Collection[str]
    ends: Collection[str]  # of the path that are namespaces of their own
    read_source: ReadSource | None


def read_steps(tables: Iterable[Table], matrix: Matrix, given: Given) -> tuple[Step, ...]:
    """The steps of a list of tables, without those that are none."""
    return tuple(step for table in tables if (step := _read_step(table, matrix, given)) is not None)


def _read_step(table: Table, matrix: Matrix, given: Given) -> Step | None:
    kinds = [kind for kind in _STEP_READERS if kind in table]
    when = read_when(table, matrix)
    step = None
    if len(kinds) == 1:
        step = _STEP_READERS[kinds[0]](table, when, given)
    table.finish(also=(*_STEP_READERS, "refused", "in"))
    if len(kinds) > 1:
        table.problem("", f"is several steps at once: {', '.join(kinds)}", "give each a [[state]] of its own")
    elif not kinds and table.sound:
        table.problem("", "does nothing", f"give it one of: {', '.join(_STEP_READERS)}")
    if "in" in table and kinds and not {"run", "sysctl"}.issuperset(kinds):
        table.problem("in", "belongs to a step with run or sysctl", "remove it: files and modules are the machine's")
    if "refused" in table and kinds and kinds != ["run"]:
        table.problem("refused", "belongs to a step with run", "remove it, or run a program that is refused")
    return step


def _read_run(table: Table, when: Chosen, given: Given) -> Step:
    argv = table.texts("run")
    if argv == ():
        table.problem("run", "is an empty list", 'name a program and its arguments: run = ["true"]')
    for index, word in enumerate(argv or ()):
        check_template(table, f"run[{index}]", word, given.names)
    if argv and not argv[0]:
        table.problem("run[0]", "is empty", "name the program to run")
    return RunStep(argv or (), refused=table.flag("refused"), when=when, end=_read_end(table, given))


def _read_file(table: Table, when: Chosen, given: Given) -> Step:
    file = table.table("file")
    path, source = file.text("path", required=True), file.text("source")
    text = file.text("text", required="source" not in file)
    file.finish()
    if source and "text" in file:
        file.problem("text", "stands beside source", "keep one of the two")
    elif "source" in file:
        text = _source_text(file, source, given)
    check_template(file, "path", path, given.names)
    check_template(file, "source" if source else "text", text, given.names)
    if path and (not path.startswith("/") or path.endswith("/") or ".." in path.split("/")):
        file.problem("path", f"is {said(path)}", "write an absolute path of a file, without '..'")
    return FileStep(path, text, when=when, source=source)


def _source_text(file: Table, source: str, given: Given) -> str:
    """The template of what a file beside the scenario has; empty where that was noted as a problem."""
    if not source or source.startswith(("/", "~")) or source.endswith("/") or ".." in source.split("/"):
        file.problem("source", f"is {said(source)}", 'name a file beside the scenario: source = "./nftables.conf"')
    elif given.read_source is None:
        file.problem("source", f"is {said(source)}, whose text is not in [sources]", "name the scenario's own file")
    else:
        try:
            return verbatim(given.read_source(source))
        except ScenarioError as error:
            file.problem("source", str(error), error.hint)
    return ""


def read_sources(table: Table) -> ReadSource:
    """What `with_sources` put into the file."""
    texts = {name: table.text(name) for name in table.names()}

    def read(source: str) -> str:
        if source not in texts:
            raise ScenarioError(f"is {said(source)}, whose text is not in [sources]", did_you_mean(source, texts))
        return texts[source]

    return read


def _read_sysctl(table: Table, when: Chosen, given: Given) -> Step:
    values = table.table("sysctl")
    pairs: list[tuple[str, str]] = []
    for name in values.names():
        value = values.take(name)
        if isinstance(value, bool) or not isinstance(value, str | int):
            hint = "quote a name that has dots" if isinstance(value, dict) else f'write {{ "{name}" = 0 }}'
            values.problem(name, f"is {said(value)}, must be a whole number or text", hint)
            continue
        if isinstance(value, int) and abs(value) > _MAX_SYSCTL:
            values.problem(name, f"is {said(value)}, which no sysctl can hold", f"use at most {_MAX_SYSCTL}")
            continue
        if not _SYSCTL.fullmatch(name):
            values.problem(name, "is no name of a sysctl", "write it as sysctl(8) does: net.ipv4.tcp_syncookies")
        check_template(values, name, str(value), given.names)
        pairs.append((name, str(value)))
    values.finish()
    if "sysctl" in table and not values.names() and isinstance(table.take("sysctl"), dict):
        table.problem("sysctl", "is empty", 'write sysctl = { "net.ipv4.tcp_syncookies" = 0 }')
    return SysctlStep(tuple(pairs), when=when, end=_read_end(table, given))


def _read_end(table: Table, given: Given) -> str | None:
    """The end of the path that a step names."""
    end = table.text("in") or None
    if end is not None and end not in given.ends:
        there = (
            f"use one of {quoted(given.ends)}" if given.ends else "choose a machine.path that has ends, or remove it"
        )
        table.problem("in", f"is {said(end)}, and the load's path has no such end", there)
    return end


def _read_unload(table: Table, when: Chosen, _given: Given) -> Step:
    modules = table.texts("unload")
    if modules == ():
        table.problem("unload", "is an empty list", 'name modules: unload = ["iptable_nat"]')
    for index, module in enumerate(modules or ()):
        if not MODULE_NAME.fullmatch(module):
            table.problem(f"unload[{index}]", f"is {said(module)}, no name of a module", "use letters, digits and '_'")
    return UnloadStep(modules or (), when=when)


_STEP_READERS: Mapping[str, Callable[[Table, Chosen, Given], Step]] = {
    "run": _read_run,
    "file": _read_file,
    "sysctl": _read_sysctl,
    "unload": _read_unload,
}


def check_template(table: Table, key: str, text: str, names: Collection[str]) -> None:
    if "\0" in text:
        table.problem(key, "has a NUL character, which neither arguments nor files of settings can hold", "remove it")
    try:
        substitute(text, dict.fromkeys(names, ""))
    except UnknownPlaceholder as error:
        nearest = f"{did_you_mean(error.name, names)}; " if names else ""
        table.problem(key, str(error), f"{nearest}for braces as they are write {{{{{error.name[:60]}}}}}")
