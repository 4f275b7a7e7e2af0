"""The page of a run: whole in itself, readable without its script, and no text in it is more than text."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from lab.core.errors import LabError, ScenarioError
from lab.host.cli import main as cli
from lab.host.report import MADE_BY, report_html, report_markdown, write_report
from tests import ROOT
from tests.recordings import GOLDEN
from tests.stored_runs import hostile_run, read, small_run, write

TEMPLATES = ROOT / "lab" / "host" / "report" / "templates"
FULL, BLOCKED = "nat-present,iptables=nft@debian13", "modules-blocked,iptables=legacy@debian13"
VOID = frozenset({"meta", "link", "br", "input"})


class Seen(HTMLParser):
    """A page as a browser without scripts takes it: elements in their order, and what is in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self._inside: list[str] = []
        self.feed(text)
        self.close()
        assert self._inside == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._inside.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((tuple(self._inside), data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def within(self, tag: str) -> list[str]:
        """The texts that are in elements of this name."""
        return [text for inside, text in self.texts if tag in inside]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    return report_html(run, run / "report.html")


@pytest.fixture(scope="module")
def page(text: str) -> Seen:
    return Seen(text)


# -- what it shows ----------------------------------------------------------------------------------------------------


def test_the_matrix_has_every_state_and_kernel(page: Seen) -> None:
    columns = [words for words in page.within("thead") if words.startswith(("debian", "forky"))]
    assert columns == ["debian11", "debian12", "debian13", "forky"] * 2  # and again in the versions
    assert "nat-flushed-always-on, iptables-nft" in page.within("tbody")
    anchors = [link["href"] for link in page.all("a") if (link.get("class") or "").startswith("outcome-link")]
    assert sorted(anchors, key=str) == sorted((f"#c{number}" for number in range(1, 29)), key=str)


def test_each_cell_shows_its_evidence(page: Seen, text: str) -> None:
    assert len([one for one in page.all("details") if (one["class"] or "").startswith("cell ")]) == 28
    assert "the table reached its max (100 of 100 entries)" in html.unescape(text)
    for words in ("Numbers", "What holds conntrack", "Is conntrack attached?", "Commands of the state", "Evidence"):
        assert page.within("h5").count(words) == 28
    assert any(one.startswith("iptables-nft --table nat --append") for one in page.within("pre"))
    assert any("table full, dropping packet (10 times" in one for one in page.within("pre"))
    assert "-A POSTROUTING -o eth0 -j MASQUERADE" in page.within("code")
    assert "No load was sampled, so there is nothing to draw." in page.within("p")


def test_plots_are_small_and_told_in_words(page: Seen, text: str) -> None:
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) == len(page.all("figure")) == 44  # 24 cells had a load, in 4 of them there was no table
    assert max(map(len, plots)) < 5000
    for svg in page.all("svg"):
        assert svg["role"] == "img" and re.match(r"(Entries|Connections) in \d", svg["aria-label"] or "")
    full = next(plot for plot in plots if "first drop" in plot)
    assert all(f'<path class="{name}" d="M' in full for name in ("grid", "entries", "max", "drop", "message"))
    assert re.search(r'<text class="beside" x="50" y="[\d.]+">100</text>', full)
    assert not re.search(r"<svg[^>]* id=|style=|<defs|<metadata|nan", "".join(plots))


def test_links_lead_to_the_evidence(page: Seen, run: Path) -> None:
    links = [href for one in page.all("a") if (href := one["href"]) and not href.startswith("#")]
    assert len(links) > 28 * 10
    for link in links:
        assert (run / unquote(link)).exists()


def test_links_from_elsewhere(run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a" / "page.html"
    elsewhere.parent.mkdir()
    write_report(run, elsewhere)
    links = [href for one in Seen(elsewhere.read_text()).all("a") if (href := one["href"]) and "kmsg" in href]
    assert links and all((elsewhere.parent / unquote(link)).is_file() for link in links)


def test_results_alone_are_enough(run: Path, tmp_path: Path) -> None:
    """As in results/reference: no cells, so no plots."""
    alone = tmp_path / run.name
    alone.mkdir()
    for name in ("manifest.json", "results.json"):
        shutil.copy(run / name, alone)
    page = Seen(report_html(alone, alone / "report.html"))
    assert "The run's folder has no evidence." in page.within("p")
    assert report_markdown(alone) == report_markdown(run)


# -- whole in itself, and accessible ----------------------------------------------------------------------------------


def test_it_needs_nothing_and_allows_nothing(page: Seen, text: str) -> None:
    assert not {name for name, _ in page.elements} & {"img", "iframe", "object", "embed", "form", "base"}
    assert [one["href"] for one in page.all("link")] == ["data:,"]
    assert not [one for _, one in page.elements if {"style", "src", "srcset"} & set(one)]
    assert not [name for _, one in page.elements for name in one if name.startswith("on")]
    assert "http:" not in text.replace("http-equiv", "") and "https:" not in text
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv")) or ""
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for name, tag in (("style-src", "style"), ("script-src", "script")):
        (source,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert rules[name] == f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def test_the_policy_stands_before_whatever_it_governs(page: Seen) -> None:
    names = [name for name, _ in page.elements]
    assert names[:4] == ["html", "head", "meta", "meta"]
    assert page.elements[3][1]["http-equiv"] == "Content-Security-Policy"


def test_headings_are_in_order(page: Seen) -> None:
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_tables_and_fields_are_labelled(page: Seen) -> None:
    assert len(page.all("caption")) == len(page.all("table")) == 2
    assert {one.get("scope") for one in page.all("th")} == {"row", "col"}
    ids = [one["id"] for _, one in page.elements if "id" in one]
    assert len(ids) == len(set(ids))
    references = {one["aria-labelledby"] for _, one in page.elements if "aria-labelledby" in one}
    references |= {href[1:] for one in page.all("a") if (href := one["href"] or "").startswith("#")}
    references |= {one["for"] for one in page.all("label") if "for" in one}
    assert references <= set(ids)
    assert next(one for name, one in page.elements if name == "html")["lang"] == "en"
    assert "width=device-width" in str(page.all("meta"))


def colours() -> list[dict[str, str]]:
    """The style's variables, in light and in dark."""
    blocks = re.findall(r":root \{(.*?)\}", (TEMPLATES / "page.css").read_text(), re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast(scheme: int) -> None:
    both = colours()
    assert len(both) == 2 and both[0].keys() == both[1].keys()
    colour = both[scheme]
    for words in ("text", "faint", "link", "bad", "unclear", "good"):
        for ground in ("page", "raised"):
            assert contrast(colour[words], colour[ground]) >= 4.5, (words, ground)
    for finding in ("untracked", "tracked", "table-full", "evicted", "other-loss", "state-refused", "inconclusive"):
        assert contrast(colour["text"], colour[finding]) >= 4.5, finding
    for line in ("entries", "max", "held", "stalled", "failed", "open", "newcomers", "drop", "message"):
        assert contrast(colour[line], colour["page"]) >= 3, line


def test_no_line_is_told_by_its_colour_alone() -> None:
    style = (TEMPLATES / "page.css").read_text()
    for solid, *others in (("entries", "max"), ("held", "stalled", "failed", "open", "newcomers")):
        dashes = [re.findall(rf"\.plot \.{name} \{{[^}}]*dasharray: ([\d ]+)", style) for name in (solid, *others)]
        assert dashes[0] == [] and all(dashes[1:])
        assert len({str(one) for one in dashes}) == len(dashes)


# -- hostile evidence -------------------------------------------------------------------------------------------------


def test_no_text_is_more_than_text(run: Path, tmp_path: Path) -> None:
    """The page has the elements that it has with harmless texts, and none of their attributes is another."""
    text = report_html(hostile_run(tmp_path / "evil", run, FULL), tmp_path / "evil" / "report.html")
    page = Seen(text)
    assert "\x1b" not in text and "\u202e" not in text and "\x00" not in text
    assert len(page.all("script")) == len(page.all("style")) == len(page.all("title")) == 1
    assert not {"img", "iframe", "textarea", "template", "b"} & {name for name, _ in page.elements}
    known = (
        "aria-label aria-labelledby charset class content d for href http-equiv id lang name rel role scope tabindex"
    )
    known += " open viewbox x y type autocomplete spellcheck hidden"
    assert {name for _, one in page.elements for name in one} <= set(known.split())
    links = [one["href"] or "" for one in page.all("a")]
    assert all(link.startswith(("#", "./")) for link in links)
    assert all((tmp_path / "evil" / unquote(link)).exists() for link in links if link.endswith(".log"))
    assert "{{ 7*7 }}{% x %}" in text and "<b>ticks</b>" in page.within("code")


def test_hostile_evidence_as_markdown(run: Path, tmp_path: Path) -> None:
    text = report_markdown(hostile_run(tmp_path / "evil", run, FULL))
    text.encode()
    fence = "\n```\n"
    assert text.count(fence) == 2
    outside = (text.partition(fence)[0] + text.rpartition(fence)[2]).replace("<br>", "").removeprefix("<!--")
    without_code = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", outside)  # a code span ends with as many backticks
    assert "<" not in without_code and len(without_code) < len(outside)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ("no json\n", "The samples cannot be read: sample 1"),
        ('{"seconds": 0}\n{"seconds": 1, "count": "9999999999999999", "max": "1"}\n', "a number above"),
        ('{"seconds": 0, "held": 1e400}\n', "cannot be read"),
        ("", "No load was sampled"),
        ("\xff", "cannot be read"),
    ],
)
def test_damaged_samples_do_not_stop_the_page(run: Path, tmp_path: Path, samples: str, words: str) -> None:
    cell = one_cell(tmp_path, run)
    (cell / "evidence" / "samples.jsonl").write_bytes(samples.encode("latin-1"))
    (cell / "kmsg.log").write_bytes(b"\xff\n")
    assert any(words in one for one in Seen(report_html(tmp_path, tmp_path / "x.html")).within("p"))


# -- wrong folders, and where it is written ---------------------------------------------------------------------------


def one_cell(folder: Path, run: Path, cell: str = FULL) -> Path:
    shutil.copytree(run / "cells" / cell, folder / "cells" / cell)
    return folder / "cells" / cell


def no_result(cell: Path) -> None:
    (cell / "result.json").unlink()


def no_finding(cell: Path) -> None:
    result = read(cell / "result.json")
    del result["finding"]
    write(cell / "result.json", result)


def odd_holder(cell: Path) -> None:
    write(cell / "result.json", {**read(cell / "result.json"), "holders": [{"rule": "x"}]})


def odd_plan(cell: Path) -> None:
    write(cell / "plan.json", {"steps": [{"kind": "run"}]})


def newer(cell: Path) -> None:
    write(cell.parents[1] / "results.json", {"schema_version": 99, "cells": []})


def no_cells(cell: Path) -> None:
    shutil.rmtree(cell)


def no_run(cell: Path) -> None:
    shutil.rmtree(cell.parent)


@pytest.mark.parametrize(
    ("damage", "message", "hint"),
    [
        (no_result, "has no result.json", "lab judge"),
        (no_finding, ": finding: is missing", "lab judge"),
        (odd_holder, "holders[0].kind: is missing", "lab judge"),
        (odd_plan, "is damaged: KeyError", "lab judge"),
        (newer, "schema_version is 99", "newer"),
        (no_cells, "no cell of this run has ended", "results/latest"),
        (no_run, "is no run's folder", "results/latest"),
    ],
)
def test_what_is_no_run(run: Path, tmp_path: Path, damage: Callable[[Path], None], message: str, hint: str) -> None:
    damage(one_cell(tmp_path, run))
    makers: tuple[Callable[[], object], ...] = (
        lambda: report_html(tmp_path, tmp_path / "x.html"),
        lambda: report_markdown(tmp_path),
    )
    for make in makers:
        with pytest.raises(ScenarioError, match=re.escape(message)) as raised:
            make()
        assert hint in raised.value.hint


def test_nothing_but_the_page_is_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_cell(tmp_path, run, BLOCKED)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for _ in range(2):  # the second one is written over the first
        assert cli.main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/report.html\n" * 2
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert {path for path in after if after[path] != before.get(path)} == {tmp_path / "report.html"}


def test_markdown_goes_to_stdout_or_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(run), "--format", "md"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"<!-- {MADE_BY} -->") and "| pristine | untracked |" in out
    file = tmp_path / "run.md"
    for _ in range(2):
        assert cli.main(["report", str(run), "--format", "md", "--output", str(file)]) == 0
    assert file.read_text() == out


def test_what_is_no_report_is_not_written_over(run: Path, tmp_path: Path) -> None:
    there = tmp_path / "results.json"
    there.write_text("{}")
    for output, words in ((there, "is no report"), (tmp_path, "cannot be written"), (tmp_path / "no" / "x", "cannot")):
        with pytest.raises(LabError, match=words) as raised:
            write_report(run, output)
        assert "--output" in raised.value.hint
    assert there.read_text() == "{}"


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_without_the_extra_everything_else_runs(run: Path, library: str) -> None:
    program = f"""if True:
        import sys
        sys.modules[{library!r}] = None
        from lab.host.cli import main as cli
        assert cli.main(["list", "scenarios"]) == 0
        assert cli.main(["report", {str(run)!r}, "--format", "md"]) == 0
        sys.exit(cli.main(["report", {str(run)!r}]))"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2, done.stderr
    assert f"lab report needs {library}, which is not installed" in done.stderr
    assert "hint: pip install 'conntrack-lab[report]'" in done.stderr
    assert not (run / "report.html").exists()


def test_golden_cells_are_not_judged_here() -> None:
    with pytest.raises(ScenarioError, match=r"has no result\.json"):
        report_markdown(GOLDEN)
