"""GitHub Actions: no words of a guest are a command or markup, and a summary fits and says what it leaves out."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.comparing.compare import compare
from lab.core.render import comparison as compare_output
from lab.core.render.github import (
    MOST_ANNOTATIONS,
    command,
    harmless,
    harmless_json,
    run_summary,
    workflow_commands,
)
from lab.host.cli import main as cli
from lab.host.cli.results import show_results
from lab.host.publish import github
from lab.host.publish.ci import CiFiles
from tests.recordings import GOLDEN
from tests.records import changed, reference_cells
from tests.unit import runs
from tests.unit.core.render.test_tables import DIFFERS, EVIL, SKIPPED, UNKNOWN, cell

# what a runner registers: a few of them
_KNOWN = ("error", "warning", "add-mask", "stop-commands", "group", "set-output", "save-state", "debug", "notice")
FORGED = (
    "::error::forged",
    "  ::add-mask::x",
    "\t::stop-commands::t",
    "a ##[group]x",
    "##[error]x",
    "\u2003::error::x",
)


def commands_in(text: str) -> list[str]:
    """The lines that the runner takes for commands: as ActionCommand.TryParseV2 and TryParse of actions/runner do."""
    found = []
    for line in re.split("[\r\n]", text):
        new = re.match(r"::([^: ]+)[^:]*::", line.lstrip())
        old = re.search(r"##\[([^\] ]+)[^\]]*\]", line)
        if any(match and match[1] in _KNOWN for match in (new, old)):
            found.append(line)
    return found


# -- workflow commands ------------------------------------------------------------------------------------------------


def test_a_command_is_escaped_as_the_runner_unescapes_it() -> None:
    assert command("error", "50% a:b,c\nd\re", title="x:y,z%") == ("::error title=x%3Ay%2Cz%25::50%25 a:b,c%0Ad%0Ae")
    assert command("warning", "plain") == "::warning::plain"


@given(st.text(), st.text())
def test_a_command_is_one_line_whatever_is_in_it(message: str, title: str) -> None:
    line = command("error", message, title=title)
    assert line.isprintable()
    assert commands_in(line) == [line]
    (told, said) = line.removeprefix("::error title=").split("::", 1)
    assert ":" not in told
    assert "," not in told
    assert "\n" not in said


def test_what_differs_is_an_error_and_what_is_unclear_a_warning() -> None:
    lines = workflow_commands([cell(), DIFFERS, UNKNOWN, SKIPPED], "results/one")
    where = "evidence: results/one/cells/nat-present,iptables=nft@debian12"
    title = "title=nat-present%2Ciptables=nft@debian12"
    assert lines == [
        f"::error {title}::tracked instead of table-full: the table reached its max%0A{where}",
        f"::warning {title}::inconclusive instead of table-full: the machine was lost: panic Kernel panic - not "
        f"syncing%0A{where}",
    ]


def test_no_more_are_told_than_github_shows_and_the_last_says_how_many() -> None:
    assert len(workflow_commands([DIFFERS] * MOST_ANNOTATIONS)) == MOST_ANNOTATIONS
    lines = workflow_commands([DIFFERS] * 30 + [UNKNOWN])
    assert len(lines) == MOST_ANNOTATIONS + 1
    assert lines[MOST_ANNOTATIONS - 1] == "::error::21 more cells: DIFFERS; the step's summary has them"


@pytest.mark.parametrize("words", [*FORGED, EVIL])
@pytest.mark.parametrize("key", ["reason", "variant", "target", "cell", "expected"])
def test_no_words_make_a_further_command(words: str, key: str) -> None:
    (line,) = workflow_commands([changed(DIFFERS, **{key: f"{words}\n{words}"})], words)
    assert commands_in(line) == [line]
    assert line.startswith("::error title=")
    assert line.isprintable()


# -- what is printed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", FORGED)
def test_what_is_printed_is_no_command(words: str) -> None:
    assert commands_in(words)
    assert commands_in(harmless(words)) == []
    assert harmless(words).replace(" ", "") == words.replace(" ", "")


@given(st.text(alphabet="a:#[] \t\r\nerror"))
def test_nothing_is_a_command_after_that(text: str) -> None:
    assert commands_in(harmless(text)) == []
    assert harmless(harmless(text)) == harmless(text)


def test_addresses_stay_readable() -> None:
    text = "from ::1 to fe80::1"
    assert harmless(text) == text


@pytest.mark.parametrize("words", FORGED)
def test_json_means_the_same(words: str) -> None:
    text = json.dumps({"reason": words, words: [words]}, indent=1)
    assert commands_in(harmless_json(text)) == []
    assert json.loads(harmless_json(text)) == json.loads(text)


@given(st.lists(st.text(alphabet="a:#[]\n\r er")))
def test_a_stream_lets_no_command_through_in_whatever_parts_it_is_written(parts: list[str]) -> None:
    to = io.StringIO(newline="")
    stream = github.Harmless(to)
    for part in parts:
        stream.write(part)
    stream.flush()
    assert to.getvalue() == harmless("".join(parts))
    assert commands_in(to.getvalue()) == []


# -- the summary ------------------------------------------------------------------------------------------------------


def outside_of_code(markdown: str) -> str:
    """Markdown without its blocks and spans of code."""
    without = re.sub(r"^(`{3,})text\n.*?\n\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", without)


def test_a_summary_tells_counts_reasons_and_every_cell() -> None:
    text = run_summary([cell(), DIFFERS, UNKNOWN, SKIPPED], "results/one")
    first = text.splitlines()[0]
    assert first == "### conntrack-lab: 4 cells, 1 not as expected, 1 unclear, 1 skipped, 1 as expected"
    assert "\n**DIFFERS** `nat-present,iptables=nft@debian12`: `tracked instead of table-full`, evidence in" in text
    assert "```text\nthe machine was lost: panic\nKernel panic - not syncing\n```" in text
    assert text.count("\n| `") == 4
    assert text.count("<details>") == text.count("</details>") == 1


@pytest.mark.parametrize("words", [*FORGED, EVIL, "``` `a` ``", "|a|", "\\|", "<details>", "@someone #1 http://x.y"])
def test_no_words_are_markup(words: str) -> None:
    keys = ("reason", "variant", "target", "cell", "expected", "finding", "kernel_release")
    text = run_summary([changed(DIFFERS, **dict.fromkeys(keys, words))], words)
    told = outside_of_code(text)
    assert text.isprintable() or all(char.isprintable() or char == "\n" for char in text)
    for sign in ("<script", "http:", "@someone", "[", "::", "\\"):
        assert sign not in told, sign
    assert told.count("<details>") == told.count("</details>") == 1
    (row,) = (line for line in text.splitlines() if line.startswith("| `DIFFERS`"))
    assert row.count("|") == 9


@pytest.mark.parametrize("limit", [0, 50, 200, 1000, 5000, 100_000])
def test_a_summary_fits_and_says_what_is_left_out(limit: int) -> None:
    cells = [changed(DIFFERS, reason="\u20ac" * 200, variant=f"v{number}") for number in range(300)]
    text = run_summary(cells, "results/one", limit)
    assert len(text.encode()) <= limit
    assert ("more are left out here" in text) == (limit >= 100)
    if limit >= 1000:
        assert text.startswith("### conntrack-lab: 300 cells, 300 not as expected\n")
        assert text.count("<details>") == text.count("</details>") == 1


def test_the_whole_reference_fits() -> None:
    cells = reference_cells()
    text = run_summary(cells, "results/reference")
    assert "left out" not in text
    assert text.count("\n| `") == len(cells)


@pytest.mark.parametrize("limit", [100, 3000, 50_000])
def test_a_comparison_fits_too(limit: int) -> None:
    targets = [f"t{number}" for number in range(100)]
    base = runs.run([runs.cell(target=target, reason="\u20ac" * 100) for target in targets])
    new = runs.run([runs.cell("table-full", target=target, reason="\u20ac" * 100) for target in targets])
    text = compare_output.summary(compare(base, new), limit)
    assert len(text.encode()) <= limit
    assert "left out here" in text


# -- where the lab runs in it -----------------------------------------------------------------------------------------


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


def test_a_summary_is_appended(summary: Path) -> None:
    for text in ("first", "second\n"):
        github.append_summary(lambda limit, text=text: text, lambda said: None)  # type: ignore[misc]
    assert summary.read_text() == "first\n\nsecond\n\n"


def test_what_steps_wrote_before_counts(summary: Path) -> None:
    summary.write_bytes(b"x" * (1024 * 1024 - 1000))
    limits: list[int] = []
    github.append_summary(lambda limit: limits.append(limit) or "y" * limit, lambda said: None)  # type: ignore[func-returns-value]
    assert 900 < limits[0] < 1000
    assert summary.stat().st_size <= 1024 * 1024
    said: list[str] = []
    summary.write_bytes(b"x" * (1024 * 1024 - 10))
    github.append_summary(lambda limit: "y", said.append)
    assert summary.stat().st_size == 1024 * 1024 - 10
    assert "is full" in said[0]


def test_where_nothing_fits_that_is_said(summary: Path) -> None:
    github.append_summary(lambda limit: "", lambda said: None)
    assert "More is left out here" in summary.read_text()


def test_a_summary_that_cannot_be_written_costs_nothing(
    summary: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    said: list[str] = []
    github.append_summary(lambda limit: "text", said.append)
    assert "cannot be written" in said[0]
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    github.append_summary(lambda limit: "text", said.append)
    assert len(said) == 1


def test_elsewhere_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    stream = io.StringIO()
    assert github.stream(stream) is stream
    assert github.printed("::error::x") == "::error::x"
    assert github.workflow_commands([DIFFERS], "") == []
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert github.printed("::error::x") == ": :error::x"
    assert github.stream(stream) is not stream
    assert len(github.workflow_commands([DIFFERS], "")) == 1


def test_a_comparison_goes_into_the_summary(
    summary: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    folders = [str(GOLDEN / "compare" / name) for name in ("before", "after")]
    assert cli.main(["compare", *folders]) == 1
    assert summary.read_text().startswith("**changed**: of 5 cells 2 changed, 3 did not\n")
    assert commands_in(capsys.readouterr().out) == []
    assert cli.main(["compare", *folders, "--format", "json"]) == 1
    assert summary.read_text().count("**changed**") == 2


def test_an_error_message_is_no_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for words in FORGED:
        cli.main(["judge", str(tmp_path / words)])
    assert commands_in(capsys.readouterr().err) == []


def test_a_result_is_told_once_to_each_who_reads(
    summary: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    cells = [changed(DIFFERS, reason="bad\n  ::error::forged\n##[error]forged")]
    show_results(cells, tmp_path, "human", CiFiles({"ktap": tmp_path / "out.ktap"}))
    out, err = capsys.readouterr()
    assert commands_in(out) == []
    assert len(commands_in(err)) == 1
    assert summary.read_text().startswith("### conntrack-lab: 1 cell, 1 not as expected")
    assert (tmp_path / "out.ktap").is_file()
