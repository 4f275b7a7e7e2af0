"""`lab bisect` with options that do not go together, and `lab run --bisect` as `git bisect run` reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.core.errors import PrerequisiteError
from lab.core.result import CellResult
from lab.host.bisecting import kernel
from lab.host.cli import run
from lab.host.cli.main import main
from tests.unit.runs import cell


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("max-zero", "no kernels are named"),
        ("max-zero --kernels a --git b --build c", "--kernels and --git are two ways"),
        ("max-zero --git .", "--git and --build belong together"),
        ("max-zero --kernels a --build make", "--git and --build belong together"),
        ("max-zero --git . --build make", "--git needs both ends"),
        ("max-zero --kernels /nonexistent", "no such file or folder"),
    ],
)
def test_wrong_options_are_refused_with_a_hint(capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    assert main(["bisect", *words.split()]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "hint:" in said


@pytest.mark.parametrize(
    "words", ["--repeat 0", "--repeat many", "--confidence 0.5", "--confidence 1", "--confidence x"]
)
def test_numbers_that_mean_nothing_are_refused(words: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bisect", "max-zero", "--kernels", "a", *words.split()])
    assert caught.value.code == 2


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[CellResult]:
    """The cells that every run ends with; no kernel is prepared."""
    cells: list[CellResult] = []
    monkeypatch.setattr(run, "run_planned", lambda *planned: (tmp_path, cells))
    monkeypatch.setattr(run, "show_results", lambda *shown: None)
    monkeypatch.setattr(kernel, "prepare_all", lambda planned, options, say: None)
    return cells


def inconclusive() -> CellResult:
    return cell("inconclusive", as_expected=False)


@pytest.mark.parametrize(
    ("cells", "status"),
    [
        ([cell()], 0),
        ([cell("table-full")], 1),
        ([cell("table-full"), inconclusive()], 1),
        ([cell(), inconclusive()], 125),
        ([cell("skipped")], 125),
        ([cell(expected=None, as_expected=None)], 128),
    ],
)
def test_git_reads_good_bad_and_cannot_tell(ended: list[CellResult], cells: list[CellResult], status: int) -> None:
    ended += cells
    assert main(["run", "pristine", "--bisect"]) == status


@pytest.mark.parametrize("words", ["no-such-scenario", "pristine --no-such-option", "pristine --target debain12"])
def test_wrong_usage_stops_git(words: str) -> None:
    assert main(["run", "--bisect", *words.split()]) == 128


def test_a_kernel_that_no_guest_can_boot_is_skipped_by_git(
    ended: list[CellResult], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*asked: object) -> None:
        raise PrerequisiteError("the kernel 6.1 cannot boot a guest: it lacks CONFIG_EXT4_FS", hint="build it in")

    monkeypatch.setattr(kernel, "prepare_all", refuse)
    assert main(["run", "pristine", "--bisect"]) == 125
    assert "it lacks CONFIG_EXT4_FS" in capsys.readouterr().err


def test_an_interrupt_and_a_fault_stop_git(ended: list[CellResult], monkeypatch: pytest.MonkeyPatch) -> None:
    for error, status in ((KeyboardInterrupt(), 130), (ZeroDivisionError(), 128)):

        def fail(*asked: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(run, "run_planned", fail)
        assert main(["run", "pristine", "--bisect"]) == status
