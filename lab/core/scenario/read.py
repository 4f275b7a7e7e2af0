"""Scenario files: the text of one, checked, as a value.

Every problem of a file is found in one go; each names its key (`state[2].run`, counted from 0) and a hint.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from lab.core.scenario.model import (
    CLOSES,
    DEFAULT_CONNECTIONS,
    DEFAULT_MEMORY_MB,
    DEFAULT_PATH,
    DEFAULT_VCPUS,
    FAMILIES,
    LOAD_KINDS,
    MAX_ANSWERED,
    MAX_HOLD_SECONDS,
    PATHS,
    SCENARIO_VERSION,
    TIMEOUT_SYSCTLS,
    TOPOLOGIES,
    ConntrackSpec,
    LoadSpec,
    MachineSpec,
    Matrix,
    Scenario,
)
from lab.core.scenario.read_conditions import read_expectations, read_requires
from lab.core.scenario.read_matrix import placeholder_names, read_matrix
from lab.core.scenario.read_steps import Given, ReadSource, check_template, read_sources, read_steps
from lab.core.scenario.table import Problem, Table, problems_error, quoted, said
from lab.core.scenario.toml_text import parse_toml

MAX_SCENARIO_BYTES = 256 * 1024

# Debian Policy 5.6.1
PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,62}")
MAX_PACKAGES_LENGTH = 120  # of all names together: they are in the name of an image's folder
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def parse_scenario(text: str, path: str, read_source: ReadSource | None = None) -> Scenario:
    """The scenario that the text of a file states; `path` is for messages, and its stem must be the scenario's name.

    `read_source` reads a file beside the scenario, and raises ScenarioError; what `with_sources` made needs none.
    Raises ScenarioError with a line for each problem.
    """
    problems: list[Problem] = []
    root = Table(parse_toml(text, path), "", problems)
    version = _read_version(root)
    if version > SCENARIO_VERSION:  # other keys may mean anything there
        raise problems_error(path, problems)
    matrix = read_matrix(root.table("matrix"))
    own_sources = read_sources(root.table("sources"))
    machine = _read_machine(root.table("machine"), matrix)
    ends = PATHS[machine.path or DEFAULT_PATH].ends
    given = Given(placeholder_names(matrix), ends, own_sources if "sources" in root else read_source)
    scenario = Scenario(
        path=path,
        name=_read_name(root, PurePath(path).stem),
        summary=root.line("summary", required=True),
        version=version,
        matrix=matrix,
        state=read_steps(root.tables("state"), matrix, given),
        requires=read_requires(root.table("requires")),
        machine=machine,
        conntrack=_read_conntrack(root.table("conntrack")),
        load=_read_load(root.table("load")),
        during=read_steps(root.tables("during"), matrix, given),
        expectations=read_expectations(root.tables("expect"), matrix),
    )
    _check_load_fits(root, scenario)
    root.finish()
    if problems:
        raise problems_error(path, problems)
    return scenario


def _read_version(root: Table) -> int:
    if "version" not in root:
        root.problem("version", "is missing", f"add: version = {SCENARIO_VERSION}")
    version = root.number("version", SCENARIO_VERSION)
    if version > SCENARIO_VERSION:
        root.problem("version", f"is {version}, this lab knows up to {SCENARIO_VERSION}", "use a newer lab")
    return version


def _read_name(root: Table, stem: str) -> str:
    name = root.text("name", required=True)
    if not name:
        return name
    if not _NAME.fullmatch(name):
        root.problem(
            "name",
            f"is {said(name)}, but names become folder names",
            "use up to 64 small letters, digits and '-', not '-' first",
        )
    elif name != stem:
        root.problem("name", f"is {name!r}, but the file is called {stem!r}", "give both the same name")
    return name


def _read_machine(table: Table, matrix: Matrix) -> MachineSpec:
    boot_args = table.texts("boot_args") or ()
    for index, argument in enumerate(boot_args):
        check_template(table, f"boot_args[{index}]", argument, placeholder_names(matrix))
        if not argument.isprintable() or not argument or " " in argument:
            table.problem(f"boot_args[{index}]", f"is {said(argument)}", "write each argument as a text of its own")
    machine = MachineSpec(
        boot_args=boot_args,
        memory_mb=table.number("memory_mb", DEFAULT_MEMORY_MB, high=1024 * 1024),
        vcpus=table.number("vcpus", DEFAULT_VCPUS, high=64),
        path=_read_path(table),
        packages=_read_packages(table),
    )
    table.finish()
    return machine


def _read_packages(table: Table) -> tuple[str, ...]:
    """Sorted, each once: the same packages are the same machine."""
    packages = table.texts("packages") or ()
    for index, package in enumerate(packages):
        if not PACKAGE_NAME.fullmatch(package):
            hint = "use the package's name alone: the target's release decides its version"
            table.problem(f"packages[{index}]", f"is {said(package)}, no name of a Debian package", hint)
    kept = tuple(sorted(set(packages)))
    if len("_".join(kept)) > MAX_PACKAGES_LENGTH:
        table.problem("packages", "makes a name that is too long for a folder", "name fewer: apt brings what they need")
    return kept


def _read_path(table: Table) -> str | None:
    path, topology = table.choice("path", PATHS), table.choice("topology", TOPOLOGIES)
    if "path" in table and "topology" in table:
        table.problem("topology", "stands beside path, which says the same", "keep path")
    return path or TOPOLOGIES.get(topology or "")


def _read_conntrack(table: Table) -> ConntrackSpec:
    timeouts = table.table("timeouts")
    conntrack = ConntrackSpec(
        max=table.number("max", 0) or None,
        buckets=table.number("buckets", 0) or None,
        timeouts={name: timeouts.number(name, 0) for name in timeouts.names() if name in TIMEOUT_SYSCTLS},
    )
    timeouts.finish(also=TIMEOUT_SYSCTLS, what="timeout")
    table.finish()
    return conntrack


def _read_load(table: Table) -> LoadSpec:
    kind = table.choice("kind", LOAD_KINDS) or "hold"
    load = LoadSpec(
        kind=kind,
        connections=table.number("connections", DEFAULT_CONNECTIONS),
        rate_per_second=table.number("rate_per_second", 0) or None,
        hold_seconds=table.seconds("hold_seconds", MAX_HOLD_SECONDS),
        close=table.choice("close", CLOSES),
        newcomers=table.number("newcomers", 0) or None,
        answered=table.flag("answered"),
        data=table.flag("data"),
        family=table.choice("family", FAMILIES),
    )
    for name in dict.fromkeys(name for names in LOAD_KINDS.values() for name in names):
        if name in table and name not in LOAD_KINDS[kind]:
            kinds = [known for known, names in LOAD_KINDS.items() if name in names]
            table.problem(name, f"means nothing to a load of the kind {kind!r}", f"use it with {quoted(kinds)}")
    table.finish()
    return load


def _check_load_fits(root: Table, scenario: Scenario) -> None:
    """Note what does not go together: in a guest it would be refused only after the boot."""
    load, connections = root.table("load"), scenario.load.connections
    if scenario.during and scenario.load.kind != "hold":
        what = f"belongs to a load that holds its connections, and load.kind is {scenario.load.kind!r}"
        root.problem("during", what, 'use kind = "hold", or put the steps into [[state]]')
    if scenario.load.answered and connections > MAX_ANSWERED:
        what = f"is {connections}, and at most {MAX_ANSWERED} are answered at once: each has a socket"
        load.problem("connections", what, "ask for fewer, or leave answered out")
    if scenario.load.family == "both" and connections < len(FAMILIES) - 1:
        load.problem("connections", "is less than one of each family", "ask for 2 or more")
