"""What every command pays before it does anything, and what a command prints of its own accord: nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# each costs some 10 to 100 ms of processor time, or prints something when it is imported
SLOW = ("asyncio", "ssl", "vagrant", "jinja2", "matplotlib", "rich", "lab.core.holders", "lab.host.run.commands")
LOADED = "import json, sys; from lab.host.cli.main import main; code = main({argv}); print(json.dumps([*sys.modules]))"


def python(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter without Vagrant on its PATH; outside of everything that tests have imported."""
    environment = {**os.environ, "PATH": "/nonexistent", **more}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def loaded(done: subprocess.CompletedProcess[str]) -> set[str]:
    assert done.stderr == ""
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    return {name for name in SLOW if any(one == name or one.startswith(f"{name}.") for one in modules)}


@pytest.mark.parametrize("argv", [[], ["completion", "bash"], ["list"], ["schema", "plan"]])
def test_a_quick_command_imports_what_it_needs(argv: list[str]) -> None:
    assert loaded(python(LOADED.format(argv=argv))) == set()


def test_the_words_of_the_command_line_import_nothing_slow() -> None:
    code = (
        "import json, sys; from lab.host.cli.main import command_line; command_line().format_help();"
        "print(json.dumps([*sys.modules]))"
    )
    assert loaded(python(code)) == set()


def test_no_command_speaks_of_vagrant_without_being_asked() -> None:
    done = python("import lab.host.run.commands, lab.host.run.replay, lab.host.results.verify, lab.host.report")
    assert (done.stdout, done.stderr) == ("", "")


def test_lab_alone_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    from lab.host.cli.main import main

    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: lab ")


def test_a_report_of_a_run_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    from lab.host.cli.main import main

    assert main(["report", "results/no-such-run"]) == 2
    assert capsys.readouterr().err.startswith("lab: results/no-such-run: there is no such run\n  hint: ")
