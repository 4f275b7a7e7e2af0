"""The workflows, and those in docs/ci.md: YAML that is safe to run, and commands and exit statuses that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.host.cli.main import command_line
from tests import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
KERNELS = ROOT / ".github" / "workflows" / "kernels.yml"
GUIDE = ROOT / "docs" / "ci.md"
_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")

Json = dict[Any, Any]


def texts() -> Iterator[tuple[str, str]]:
    yield from ((path.name, path.read_text()) for path in WORKFLOWS)
    yield from ((f"ci.md-{number}", block) for number, block in enumerate(_BLOCK.findall(GUIDE.read_text())))


TEXTS = dict(texts())
GITHUB = {name: text for name, text in TEXTS.items() if "runs-on:" in text}


def steps_of(text: str) -> list[Json]:
    content = yaml.safe_load(text)
    return [step for job in content["jobs"].values() for step in job["steps"]]


def scripts() -> Iterator[tuple[str, str]]:
    for name, text in GITHUB.items():
        for number, step in enumerate(steps_of(text)):
            if "run" in step:
                yield f"{name}-{number}", step["run"]


SCRIPTS = dict(scripts())


def test_there_is_something_to_look_at() -> None:
    assert {"check.yml", "kernels.yml"} <= set(TEXTS)
    assert len(TEXTS) >= 4
    assert len(SCRIPTS) > 8


@pytest.mark.parametrize("name", TEXTS)
def test_it_is_yaml(name: str) -> None:
    assert isinstance(yaml.safe_load(TEXTS[name]), dict)


@pytest.mark.parametrize("name", GITHUB)
def test_it_may_read_and_nothing_else_and_knows_no_secret(name: str) -> None:
    content = yaml.safe_load(GITHUB[name])
    assert content["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in content["jobs"].values())
    assert "secrets" not in GITHUB[name]
    assert "pull_request_target" not in GITHUB[name]
    assert all(job["timeout-minutes"] <= 120 for job in content["jobs"].values())


@pytest.mark.parametrize("name", GITHUB)
def test_every_action_is_pinned_and_takes_no_credentials_along(name: str) -> None:
    used = [line.strip().removeprefix("- ") for line in GITHUB[name].splitlines() if "uses:" in line]
    assert used
    assert [line for line in used if not _PINNED.match(line)] == []
    checkouts = [step for step in steps_of(GITHUB[name]) if "actions/checkout@" in step.get("uses", "")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_expression_is_a_part_of_a_script(name: str) -> None:
    assert "${{" not in SCRIPTS[name]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_bash(name: str) -> None:
    done = subprocess.run(["bash", "-n"], input=SCRIPTS[name], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def lab_commands() -> Iterator[tuple[str, list[str]]]:
    """Every call of the lab in a script, as argv; words of the shell become values that any option takes."""
    for name, text in TEXTS.items():
        joined = text.replace("\\\n", " ")
        for match in re.finditer(r"(?:^|[$(;|&] ?|run: |- )\s*(lab [a-z][^|;)#\n]*)", joined, re.MULTILINE):
            words = shlex.split(match[1].replace("|| status=$?", ""), comments=True)
            yield name, ["kvm" if word == "$ACCELERATOR" else word for word in words[1:]]


COMMANDS = list(lab_commands())


def test_the_commands_are_those_of_the_lab() -> None:
    names = {argv[0] for _, argv in COMMANDS}
    assert {"run", "compare", "report", "verify", "image", "doctor"} <= names
    parser = command_line()
    for name, argv in COMMANDS:
        assert parser.parse_args(argv), name


def test_paths_that_are_named_are_there() -> None:
    for name in ("scripts/setup", "scripts/check", "results/reference"):
        assert any(name in text for text in GITHUB.values())
        assert (ROOT / name).exists()


def outcome(script: str, status: int, tmp_path: Path) -> int:
    """How a step ends in which `lab` ends with this status."""
    lab = tmp_path / "lab"
    lab.write_text(f"#!/bin/sh\nexit {status}\n")
    lab.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SCENARIOS": "*", "TARGET": "x", "ACCELERATOR": "tcg"}
    argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize(("status", "passes"), [(0, True), (1, True), (3, True), (4, True), (2, False), (130, False)])
def test_a_run_with_results_goes_on_to_the_comparison(status: int, passes: bool, tmp_path: Path) -> None:
    (script,) = (text for name, text in SCRIPTS.items() if name.startswith("kernels") and "lab run" in text)
    assert (outcome(script, status, tmp_path) == 0) is passes


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_the_comparison_decides(status: int, tmp_path: Path) -> None:
    (script,) = (text for name, text in SCRIPTS.items() if name.startswith("kernels") and "lab compare" in text)
    assert outcome(script, status, tmp_path) == status


def test_evidence_is_kept_however_the_job_ends() -> None:
    for step in steps_of(KERNELS.read_text()):
        if "upload-artifact" in step.get("uses", "") or "lab report" in step.get("run", ""):
            assert step["if"] == "${{ !cancelled() }}"


def test_images_are_cached_by_what_identifies_them() -> None:
    (cache,) = (step for step in steps_of(KERNELS.read_text()) if "actions/cache@" in step.get("uses", ""))
    assert cache["with"]["path"] == "${{ env.XDG_CACHE_HOME }}/conntrack-lab/images"
    assert "steps.images.outputs.key" in cache["with"]["key"]
    assert "restore-keys" not in cache["with"], "an image of another recipe is of no use"
