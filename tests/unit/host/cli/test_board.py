"""What is under way, and how long it may still take: an estimate is told only where something tells."""

from __future__ import annotations

import pytest

from lab.host.cli.board import Board, clock, overall
from lab.host.run.recording import Progress

LOADING = Progress("load", held=12, connections=300, entries="99", table_max="100", drops=3)


def running(board: Board, *cells: str, at: float = 0.0) -> Board:
    for cell in cells:
        board = board.seen(cell, Progress("state"), at)
    return board


def test_a_cell_begins_with_its_first_word_and_ends_with_its_result() -> None:
    board = Board(2, 0.0).seen("a", Progress("restore"), 5.0).seen("a", LOADING, 7.0)
    assert (board.running["a"].stage, board.running["a"].began_seconds) == (LOADING, 5.0)
    board = board.ended("a", 11.0)
    assert (dict(board.running), dict(board.ended_seconds)) == ({}, {"a": 6.0})
    assert board.ended("never seen", 12.0).ended_seconds["never seen"] == 0.0


def test_the_load_is_remembered_until_another_machine_begins() -> None:
    board = Board(1, 0.0).seen("a", LOADING, 0.0)
    for stage in ("collect", "destroy"):
        board = board.seen("a", Progress(stage), 1.0)
        assert (board.running["a"].stage.stage, board.running["a"].load) == (stage, LOADING)
    board = board.seen("a", Progress("restore"), 2.0)
    assert board.running["a"].load.held is None


def test_nothing_is_guessed_from_nothing() -> None:
    board = running(Board(3, 0.0), "a")
    assert board.left_seconds("a", 4.0) is None
    assert board.all_left_seconds(4.0) is None
    assert overall(board, 4.0) == "0 of 3 cells ended, 0:04 elapsed, time left unknown"


def test_cells_of_this_run_tell_of_the_others() -> None:
    board = running(Board(4, 0.0), "a").ended("a", 10.0)
    board = running(board, "b", at=10.0)
    assert board.left_seconds("b", 14.0) == 6.0
    assert board.all_left_seconds(14.0) == 6.0 + 2 * 10.0


def test_what_a_cell_took_before_tells_most_of_it() -> None:
    board = running(Board(3, 0.0, {"a": 20.0, "b": 40.0}), "a", "c")
    assert board.left_seconds("a", 5.0) == 15.0
    assert board.left_seconds("c", 5.0) == 25.0, "as the others did: their median"
    # two at once: (15 + 25 + 40) / 2
    assert board.all_left_seconds(5.0) == 40.0


def test_the_longest_cell_cannot_be_shared_out() -> None:
    board = running(Board(2, 0.0, {"a": 100.0, "b": 2.0}), "a", "b")
    assert board.all_left_seconds(1.0) == 99.0


def test_a_cell_that_is_late_has_no_estimate_but_does_not_hide_the_others() -> None:
    board = running(Board(2, 0.0, {"a": 10.0, "b": 30.0}), "a")
    assert board.left_seconds("a", 50.0) is None
    assert board.all_left_seconds(50.0) == 30.0


def test_an_earlier_run_of_more_cells_does_not_count_for_more_than_there_are() -> None:
    board = Board(1, 0.0, {"a": 10.0, "b": 30.0})
    assert board.all_left_seconds(0.0) == 10.0
    assert running(board, "c").ended("c", 1.0).all_left_seconds(1.0) == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.9, "0:59"), (60, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (90061, "25:01:01")],
)
def test_a_span_of_time(seconds: float, text: str) -> None:
    assert clock(seconds) == text
