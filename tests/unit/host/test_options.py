"""An option is written once: what the command line fills is what a manifest stores and a replay reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.core.errors import LabError, ScenarioError
from lab.host.cli.main import command_line
from lab.host.options import RunOptions, parse_timeouts, read_options, restored_options, stored_options

ALL = (
    "run a b --set x=y --set z=1 --repeat 3 --shard 1/2 --durations /d --mitigate "
    "--target debian13 --kernel k.deb --modules /m --mirror http://m "
    "--provisioner qemu --accelerator tcg --provider virtualbox --control ssh --disposable-host --timeouts boot=60 "
    "-j 2 --fleet tls://h --keys /k --share-machine --keep-failed --connections 7 --max 5 --output /o"
)
STORED = {
    "options": {
        "repeat": 3,
        "parallel": 2,
        "keep_failed": True,
        "accelerator": "tcg",
        "modules": "/m",
        "provider": "virtualbox",
        "control": "ssh",
        "share_machine": True,
    },
    "overrides": {"connections": 7, "max": 5, "set": ["x=y", "z=1"], "mitigate": True},
}


def read(words: str) -> RunOptions:
    return read_options(command_line().parse_args(words.split()))


def test_every_option_reaches_its_field() -> None:
    options, defaults = read(ALL), RunOptions()
    same = [name for name, value in vars(options).items() if value == getattr(defaults, name) and name != "command"]
    assert same == []
    assert (options.scenarios, options.chosen, options.modules) == (("a", "b"), ("x=y", "z=1"), Path("/m"))


def test_what_is_not_said_is_the_default() -> None:
    assert read("run a") == RunOptions(scenarios=("a",))
    assert read("shell a") == RunOptions(scenarios=("a",))
    assert read("shell --kept x") == RunOptions()
    assert read("replay x -j 2") == RunOptions(parallel=2)


def test_what_is_stored_is_read_again() -> None:
    options = read(ALL)
    assert stored_options(options) == STORED
    manifest = {**STORED, "deadlines_seconds": {"boot": 60.0, "of-older-labs": 1.0}}
    stored = {"repeat", "parallel", "keep_failed", "accelerator", "modules", "provider", "control", "share_machine"}
    stored |= {"connections", "max", "chosen", "mitigate", "timeouts"}
    assert restored_options(manifest, RunOptions()) == replace(
        RunOptions(), **{name: getattr(options, name) for name in stored}
    )


def test_of_what_an_older_manifest_does_not_tell_the_defaults_are_taken() -> None:
    older: dict[str, Any] = {"overrides": {"max": 5}, "deadlines_seconds": {}}
    assert restored_options(older, RunOptions(repeat=4)) == RunOptions(repeat=4, max=5)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("options", "repeat", 0),
        ("options", "parallel", -1),
        ("options", "keep_failed", "yes"),
        ("options", "provider", "hyperv"),
        ("options", "modules", 7),
        ("overrides", "max", True),
        ("overrides", "set", ["x", 7]),
        ("overrides", "set", None),
    ],
)
def test_what_an_option_cannot_be_is_named(table: str, key: str, value: object) -> None:
    manifest: dict[str, Any] = {"options": {}, "overrides": {}, "deadlines_seconds": {}}
    manifest[table][key] = value
    with pytest.raises(ScenarioError, match=rf"^manifest\.json: {table}\.{key} is missing or damaged$"):
        restored_options(manifest, RunOptions())


@pytest.mark.parametrize("text", ["boot", "boot=0", "boot=x", "boot=1e9", "lunch=5", "boot=60,load=-1"])
def test_a_timeout_that_is_none_is_named(text: str) -> None:
    with pytest.raises(LabError, match="is no stage=seconds") as caught:
        parse_timeouts(text)
    assert "stages: build, boot" in caught.value.hint


def test_timeouts() -> None:
    assert parse_timeouts("boot=60,,load=1.5,") == {"boot": 60.0, "load": 1.5}
