"""Live rows on a terminal, drawn with rich: a row for each cell that runs, and a line for the whole run.

Every word becomes a `Text`, which rich shows as it is: no markup, no emoji, no escape sequence in it means anything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab.core.text import printable, shortened
from lab.host.cli.board import Board, clock, overall

_REFRESH_PER_SECOND = 4
_FALLBACK_COLUMNS, _FALLBACK_LINES = 80, 24
_LEAST_CELL = 25  # characters of a cell's name that other columns make room for: nat-flushed-always-on,nft
_AXIS = re.compile(r"(?<=,)[^,=@]*=")
_TARGET = re.compile(r"@[^@]*?(?=(-r\d+)?$)")
_WIDE = 120
_GAP = 2


class LiveRows:
    """Draws a board in the last lines of a terminal, several times a second, in a thread of its own."""

    def __init__(self, stream: TextIO, board: Callable[[], Board], now: Callable[[], float]) -> None:
        self._stream, self._board, self._now = stream, board, now
        self._closed = False
        # our own stream's size, not that of whichever standard stream rich would ask
        width, height = _size(stream)
        self._console = Console(
            file=stream,
            force_terminal=True,
            force_interactive=True,
            markup=False,
            emoji=False,
            highlight=False,
            width=width,
            height=height,
        )
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=_REFRESH_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def show(self) -> None:
        """See Rows.show."""
        if not (self._closed or self._live.is_started):
            self._live.start(refresh=True)

    def refresh(self) -> None:
        """See Rows.refresh."""
        if self._live.is_started:
            self._live.refresh()

    def line(self, text: str, style: str) -> None:
        """See Rows.line. The terminal wraps a long line, so that it is copied as one."""
        self._console.print(Text(text, style=style), soft_wrap=True)

    def close(self) -> None:
        """See Rows.close."""
        # rich draws everything once more at the end, also what the terminal is too low for and can never take back
        self._closed = True
        self._live.stop()

    def _render(self) -> RenderableType:
        if self._closed:
            return Text("")
        self._console.size = _size(self._stream)
        ascii_only = not self._console.encoding.startswith("utf")
        return rows(self._board(), self._now(), self._console.width - 1, "..." if ascii_only else "…")


@dataclass(frozen=True)
class _Column:
    """A column beside the cell's name; of those that do not fit, the one with the largest `spare` goes first.

    Its width does not depend on what it shows now, as far as that goes: rows that jump cannot be read.
    """

    head: str
    spare: int
    width: int
    show: Callable[[Board, str, float], RenderableType]
    width_where_wide: int = 0  # 0: the same
    right: bool = False


def rows(board: Board, now: float, width: int, gap: str = "…") -> RenderableType:
    """The cells that run, each in a row as far as `width` characters carry, and the line of the whole run."""
    whole = Text(shortened(overall(board, now), width, gap), style="bold")
    if not board.running:
        return whole
    shown = {column: [column.show(board, name, now) for name in board.running] for column in _COLUMNS}
    widths = {column: _width(column, texts, width) for column, texts in shown.items()}
    longest = max(map(len, ["cell", *board.running]))
    fitting = _fitting(widths, width - min(longest, _LEAST_CELL))
    room = min(longest, max(1, width - sum(widths[column] + _GAP for column in fitting)))
    names = names_within(list(board.running), room)
    table = Table.grid(padding=(0, _GAP, 0, 0))
    table.add_column(width=room, no_wrap=True)
    for column in fitting:
        table.add_column(width=widths[column], no_wrap=True, justify="right" if column.right else "left")
    table.add_row(*(Text(head, style="dim") for head in ("cell", *(column.head for column in fitting))))
    for number, name in enumerate(names):
        table.add_row(Text(shortened(printable(name), room, gap)), *(shown[column][number] for column in fitting))
    return Group(table, whole)


def names_within(cells: Sequence[str], room: int) -> Sequence[str]:
    """Names of cells for so many characters: what tells cells apart stays longest. First the names of axes go
    (`iptables=nft` is `nft`), then a target that is the same for all.
    """
    if max(map(len, cells)) <= room:
        return cells
    brief = [_AXIS.sub("", cell) for cell in cells]
    if max(map(len, brief)) <= room or len({found[0] for cell in cells if (found := _TARGET.search(cell))}) > 1:
        return brief
    return [_TARGET.sub("", cell) for cell in brief]


def _fitting(widths: Mapping[_Column, int], room: int) -> Sequence[_Column]:
    """The columns that fit into so many characters."""
    fitting = list(widths)
    while fitting and sum(widths[column] + _GAP for column in fitting) > room:
        fitting.remove(max(fitting, key=lambda column: column.spare))
    return fitting


def _width(column: _Column, texts: Sequence[RenderableType], width: int) -> int:
    least = column.width_where_wide if width >= _WIDE and column.width_where_wide else column.width
    return max([least, *(len(text) for text in texts if isinstance(text, Text) and column.right)])


def _stage(board: Board, name: str, now: float) -> Text:
    seen = board.running[name].stage
    stage = f"mitigation, {seen.stage}" if seen.mitigation else seen.stage
    return Text(printable(stage), style="cyan", overflow="crop")


def _bar(board: Board, name: str, now: float) -> RenderableType:
    load = board.running[name].load
    if load.held is None or not load.connections:
        return Text("")
    return ProgressBar(total=load.connections, completed=load.held)


def _held(board: Board, name: str, now: float) -> Text:
    load = board.running[name].load
    return Text("" if load.held is None else f"{load.held}/{load.connections}")


def _entries(board: Board, name: str, now: float) -> Text:
    load = board.running[name].load
    if load.held is None:
        return Text("")
    if load.entries is None:
        return Text("none")
    return Text(printable(f"{load.entries}/{load.table_max or '?'}"))


def _drops(board: Board, name: str, now: float) -> Text:
    load = board.running[name].load
    if load.held is None:
        return Text("")
    return Text("?") if load.drops is None else Text(str(load.drops), style="red" if load.drops else "")


def _elapsed(board: Board, name: str, now: float) -> Text:
    return Text(clock(now - board.running[name].began_seconds))


def _left(board: Board, name: str, now: float) -> Text:
    left = board.left_seconds(name, now)
    return Text("?" if left is None else f"~{clock(left)}")


_COLUMNS = (
    _Column("stage", 0, 12, _stage, width_where_wide=22),
    _Column("held", 3, 8, _bar, width_where_wide=16),
    _Column("", 6, 11, _held, right=True),
    _Column("entries", 1, 7, _entries, width_where_wide=11, right=True),
    _Column("drops", 2, 5, _drops, right=True),
    _Column("elapsed", 5, 7, _elapsed, right=True),
    _Column("left", 4, 6, _left, right=True),
)


def _size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of the terminal that a stream leads to."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return _FALLBACK_COLUMNS, _FALLBACK_LINES
    return found.columns or _FALLBACK_COLUMNS, found.lines or _FALLBACK_LINES
