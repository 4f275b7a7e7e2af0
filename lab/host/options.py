"""The options of a run, each written once: the command line fills them, the manifest stores them, replay reads them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lab.core.errors import LabError, ScenarioError
from lab.core.shards import Shard, parse_shard

DEFAULT_TARGET = "debian12"
_WHAT, _WHERE, _LOAD, _OUTPUT = "what to run", "where", "load", "output"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Deadlines:
    """How long each stage may take, in seconds."""

    build: float = 900.0
    boot: float = 120.0
    restore: float = 30.0
    state: float = 120.0
    load: float = 120.0
    collect: float = 60.0
    destroy: float = 10.0


STAGES = tuple(stage.name for stage in fields(Deadlines))


def positive(text: str) -> int:
    """A number of the command line. Raises ArgumentTypeError below 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}, must be a number of at least 1")
    return int(text)


def parse_timeouts(text: str) -> dict[str, float]:
    """`boot=60,load=120` as seconds by stage. Raises LabError that names the stage and the known ones."""
    seconds: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        stage, _, number = part.partition("=")
        try:
            seconds[stage] = float(number)
        except ValueError:
            seconds[stage] = -1.0
        if stage not in STAGES or not 0 < seconds[stage] < 10**6:
            raise LabError(f"--timeouts {part}: is no stage=seconds", hint=f"stages: {', '.join(STAGES)}")
    return seconds


def _option(group: str, flag: str, default: Any, text: str | None = None, *, stored: str = "", **words: Any) -> Any:
    """A field that is an option: its group and flag in the help, its place in the manifest, argparse's words."""
    words = {"help": text, **words, **({"action": "store_true"} if default is False else {})}
    metadata = {"group": group, "flag": flag, "words": words, "stored": stored}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


_KERNEL = "another kernel: packages (each with a --kernel), a folder, a bzImage, apt:SUITE, URL#sha256=HEX"
_NUMBER = {"type": int, "metavar": "N"}
_WORDS = {"action": "append"}


@dataclass(frozen=True)
class RunOptions:
    """What the user asked for."""

    scenarios: tuple[str, ...] = _option(
        _WHAT, "scenarios", (), "a name, a glob or a path", nargs="+", metavar="SCENARIO"
    )
    chosen: tuple[str, ...] = _option(
        _WHAT, "--set", (), "only variants with this value", stored="overrides.set", metavar="AXIS=VALUE", **_WORDS
    )
    repeat: int = _option(_WHAT, "--repeat", 1, "every cell N times", stored="options", **_NUMBER)
    shard: Shard | None = _option(
        _WHAT, "--shard", None, "only this share of the cells, for several machines", type=parse_shard, metavar="I/N"
    )
    durations: Path | None = _option(
        _WHAT, "--durations", None, "a run by whose times shards are balanced", type=Path, metavar="RUN"
    )
    mitigate: bool = _option(_WHAT, "--mitigate", False, "then try to remove what holds conntrack", stored="overrides")
    targets: tuple[str, ...] = _option(
        _WHERE, "--target", (DEFAULT_TARGET,), f"a target or glob ({DEFAULT_TARGET})", metavar="T", **_WORDS
    )
    kernel: tuple[str, ...] = _option(_WHERE, "--kernel", (), _KERNEL, metavar="[NAME=]KERNEL", **_WORDS)
    modules: Path | None = _option(
        _WHERE,
        "--modules",
        None,
        "the modules of a bzImage, a folder or a package",
        stored="options",
        type=Path,
        metavar="DIR",
    )
    mirror: str | None = _option(
        _WHERE, "--mirror", None, "the Debian mirror for images that are missing", metavar="URL"
    )
    provisioner: str | None = _option(_WHERE, "--provisioner", None, "what runs the machines")  # None: by the targets
    accelerator: str = _option(_WHERE, "--accelerator", "auto", stored="options", choices=("auto", "kvm", "tcg"))
    provider: str = _option(
        _WHERE, "--provider", "libvirt", "of Vagrant (libvirt)", stored="options", choices=("libvirt", "virtualbox")
    )
    control: str = _option(
        _WHERE,
        "--control",
        "auto",
        "control a box by its serial port, or SSH",
        stored="options",
        choices=("auto", "ssh"),
    )
    disposable_host: bool = _option(
        _WHERE, "--disposable-host", False, "allow this machine itself to be changed (host)"
    )
    timeouts: Mapping[str, float] = _option(
        _WHERE, "--timeouts", {}, "for example boot=60,load=120", type=parse_timeouts, metavar="STAGE=SECONDS,..."
    )
    parallel: int | None = _option(_WHERE, "-j", None, "cells at once", stored="options", type=positive, metavar="N")
    fleet: str | None = _option(
        _WHERE, "--fleet", None, "run the cells on the workers of this scheduler", metavar="tls://HOST:PORT"
    )
    keys: Path | None = _option(_WHERE, "--keys", None, "the folder with the fleet's keys", type=Path, metavar="DIR")
    share_machine: bool = _option(
        _WHERE, "--share-machine", False, "one box machine for all cells, reset each time", stored="options"
    )
    keep_failed: bool = _option(
        _WHERE, "--keep-failed", False, "keep the machine of a cell that is not as expected", stored="options"
    )
    connections: int | None = _option(
        _LOAD, "--connections", None, "connections that the load opens", stored="overrides", **_NUMBER
    )
    max: int | None = _option(_LOAD, "--max", None, "nf_conntrack_max", stored="overrides", **_NUMBER)
    output: Path = _option(
        _OUTPUT, "--output", Path("results"), "where the run's folder is made (results)", type=Path, metavar="DIR"
    )
    command: tuple[str, ...] = ()  # the words that all of it was read from


_OPTIONS = tuple(option for option in fields(RunOptions) if option.metadata)


def add_options(
    parser: argparse.ArgumentParser, only: Sequence[str] = (), without: Sequence[str] = (), **changes: Mapping[str, Any]
) -> dict[str, argparse._ArgumentGroup]:
    """Add all options, or some, in groups, which are given back by what they say; `changes` are other words for
    argparse, by an option's name.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in _OPTIONS:
        if option.name in without or (only and option.name not in only):
            continue
        group, flag = option.metadata["group"], option.metadata["flag"]
        place = groups[group] = groups.get(group) or parser.add_argument_group(group)
        words = {"default": argparse.SUPPRESS, **option.metadata["words"], **changes.get(option.name, {})}
        if flag.startswith("-"):
            words["dest"] = option.name
        place.add_argument(flag, **words)
    return groups


def read_options(words: argparse.Namespace, command: Iterable[str] = ()) -> RunOptions:
    """What argparse made of the words of a command line."""
    given = {option.name: vars(words)[option.name] for option in _OPTIONS if option.name in words}
    for name, value in given.items():
        if name == "scenarios" or isinstance(value, list):  # of a shell there is one
            given[name] = (value,) if isinstance(value, str) else tuple(value)
    return RunOptions(**given, command=tuple(command))


def differing(options: RunOptions, but: Sequence[str] = ()) -> list[str]:
    """The flags of options that are not as they are by default, leaving out some."""
    defaults = RunOptions()
    names = [option for option in _OPTIONS if option.name not in but]
    return [
        option.metadata["flag"] for option in names if getattr(options, option.name) != getattr(defaults, option.name)
    ]


def stored_options(options: RunOptions) -> dict[str, dict[str, Any]]:
    """The options as they are in a manifest, in its tables `options` and `overrides`."""
    tables: dict[str, dict[str, Any]] = {"options": {}, "overrides": {}}
    for option, table, key in _stored():
        value = getattr(options, option.name)
        tables[table][key] = (
            list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        )
    return tables


def restored_options(manifest: Json, defaults: RunOptions) -> RunOptions:
    """The options of a stored run; of what its manifest, being older, does not tell, the defaults.

    Raises ScenarioError that names the first key that is missing or not what it must be.
    """
    known = {"options": manifest.get("options", {}), "overrides": manifest.get("overrides")}
    for table, values in known.items():
        if not isinstance(values, dict):
            raise damaged(table)
    found: dict[str, Any] = {}
    for option, table, key in _stored():
        if key not in known[table]:
            continue
        value = known[table][key]
        choices = option.metadata["words"].get("choices")
        if not _MAY_BE[str(option.type)](value) or (choices and value not in choices):
            raise damaged(f"{table}.{key}")
        found[option.name] = tuple(value) if isinstance(value, list) else value
    if found.get("modules"):
        found["modules"] = Path(found["modules"])
    return replace(defaults, **found, timeouts=_seconds(manifest))


def damaged(key: str) -> ScenarioError:
    """The error of a manifest that lacks a key, or has something in it that cannot be."""
    return ScenarioError(f"manifest.json: {key} is missing or damaged", hint="name another run")


def _stored() -> Iterator[tuple[Field[Any], str, str]]:
    """The options that a manifest has, each with its table and key there."""
    for option in _OPTIONS:
        table, _, key = option.metadata["stored"].partition(".")
        if table:
            yield option, table, key or option.name


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


# by an option's type: whether a stored value is one
_MAY_BE: Mapping[str, Callable[[object], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "Path | None": lambda value: value is None or isinstance(value, str),
    "int": _is_count,
    "int | None": lambda value: value is None or _is_count(value),
    "tuple[str, ...]": lambda value: isinstance(value, list) and all(isinstance(word, str) for word in value),
}


def _seconds(manifest: Json) -> dict[str, float]:
    """The deadlines of a stored run, but for stages that there are no more."""
    seconds = manifest.get("deadlines_seconds")
    if not isinstance(seconds, dict):
        raise damaged("deadlines_seconds")
    for stage, value in seconds.items():
        if not isinstance(value, int | float) or not value > 0:
            raise damaged(f"deadlines_seconds.{stage}")
    return {stage: float(value) for stage, value in seconds.items() if stage in STAGES}
