"""The report in a real Chromium: it opens fast, fits the window, fills its cells, and runs nothing of a guest's.

The screenshots are kept where LAB_SCREENSHOTS names a folder, for people to look at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.host.report import write_report
from tests.browser.chromium import PROGRAMS, Page, browser, find
from tests.stored_runs import hostile_run, large_run, small_run

pytestmark = pytest.mark.browser

CELLS = 1000
WIDTHS = (390, 1280)
FULL = "nat-present,iptables=nft@debian13"

WITHOUT_OVERFLOW = "document.documentElement.scrollWidth <= innerWidth"
OPEN_ALL = "for (const cell of document.querySelectorAll('details')) cell.open = true"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    program = find()
    if program is None:
        pytest.skip(f"none of {', '.join(PROGRAMS)} is installed")
    with browser(program) as made:
        yield made


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reported(small_run(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Path:
    return reported(large_run(tmp_path_factory.mktemp("large"), CELLS, small.parent))


@pytest.fixture(autouse=True)
def quiet(page: Page) -> Iterator[None]:
    """Nothing is asked for but the page, and nothing in it fails or is refused by its policy."""
    page.complaints.clear()
    page.requests.clear()
    yield
    assert page.complaints == []
    assert all(address.startswith("file:///") and address.endswith("report.html") for address in page.requests)


def reported(run: Path) -> Path:
    write_report(run, run / "report.html")
    return run / "report.html"


def look(page: Page, report: Path, name: str, anchor: str = "") -> None:
    """Open the page, see that it fits, and keep a screenshot."""
    page.open(f"file://{report}{anchor}")
    assert page.evaluate(WITHOUT_OVERFLOW), name
    if folder := os.environ.get("LAB_SCREENSHOTS"):
        page.screenshot(Path(folder) / f"{name}.png")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", ["small", "large"])
def test_it_fits_the_window(page: Page, request: pytest.FixtureRequest, size: str, width: int, dark: bool) -> None:
    report: Path = request.getfixturevalue(size)
    page.look_as(width, 1000, dark=dark)
    name = f"{size}-{width}-{'dark' if dark else 'light'}"
    look(page, report, name)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    look(page, report, f"{name}-cell", "#c18")
    assert page.evaluate("document.getElementById('c18').closest('details').open")
    assert page.evaluate("document.querySelectorAll('#c18 svg.plot').length") == 2
    assert page.evaluate("document.querySelectorAll('svg').length") == 2, "only what is open is drawn"


def test_a_thousand_cells_open_in_two_seconds(page: Page, large: Path, tmp_path: Path) -> None:
    """Measured in processor time, of which a browser on an idle machine needs no more than it has."""
    empty = tmp_path / "report.html"
    empty.write_text("<!doctype html><title>empty</title>")
    page.look_as(1280, 1000)
    spent = []
    for _ in range(3):
        before = page.processor_seconds()
        page.open(f"file://{empty}")
        between = page.processor_seconds()
        page.open(f"file://{large}")
        spent.append((page.processor_seconds() - between) - (between - before))
    assert min(spent) < 2, spent
    assert large.stat().st_size < 8_000_000


def test_a_field_of_the_matrix_leads_to_its_cell(page: Page, small: Path) -> None:
    page.look_as(1280, 1000)
    page.open(f"file://{small}")
    for _ in range(2):  # the second time the address stays the same
        page.evaluate("scrollTo(0, 0); document.querySelector('a.outcome-link[href=\"#c20\"]').click()")
        page.evaluate("new Promise((done) => setTimeout(done, 300))")
        top = page.evaluate("document.querySelector('#c20').closest('details').getBoundingClientRect().top")
        assert 0 <= top < 100
        assert page.evaluate("document.activeElement.parentElement.contains(document.querySelector('#c20'))")
    page.press("Enter", 13, "\r")
    assert not page.evaluate("document.querySelector('#c20').closest('details').open")


def test_cells_can_be_searched(page: Page, small: Path) -> None:
    page.look_as(1280, 1000)
    page.open(f"file://{small}")
    assert page.evaluate("document.getElementById('shown').textContent") == "28 cells"
    page.evaluate("words.value = 'PRESENT forky'; words.dispatchEvent(new Event('input'))")
    assert page.evaluate("document.getElementById('shown').textContent") == "2 of 28 cells"
    visible = "[...document.querySelectorAll('.cell')].filter((one) => one.checkVisibility()).length"
    assert page.evaluate(visible) == 2
    page.evaluate("only.click()")
    assert page.evaluate(visible) == 0


def test_without_scripts_everything_can_be_read(page: Page, small: Path) -> None:
    page.look_as(390, 1000, script=False)
    page.open(f"file://{small}#c18")
    assert page.evaluate("document.querySelectorAll('svg.plot').length") == 44
    assert page.evaluate("document.getElementById('c18').closest('details').open"), "a link opens it all the same"
    assert not page.evaluate("document.querySelector('.search').checkVisibility()")
    assert page.evaluate(WITHOUT_OVERFLOW)
    page.look_as(390, 1000)


@pytest.mark.parametrize("policy", [True, False], ids=["with its policy", "without its policy"])
@pytest.mark.parametrize("script", [True, False], ids=["with scripts", "without scripts"])
def test_nothing_of_a_guest_runs(page: Page, small: Path, tmp_path: Path, policy: bool, script: bool) -> None:
    """The texts would run if they were markup; the policy is a second wall, and the first one must hold alone."""
    report = reported(hostile_run(tmp_path / "evil", small.parent, FULL))
    page.look_as(390, 1000, script=script)
    page.call("Page.setBypassCSP", enabled=not policy)
    try:
        look(page, report, f"hostile-{'script' if script else 'plain'}", "#c1")
        page.evaluate(OPEN_ALL)
        time.sleep(0.5)  # as scripts may be off, no timer of the page's would end
        assert page.evaluate("typeof evil") == "undefined"
        assert page.evaluate("document.querySelectorAll('img, iframe, template, textarea, b').length") == 0
        assert page.evaluate("document.querySelectorAll('svg').length") == 2
        assert page.evaluate("document.querySelectorAll('style').length") == 1
    finally:
        page.call("Page.setBypassCSP", enabled=False)
        page.look_as(390, 1000)
