"""Scenario files: the text of one, checked, as a value.

Every problem of a file is found in one go; each names its key (`state[2].run`, counted from 0) and the mend.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from lab.core.errors import ScenarioError
from lab.core.kernel.version import VersionSpec, parse_version_spec
from lab.core.scenario.condition import BACKEND_NEEDS, NOTHING, Condition, ConfigSpec, Requirement, parse_config_spec
from lab.core.scenario.expectation import FINDINGS, AxisValue, Expectation
from lab.core.scenario.template import UnknownPlaceholder, substitute, verbatim

# 1 - first version. Raised when what a file means changes: newer files are refused, older ones understood for ever.
SCENARIO_VERSION = 1

MAX_SCENARIO_BYTES = 256 * 1024
MAX_VARIANTS = 256
MAX_AXES_LENGTH = 100  # of ",axis=value" for all axes: a variant's name is part of a folder's
_MAX_PROBLEMS_SHOWN = 20
_MAX_NUMBER = 2**31 - 1  # nf_conntrack_max is an int in the kernel
_MAX_SYSCTL = 2**64 - 1

DEFAULT_MEMORY_MB = 1536
DEFAULT_VCPUS = 2
DEFAULT_CONNECTIONS = 20_000  # the article's 19,998, rounded

# Kinds of load, and the keys of [load] that mean something to each beside kind and connections.
LOAD_KINDS: Mapping[str, tuple[str, ...]] = {
    "hold": (),
    "churn": ("rate_per_second", "hold_seconds", "close"),
    "half-open": ("rate_per_second", "newcomers"),
    "udp": ("rate_per_second", "newcomers"),
}
# How the connections of `churn` end: with FIN, with RST, or on both sides without a word.
CLOSES = ("fin", "reset", "vanish")
MAX_HOLD_SECONDS = 3600.0
# Where client and server are: both on loopback, or in namespaces of their own with the machine as the router between.
TOPOLOGIES = ("loopback", "netns")

# Kinds of load that a topology lacks: these floods are raw packets between two ends of one loopback device.
_LOADS_LACKING: Mapping[str, tuple[str, ...]] = {"netns": ("half-open", "udp")}

# The kernel's timeouts under short names; the same from 3.10 to 7.2.
TIMEOUT_SYSCTLS: Mapping[str, str] = {
    "generic": "net.netfilter.nf_conntrack_generic_timeout",
    "icmp": "net.netfilter.nf_conntrack_icmp_timeout",
    "icmpv6": "net.netfilter.nf_conntrack_icmpv6_timeout",
    "udp": "net.netfilter.nf_conntrack_udp_timeout",
    "udp_stream": "net.netfilter.nf_conntrack_udp_timeout_stream",
} | {
    f"tcp_{state}": f"net.netfilter.nf_conntrack_tcp_timeout_{state}"
    for state in (
        "syn_sent",
        "syn_recv",
        "established",
        "fin_wait",
        "close_wait",
        "last_ack",
        "time_wait",
        "close",
        "max_retrans",
        "unacknowledged",
    )
}

# The axis `iptables` chooses a backend; its placeholders are program names. Any other axis `x` gives {x}, its value.
BACKEND_AXIS = "iptables"
_BACKENDS = tuple(BACKEND_NEEDS)
_BACKEND_PROGRAMS: Mapping[str, str] = {"iptables": "iptables-{}", "ip6tables": "ip6tables-{}"}

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_AXIS = re.compile(r"[a-z][a-z0-9_]{0,31}")
_AXIS_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_MODULE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SYSCTL = re.compile(r"[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)+")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
# of TOML: texts and comments, in which a dot parts no key; and what stands between keys
_NO_KEYS = re.compile(
    r'"""(?:[^\\]|\\.)*?"""' r"|'''.*?'''" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'" r"|#[^\n]*", re.DOTALL
)
_BETWEEN_KEYS = re.compile(r"[\n,={}\[\]]")
_MAX_KEY_PARTS = 32

# what TOML's multi-line texts cannot hold as it is
_TOML_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(9), *range(11, 32), 0x22, 0x5C, 0x7F)}

ReadSource = Callable[[str], str]
Axes = Mapping[str, AxisValue]
Matrix = Mapping[str, tuple[AxisValue, ...]]


@dataclass(frozen=True)
class RunStep:
    """Run a program, as argv; `refused` when it should fail."""

    argv: tuple[str, ...]
    refused: bool = False
    when: Axes = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class FileStep:
    """Write a file. `source` is the file beside the scenario that the text was read from; it means nothing more."""

    path: str
    text: str
    when: Axes = field(default_factory=dict, hash=False)
    source: str = field(default="", compare=False)


@dataclass(frozen=True)
class SysctlStep:
    """Write sysctls, in order."""

    values: tuple[tuple[str, str], ...]
    when: Axes = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class UnloadStep:
    """Remove those of the modules that are loaded, in order; module names differ from kernel to kernel."""

    modules: tuple[str, ...]
    when: Axes = field(default_factory=dict, hash=False)


Step = RunStep | FileStep | SysctlStep | UnloadStep


@dataclass(frozen=True)
class MachineSpec:
    """The machine that a scenario asks for."""

    boot_args: tuple[str, ...] = ()
    memory_mb: int = DEFAULT_MEMORY_MB
    vcpus: int = DEFAULT_VCPUS
    topology: str | None = None  # one of TOPOLOGIES; None: loopback


@dataclass(frozen=True)
class ConntrackSpec:
    """The table; None leaves the kernel's own size. `timeouts` maps keys of TIMEOUT_SYSCTLS to seconds."""

    max: int | None = None
    buckets: int | None = None
    timeouts: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class LoadSpec:
    """What is driven against the table. None is what the kind does by itself, or has no use for."""

    kind: str = "hold"
    connections: int = DEFAULT_CONNECTIONS
    rate_per_second: int | None = None  # None: as fast as it goes
    hold_seconds: float | None = None  # churn: how long each connection stays open
    close: str | None = None  # churn: one of CLOSES
    newcomers: int | None = None  # half-open, udp: TCP connections that are opened after the flood


@dataclass(frozen=True)
class Scenario:
    """A checked scenario file. Mappings keep the file's order and are not to be changed."""

    path: str
    name: str
    summary: str
    version: int = SCENARIO_VERSION
    matrix: Matrix = field(default_factory=dict, hash=False)
    state: tuple[Step, ...] = ()
    requires: Requirement = NOTHING
    machine: MachineSpec = MachineSpec()
    conntrack: ConntrackSpec = ConntrackSpec()
    load: LoadSpec = LoadSpec()
    expectations: tuple[Expectation, ...] = ()


def parse_scenario(text: str, path: str, read_source: ReadSource | None = None) -> Scenario:
    """The scenario that the text of a file states; `path` is for messages, and its stem must be the scenario's name.

    `read_source` reads a file beside the scenario, and raises ScenarioError; what `with_sources` made needs none.
    Raises ScenarioError with a line for each problem.
    """
    problems: list[_Problem] = []
    root = _Table(parse_toml(text, path), "", problems)
    version = _read_version(root)
    if version > SCENARIO_VERSION:  # other keys may mean anything there
        raise _error(path, problems)
    matrix = _read_matrix(root.table("matrix"))
    own_sources = _read_sources(root.table("sources"))
    given = _Given(_placeholder_names(matrix), own_sources if "sources" in root else read_source)
    scenario = Scenario(
        path=path,
        name=_read_name(root, PurePath(path).stem),
        summary=root.line("summary", required=True),
        version=version,
        matrix=matrix,
        state=tuple(step for table in root.tables("state") if (step := _read_step(table, matrix, given)) is not None),
        requires=_read_requires(root.table("requires")),
        machine=_read_machine(root.table("machine"), matrix),
        conntrack=_read_conntrack(root.table("conntrack")),
        load=_read_load(root.table("load")),
        expectations=_read_expectations(root.tables("expect"), matrix),
    )
    _check_load_fits(root, scenario)
    root.finish()
    if problems:
        raise _error(path, problems)
    return scenario


def scenario_digest(scenario: Scenario) -> str:
    """The sha256 of what a scenario means.

    An optional key that is absent does not count, so that a key added to the format later leaves the digests of older
    files, and with them old results, comparable.
    """
    canonical = json.dumps(
        scenario_meaning(scenario), sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str
    )
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def scenario_meaning(scenario: Scenario) -> dict[str, object]:
    """What a scenario means: state, load, table, machine, matrix and what is expected.

    Its name, summary, reasons, comments and layout do not count.
    """
    return {
        "version": scenario.version,
        "matrix": scenario.matrix,
        "state": [{"kind": type(step).__name__} | _meaning_of(step) for step in scenario.state],
        "machine": _meaning_of(scenario.machine),
        "conntrack": _meaning_of(scenario.conntrack),
        "load": _meaning_of(scenario.load),
        "expect": [_meaning_of_expectation(one) for one in scenario.expectations],
        **({"requires": requires} if (requires := _meaning_of_requirement(scenario.requires)) else {}),
    }


def with_sources(text: str, scenario: Scenario) -> str:
    """A scenario file's text that needs no file beside it: what its steps take from one stands in [sources]."""
    sources = {step.source: step.text for step in scenario.state if isinstance(step, FileStep) and step.source}
    if not sources or "sources" in tomllib.loads(text):
        return text
    head = f"{text.rstrip()}\n\n# the files beside the scenario, as they were read\n[sources]\n"
    return head + "".join(
        f'"{name.translate(_TOML_ESCAPES)}" = """\n{substitute(template, {}).translate(_TOML_ESCAPES)}"""\n'
        for name, template in sources.items()
    )


def placeholder_values(axes: Axes) -> Mapping[str, str]:
    """What `{name}` stands for in a variant with these axes."""
    values: dict[str, str] = {}
    for axis, value in axes.items():
        forms = _BACKEND_PROGRAMS if axis == BACKEND_AXIS else {axis: "{}"}
        values |= {name: form.format(value) for name, form in forms.items()}
    return values


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A mend for an unknown word: the nearest known one, else (also when it is no text) all of them."""
    names = list(known)
    nearest = difflib.get_close_matches(word, names, n=1) if isinstance(word, str) else []
    if nearest:
        return f"did you mean {nearest[0]!r}?"
    return f"known are: {', '.join(names)}" if names else "none are known here"


@dataclass(frozen=True)
class _Given:
    """What the texts of steps may refer to: placeholders, and files beside the scenario."""

    names: Collection[str]
    read_source: ReadSource | None


# -- the parts of a file ----------------------------------------------------------------------------------------------


def parse_toml(text: str, path: str) -> dict[str, object]:
    """The document in a scenario's text, not checked yet. Raises ScenarioError for what is no TOML."""
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise ScenarioError(f"{path}: the file is empty", hint=f"begin with version = {SCENARIO_VERSION}")
    if any(part.count(".") >= _MAX_KEY_PARTS for part in _BETWEEN_KEYS.split(_NO_KEYS.sub("", text))):
        # the reader's time grows with the square of a key's parts
        hint = "no key of a scenario has more than three: look for a text without quotes"
        raise ScenarioError(
            f"{path}: not TOML that a scenario has: a key of more than {_MAX_KEY_PARTS} parts", hint=hint
        )
    try:
        return tomllib.loads(text)
    except RecursionError:
        hint = "no scenario has lists or tables more than four deep: look for brackets that are not closed"
        raise ScenarioError(f"{path}: not TOML: nested too deeply", hint=hint) from None
    except ValueError as error:  # TOMLDecodeError, with line and column; plain ValueError for a number of 5000 digits
        raise ScenarioError(f"{path}: not TOML: {error}", hint="https://toml.io shows how it is written") from None


def _read_version(root: _Table) -> int:
    if "version" not in root:
        root.problem("version", "is missing", f"add: version = {SCENARIO_VERSION}")
    version = root.number("version", SCENARIO_VERSION)
    if version > SCENARIO_VERSION:
        root.problem("version", f"is {version}, this lab knows up to {SCENARIO_VERSION}", "use a newer lab")
    return version


def _read_name(root: _Table, stem: str) -> str:
    name = root.text("name", required=True)
    if not name:
        return name
    if not _NAME.fullmatch(name):
        root.problem(
            "name",
            f"is {_said(name)}, but names become folder names",
            "use up to 64 small letters, digits and '-', not '-' first",
        )
    elif name != stem:
        root.problem("name", f"is {name!r}, but the file is called {stem!r}", "give both the same name")
    return name


def _read_matrix(table: _Table) -> Matrix:
    matrix: dict[str, tuple[AxisValue, ...]] = {}
    for axis in table.names():
        if not _AXIS.fullmatch(axis) or axis in _RESERVED_AXES:
            table.take(axis)
            table.problem(axis, "cannot be the name of an axis", "use another: small letters, digits and '_'")
            continue
        matrix[axis] = _read_axis(table, axis)
    table.finish()
    count = math.prod(len(values) for values in matrix.values())
    if count > MAX_VARIANTS:
        table.problem("", f"makes more than {MAX_VARIANTS} variants", "take values away")
    longest = (len(axis) + 2 + max((len(str(value)) for value in matrix[axis]), default=0) for axis in matrix)
    if sum(longest) > MAX_AXES_LENGTH:
        table.problem("", "makes names that are too long for folders", "shorten axes and values")
    return matrix


def _read_axis(table: _Table, axis: str) -> tuple[AxisValue, ...]:
    values: dict[str, AxisValue] = {}
    given = table.items(axis)
    if given == ():
        table.problem(axis, "is an empty list", f"give it values, or remove {axis}")
    for index, value in enumerate(given or ()):
        key = f"{axis}[{index}]"
        if problem := _axis_value_problem(axis, value):
            table.problem(key, *problem)
        elif str(value) in values:
            table.problem(key, f"{value!r} stands there twice", "remove one of them")
        elif isinstance(value, str | int):
            values[str(value)] = value
    return tuple(values.values())


def _axis_value_problem(axis: str, value: object) -> tuple[str, str] | None:
    if axis == BACKEND_AXIS and value not in _BACKENDS:
        return f"is {_said(value)}, must be one of {_quoted(_BACKENDS)}", did_you_mean(value, _BACKENDS)
    if isinstance(value, str):
        if not _AXIS_TEXT.fullmatch(value):
            return f"is {_said(value)}, but values become folder names", "use up to 32 of: letters, digits, '._-'"
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        return f"is {_said(value)}, must be text or a whole number", f'write {axis} = ["one", "two"]'
    return None if 0 <= value <= _MAX_NUMBER else (f"is {_said(value)}", f"use 0 to {_MAX_NUMBER}")


def _read_step(table: _Table, matrix: Matrix, given: _Given) -> Step | None:
    kinds = [kind for kind in _STEP_READERS if kind in table]
    when = _read_when(table, matrix)
    step = None
    if len(kinds) == 1:
        step = _STEP_READERS[kinds[0]](table, when, given)
    table.finish(also=(*_STEP_READERS, "refused"))
    if len(kinds) > 1:
        table.problem("", f"is several steps at once: {', '.join(kinds)}", "give each a [[state]] of its own")
    elif not kinds and table.sound:
        table.problem("", "does nothing", f"give it one of: {', '.join(_STEP_READERS)}")
    if "refused" in table and kinds and kinds != ["run"]:
        table.problem("refused", "belongs to a step with run", "remove it, or run a program that is refused")
    return step


def _read_run(table: _Table, when: Axes, given: _Given) -> Step:
    argv = table.texts("run")
    if argv == ():
        table.problem("run", "is an empty list", 'name a program and its arguments: run = ["true"]')
    for index, word in enumerate(argv or ()):
        _check_template(table, f"run[{index}]", word, given.names)
    if argv and not argv[0]:
        table.problem("run[0]", "is empty", "name the program to run")
    return RunStep(argv or (), refused=table.flag("refused"), when=when)


def _read_file(table: _Table, when: Axes, given: _Given) -> Step:
    file = table.table("file")
    path, source = file.text("path", required=True), file.text("source")
    text = file.text("text", required="source" not in file)
    file.finish()
    if source and "text" in file:
        file.problem("text", "stands beside source", "keep one of the two")
    elif "source" in file:
        text = _source_text(file, source, given)
    _check_template(file, "path", path, given.names)
    _check_template(file, "source" if source else "text", text, given.names)
    if path and (not path.startswith("/") or path.endswith("/") or ".." in path.split("/")):
        file.problem("path", f"is {_said(path)}", "write an absolute path of a file, without '..'")
    return FileStep(path, text, when=when, source=source)


def _source_text(file: _Table, source: str, given: _Given) -> str:
    """The template of what a file beside the scenario has; empty where that was noted as a problem."""
    if not source or source.startswith(("/", "~")) or source.endswith("/") or ".." in source.split("/"):
        file.problem("source", f"is {_said(source)}", 'name a file beside the scenario: source = "./nftables.conf"')
    elif given.read_source is None:
        file.problem("source", f"is {_said(source)}, whose text is not in [sources]", "name the scenario's own file")
    else:
        try:
            return verbatim(given.read_source(source))
        except ScenarioError as error:
            file.problem("source", str(error), error.hint)
    return ""


def _read_sources(table: _Table) -> ReadSource:
    """What `with_sources` put into the file."""
    texts = {name: table.text(name) for name in table.names()}

    def read(source: str) -> str:
        if source not in texts:
            raise ScenarioError(f"is {_said(source)}, whose text is not in [sources]", did_you_mean(source, texts))
        return texts[source]

    return read


def _read_sysctl(table: _Table, when: Axes, given: _Given) -> Step:
    values = table.table("sysctl")
    pairs: list[tuple[str, str]] = []
    for name in values.names():
        value = values.take(name)
        if isinstance(value, bool) or not isinstance(value, str | int):
            mend = "quote a name that has dots" if isinstance(value, dict) else f'write {{ "{name}" = 0 }}'
            values.problem(name, f"is {_said(value)}, must be a whole number or text", mend)
            continue
        if isinstance(value, int) and abs(value) > _MAX_SYSCTL:
            values.problem(name, f"is {_said(value)}, which no sysctl can hold", f"use at most {_MAX_SYSCTL}")
            continue
        if not _SYSCTL.fullmatch(name):
            values.problem(name, "is no name of a sysctl", "write it as sysctl(8) does: net.ipv4.tcp_syncookies")
        _check_template(values, name, str(value), given.names)
        pairs.append((name, str(value)))
    values.finish()
    if "sysctl" in table and not values.names() and isinstance(table.take("sysctl"), dict):
        table.problem("sysctl", "is empty", 'write sysctl = { "net.ipv4.tcp_syncookies" = 0 }')
    return SysctlStep(tuple(pairs), when=when)


def _read_unload(table: _Table, when: Axes, _given: _Given) -> Step:
    modules = table.texts("unload")
    if modules == ():
        table.problem("unload", "is an empty list", 'name modules: unload = ["iptable_nat"]')
    for index, module in enumerate(modules or ()):
        if not _MODULE.fullmatch(module):
            table.problem(f"unload[{index}]", f"is {_said(module)}, no name of a module", "use letters, digits and '_'")
    return UnloadStep(modules or (), when=when)


_STEP_READERS: Mapping[str, Callable[[_Table, Axes, _Given], Step]] = {
    "run": _read_run,
    "file": _read_file,
    "sysctl": _read_sysctl,
    "unload": _read_unload,
}


def _read_when(table: _Table, matrix: Matrix) -> Axes:
    when = table.table("when")
    conditions = _read_conditions(when, matrix)
    when.finish(also=matrix, what="axis")
    return conditions


def _read_conditions(table: _Table, matrix: Matrix) -> Axes:
    """The axes that a table fixes, each to one of its values."""
    conditions: dict[str, AxisValue] = {}
    for axis, values in matrix.items():
        given = table.take(axis)
        if given is None or not values:
            continue
        value = next((value for value in values if type(value) is type(given) and value == given), None)
        if value is None:
            mend = did_you_mean(given, [str(value) for value in values])
            table.problem(axis, f"is {_said(given)}, must be one of {_quoted(values)}", mend)
        else:
            conditions[axis] = value
    return conditions


def _read_machine(table: _Table, matrix: Matrix) -> MachineSpec:
    boot_args = table.texts("boot_args") or ()
    for index, argument in enumerate(boot_args):
        _check_template(table, f"boot_args[{index}]", argument, _placeholder_names(matrix))
        if not argument.isprintable() or not argument or " " in argument:
            table.problem(f"boot_args[{index}]", f"is {_said(argument)}", "write each argument as a text of its own")
    machine = MachineSpec(
        boot_args=boot_args,
        memory_mb=table.number("memory_mb", DEFAULT_MEMORY_MB, high=1024 * 1024),
        vcpus=table.number("vcpus", DEFAULT_VCPUS, high=64),
        topology=table.choice("topology", TOPOLOGIES),
    )
    table.finish()
    return machine


def _read_conntrack(table: _Table) -> ConntrackSpec:
    timeouts = table.table("timeouts")
    conntrack = ConntrackSpec(
        max=table.number("max", 0) or None,
        buckets=table.number("buckets", 0) or None,
        timeouts={name: timeouts.number(name, 0) for name in timeouts.names() if name in TIMEOUT_SYSCTLS},
    )
    timeouts.finish(also=TIMEOUT_SYSCTLS, what="timeout")
    table.finish()
    return conntrack


def _read_load(table: _Table) -> LoadSpec:
    kind = table.choice("kind", LOAD_KINDS) or "hold"
    load = LoadSpec(
        kind=kind,
        connections=table.number("connections", DEFAULT_CONNECTIONS),
        rate_per_second=table.number("rate_per_second", 0) or None,
        hold_seconds=table.seconds("hold_seconds", MAX_HOLD_SECONDS),
        close=table.choice("close", CLOSES),
        newcomers=table.number("newcomers", 0) or None,
    )
    for name in ("rate_per_second", "hold_seconds", "close", "newcomers"):
        if name in table and name not in LOAD_KINDS[kind]:
            kinds = [known for known, names in LOAD_KINDS.items() if name in names]
            table.problem(name, f"means nothing to a load of the kind {kind!r}", f"use it with {_quoted(kinds)}")
    table.finish()
    return load


def _check_load_fits(root: _Table, scenario: Scenario) -> None:
    """Note a load that the machine's topology lacks: in a guest it would be refused only after the boot."""
    topology, kind = scenario.machine.topology, scenario.load.kind
    lacking = _LOADS_LACKING.get(topology or "", ())
    if kind in lacking:
        kinds = _quoted(known for known in LOAD_KINDS if known not in lacking)
        what = f"is the text {json.dumps(kind)}, and machine.topology is {topology!r}, over which no such load runs"
        root.table("load").problem("kind", what, f"use one of {kinds}, or leave machine.topology out")


def _read_requires(table: _Table) -> Requirement:
    requirement = Requirement(
        condition=_read_condition(table),
        modules=_read_modules(table, "modules"),
        loadable=_read_modules(table, "loadable"),
        backends=tuple(one for one in table.texts("backends") or () if _is_backend(table, one)),
    )
    table.finish()
    return requirement


def _is_backend(table: _Table, text: str) -> bool:
    if text not in _BACKENDS:
        table.problem("backends", f"has {_said(text)}, must be of {_quoted(_BACKENDS)}", did_you_mean(text, _BACKENDS))
    return text in _BACKENDS


def _read_modules(table: _Table, key: str) -> tuple[str, ...]:
    modules = table.texts(key) or ()
    for index, module in enumerate(modules):
        if not _MODULE.fullmatch(module):
            table.problem(f"{key}[{index}]", f"is {_said(module)}, no name of a module", "use letters, digits and '_'")
    return tuple(module.replace("-", "_") for module in modules)


def _read_condition(table: _Table) -> Condition:
    return Condition(
        kernel=_read_version_spec(table, "kernel"),
        target=table.line("target") or None,
        iptables_version=_read_version_spec(table, "iptables_version"),
        nft_version=_read_version_spec(table, "nft_version"),
        config=_read_config(table),
    )


def _read_config(table: _Table) -> tuple[ConfigSpec, ...]:
    specs: list[ConfigSpec] = []
    for index, text in enumerate(table.texts("config") or ()):
        try:
            specs.append(parse_config_spec(text))
        except ValueError as error:
            table.problem(f"config[{index}]", str(error), 'write config = ["NF_CONNTRACK=m"]')
    return tuple(specs)


def _read_expectations(tables: Iterable[_Table], matrix: Matrix) -> tuple[Expectation, ...]:
    expectations: list[Expectation] = []
    complete = False
    for table in tables:
        expectation = Expectation(
            finding=_read_finding(table),
            because=table.line("because"),
            condition=_read_condition(table),
            axes=_read_conditions(table, matrix),
        )
        table.finish(also=matrix, what="key or axis")
        if complete:
            table.problem("", "is never reached: one before it always holds", "move it up, or remove one of them")
        complete = complete or (expectation.unconditional and table.sound)
        expectations.append(expectation)
    return tuple(expectations)


def _read_finding(table: _Table) -> str:
    finding = table.text("finding", required=True)
    if finding and finding not in FINDINGS:
        mend = did_you_mean(finding, FINDINGS)
        table.problem("finding", f"is {_said(finding)}, which is no finding", mend)
    return finding


def _read_version_spec(table: _Table, key: str) -> VersionSpec | None:
    text = table.text(key)
    if key not in table or table.is_wrong(key):
        return None
    try:
        return parse_version_spec(text)
    except ValueError as error:
        table.problem(key, f"is {_said(text)}: {error}", "write comparisons, as in '<4.14' or '>=5.1,<6.2'")
        return None


# Axes stand among these keys in [[expect]], and {ip6tables} is the backend's own.
_RESERVED_AXES = (
    *("kernel", "target", "config", "iptables_version", "nft_version"),
    *("finding", "because", "ip6tables"),
)


def _placeholder_names(matrix: Matrix) -> Collection[str]:
    return placeholder_values(dict.fromkeys(matrix, "")).keys()


def _check_template(table: _Table, key: str, text: str, names: Collection[str]) -> None:
    if "\0" in text:
        table.problem(key, "has a NUL character, which neither arguments nor files of settings can hold", "remove it")
    try:
        substitute(text, dict.fromkeys(names, ""))
    except UnknownPlaceholder as error:
        nearest = f"{did_you_mean(error.name, names)}; " if names else ""
        table.problem(key, str(error), f"{nearest}for braces as they are write {{{{{error.name[:60]}}}}}")


# -- reading tables ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Problem:
    key: str
    what: str
    mend: str


class _Table:
    """A TOML table being read: hands out values of the type asked for, and notes what is wrong instead of raising.

    An absent or wrong value is given as the default, so that the reader goes on and finds every problem.
    """

    def __init__(self, values: object, key: str, problems: list[_Problem]) -> None:
        self._is_table = isinstance(values, dict)  # else that has been noted, and nothing is missing in it
        self._values: Mapping[str, object] = values if isinstance(values, dict) else {}
        self._key = key
        self._problems = problems
        self._asked: list[str] = []
        self._wrong: set[str] = set()
        self.sound = True  # whether no problem has been noted in this very table

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def names(self) -> tuple[str, ...]:
        return tuple(self._values)

    def is_wrong(self, name: str) -> bool:
        """Whether the value was not of the type asked for."""
        return name in self._wrong

    def problem(self, name: str, what: str, mend: str) -> None:
        """Note what is wrong with a key of this table, or, with an empty name, with the table."""
        self.sound = False
        self._problems.append(_Problem(self._path(name), what, mend))

    def take(self, name: str) -> object:
        """The value as it is, None when absent."""
        if name not in self._asked:
            self._asked.append(name)
        return self._values.get(name)

    def finish(self, also: Iterable[str] = (), what: str = "key") -> None:
        """Note the keys that nobody asked for; `also` are further ones that would be right."""
        known = dict.fromkeys((*self._asked, *also))
        for name in self._values:
            if name not in known:
                self.problem(name, f"is an unknown {what}", did_you_mean(name, known))

    def text(self, name: str, *, required: bool = False) -> str:
        value = self.take(name)
        if value is None:
            if required and self._is_table:
                self.problem(name, "is missing", f'add: {name} = "..."')
            return ""
        if not isinstance(value, str):
            self._wrong_type(name, value, "text", f'write {name} = "..."')
            return ""
        return value

    def line(self, name: str, *, required: bool = False) -> str:
        """A text that is shown to people: one line, nothing that steers a terminal."""
        value = self.text(name, required=required)
        if not value.isprintable():
            self.problem(name, "has a line break or another control character", "write one plain line")
        elif name in self and not value.strip() and not self.is_wrong(name):
            self.problem(name, "is empty", "write one plain line")
        return value

    def number(self, name: str, default: int, *, high: int = _MAX_NUMBER) -> int:
        """A whole number from 1 to `high`."""
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong_type(name, value, "a whole number", f"write {name} = {default or 100}")
            return default
        if not 1 <= value <= high:
            self.problem(name, f"is {_said(value)}, must be 1 to {high}", f"write a number from 1 to {high}")
            return default
        return value

    def seconds(self, name: str, high: float) -> float | None:
        """A time of 0 to `high` seconds."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong_type(name, value, "a number of seconds", f"write {name} = 0.5")
            return None
        if not 0 <= value <= high:
            self.problem(name, f"is {_said(value)}, must be 0 to {high:g}", f"write a number from 0 to {high:g}")
            return None
        return float(value)

    def choice(self, name: str, known: Iterable[str]) -> str | None:
        """One of the known words."""
        value = self.text(name)
        if not value:
            return None
        if value not in (words := tuple(known)):
            self.problem(name, f"is {_said(value)}, must be one of {_quoted(words)}", did_you_mean(value, words))
            return None
        return value

    def flag(self, name: str) -> bool:
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            self._wrong_type(name, value, "true or false", f"write {name} = true")
        return value is True

    def items(self, name: str) -> tuple[object, ...] | None:
        """A list's items; None when it is absent or no list."""
        value = self.take(name)
        if isinstance(value, list):
            return tuple(value)
        if value is not None:
            self._wrong_type(name, value, "a list", f"write {name} = [...]")
        return None

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of texts; None when it is absent or no list, and without those items that are no texts."""
        values = self.items(name)
        for index, value in enumerate(values or ()):
            if not isinstance(value, str):
                self._wrong_type(f"{name}[{index}]", value, "text", "put it in quotes")
        texts = tuple(value for value in values or () if isinstance(value, str))
        return None if values is None or (values and not texts) else texts

    def table(self, name: str) -> _Table:
        """A table in this one; an empty one when it is absent or no table."""
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            self._wrong_type(name, value, "a table", f"write {name} = {{ ... }}" if self._key else f"write [{name}]")
        return _Table({} if value is None else value, self._path(name), self._problems)

    def tables(self, name: str) -> tuple[_Table, ...]:
        """The tables of a list of tables."""
        mend = f"begin each with [[{name}]]"
        value = self.take(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            self._wrong_type(name, value, "a list of tables", mend)
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                self._wrong_type(f"{name}[{index}]", item, "a table", mend)
        tables = ((index, item) for index, item in enumerate(value) if isinstance(item, dict))
        return tuple(_Table(item, self._path(f"{name}[{index}]"), self._problems) for index, item in tables)

    def _wrong_type(self, name: str, value: object, wanted: str, mend: str) -> None:
        self._wrong.add(name)
        self.problem(name, f"is {_said(value)}, must be {wanted}", mend)

    def _path(self, name: str) -> str:
        shown = _shown_key(name)
        return f"{self._key}.{shown}" if self._key and shown else self._key or shown


def _error(path: str, problems: list[_Problem]) -> ScenarioError:
    """One error for all problems: a single one with its mend as hint, several as lines that end with theirs."""
    if len(problems) == 1:
        (only,) = problems
        return ScenarioError(f"{path}: {only.key}: {only.what}", hint=only.mend)
    lines = [f"{path}: {one.key}: {one.what}; {one.mend}" for one in problems[:_MAX_PROBLEMS_SHOWN]]
    left_out = len(problems) - len(lines)
    more = f"; {left_out} more problems are not shown" if left_out else ""
    return ScenarioError("\n".join(lines), hint=f"each line ends with its hint{more}")


def _shown_key(name: str) -> str:
    """A key as TOML would write it, with an index after it left alone, cut when it is long."""
    bare, bracket, index = name.partition("[")
    if not name or (_BARE_KEY.fullmatch(bare) and (not bracket or index.removesuffix("]").isdecimal())):
        return name
    return json.dumps(name[:60])


_KINDS_OF_VALUES: tuple[tuple[type, str], ...] = (
    (float, "a number with a fraction"),
    (list, "a list"),
    (dict, "a table"),
    (object, "a date or time"),  # all that is left in TOML
)


def _said(value: object) -> str:
    """A value as TOML writes it and what it is, bounded: it is the file's, and may be anything."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {json.dumps(value[:60])}{'...' if len(value) > 60 else ''}"
    if isinstance(value, int):
        return f"the number {value}" if abs(value) < 10**30 else "an enormous number"
    return next(name for kind, name in _KINDS_OF_VALUES if isinstance(value, kind))


def _quoted(values: Iterable[AxisValue]) -> str:
    return ", ".join(json.dumps(value) for value in values)


def _meaning_of_expectation(expectation: Expectation) -> dict[str, object]:
    return {**_meaning_of(dataclasses.replace(expectation, because="")), **_meaning_of(expectation.condition)}


def _meaning_of_requirement(requirement: Requirement) -> dict[str, object]:
    return {**_meaning_of(requirement), **_meaning_of(requirement.condition)}


def _meaning_of(part: object) -> dict[str, object]:
    """The fields of a dataclass that say something: neither None, nor empty, nor false, nor a condition of its own."""
    if not dataclasses.is_dataclass(part):
        raise TypeError(f"no part of a scenario: {part!r}")
    values = {one.name: getattr(part, one.name) for one in dataclasses.fields(part) if one.compare}
    said = {name: value for name, value in values.items() if value not in (None, "", (), {}, False)}
    return {name: value for name, value in said.items() if not isinstance(value, Condition)}
