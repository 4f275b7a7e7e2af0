"""README and docs: every command line is one that the lab takes, and every link leads somewhere.

Quick commands are run. Those that boot machines are planned as far as `--dry-run` goes: scenarios, axes, targets and
numbers are checked, and nothing is started. What names files that only an example has is parsed.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.core.errors import ScenarioError
from lab.host.cli import main as cli
from lab.host.cli.main import command_line
from lab.host.options import read_options
from lab.host.run.planned import plan_run
from tests import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
_LAB = re.compile(r"^\s*(?:\$ |[A-Z_]+=\S+ )?(?:\.venv/bin/)?(lab(?: .*)?)$")
_QUICK = ("list", "schema", "completion", "image key")
_SHELL = re.compile(r"[|<>;()&]|\$\?|\.\.\.")  # from here on it is the shell's, or left out
_EXAMPLES = re.compile(r"\b(BASE|RUN|CELL|NAME|FILE|KERNEL|TARGET|DIR|PATH)\b|\[--")  # words that stand for others


def blocks(page: Path) -> Iterator[str]:
    yield from re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The command lines of the lab in the blocks of a page, as argv without `lab`."""
    for block in blocks(page):
        for line in block.splitlines():
            found = _LAB.match(line)
            if found and not _EXAMPLES.search(found[1]) and "(host)" not in line:
                words = _SHELL.split(found[1].partition("  #")[0].partition(" # ")[0], maxsplit=1)[0]
                yield shlex.split(words)[1:]


ALL = {f"{page.relative_to(ROOT)}: {shlex.join(argv)}": argv for page in PAGES for argv in commands(page)}


def test_the_command_lines_are_found() -> None:
    assert len(ALL) > 90
    assert {"run", "shell", "compare", "report", "doctor", "list"} <= {argv[0] for argv in ALL.values() if argv}


@pytest.fixture
def in_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the worked example of docs/scenarios.md; the cache is empty."""
    (example,) = (block for block in blocks(ROOT / "docs/scenarios.md") if 'name = "ct-in-unused-chain"' in block)
    (tmp_path / "ct-in-unused-chain.toml").write_text(example)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def parsed(argv: list[str]) -> argparse.Namespace:
    try:
        return command_line().parse_args(argv)
    except SystemExit as ended:
        raise AssertionError(f"lab {shlex.join(argv)} is no command line: exit status {ended.code}") from None


@pytest.mark.parametrize("argv", ALL.values(), ids=ALL)
def test_a_command_line_is_one(argv: list[str], in_example: None, capsys: pytest.CaptureFixture[str]) -> None:
    options = parsed(argv)
    if options.command in _QUICK:
        assert cli.main(argv) == 0
        assert capsys.readouterr().out
    elif (options.command == "run" and options.resume is None) or (
        options.command == "shell" and "scenarios" in options
    ):
        try:
            planned = plan_run(read_options(options))
        except ScenarioError as error:
            assert "mine.toml" in str(error), error  # a file that only the reader has
        else:
            assert planned.plans and (options.command == "run" or len(planned.plans) == 1)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in re.findall(r"\]\(([^)#:\s]*)(#[^)\s]*)?\)", page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page}: {path}"
        if anchor and target.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            known = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor[1:] in known, f"{page}: {path}{anchor}"
