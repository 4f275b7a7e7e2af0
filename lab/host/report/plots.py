"""Plots as small pieces of SVG, drawn with matplotlib: classes instead of colours, so that the page's style decides.

matplotlib's own SVG has 14 kB for each plot, with a font and a colour on every element. So a renderer of the lab's own
takes what matplotlib draws: it keeps the points of lines and the texts, with the names that this module gives them.
Nothing in the result comes from a guest but numbers, and it has no id and no style of its own.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase, GraphicsContextBase, RendererBase
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Transform
from matplotlib.typing import ColorType

from lab.core.render.timeline import Panel

WIDTH, HEIGHT = 400, 190
_AXES = (0.14, 0.13, 0.83, 0.76)  # left, bottom, width, height, of the whole
_FONT_SIZE = 12
_GAP = 6
_HEADROOM = 1.08
_TICKS_UP, _TICKS_ACROSS = 4, 5
_ROUND = (1, 2, 2.5, 5, 10)  # between ticks: so that a max such as 100 has one
_NOTHING = float("nan")  # interrupts a line
_MARK = (1.0, 1.07, _NOTHING)  # where a kernel's message is marked, as a share of the height
_FEW = 40  # so many cells are drawn sooner than another process has started


def draw_all(cells: Sequence[Sequence[Panel]]) -> list[list[Markup]]:
    """Each cell's plots, in their order; of many cells by several processes."""
    workers = min(os.cpu_count() or 1, len(cells) // _FEW)
    if workers < 2:
        return [draw_cell(panels) for panels in cells]
    # not forked: numpy has threads
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(draw_cell, cells, chunksize=8))


def draw_cell(panels: Iterable[Panel]) -> list[Markup]:
    """A cell's plots."""
    return [draw(panel) for panel in panels]


def draw(panel: Panel) -> Markup:
    """A plot as an `<svg>` element; its numbers are told to who cannot see it."""
    figure, axes = _canvas()
    axes.set_xlim(0, panel.seconds)
    axes.set_ylim(0, panel.top * _HEADROOM)
    drawn = [axes.add_artist(line) for line in _lines(panel, axes)]
    renderer = _Renderer()
    figure.draw(renderer)
    for line in drawn:
        line.remove()
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(panel.summary)}">'
    return Markup(f"{head}{renderer.svg()}{''.join(_labels(axes))}</svg>")


def _lines(panel: Panel, axes: Axes) -> Iterator[Line2D]:
    for line in panel.lines:
        xs, ys = zip(*line.points, strict=True)
        yield Line2D(xs, [_NOTHING if y is None else y for y in ys], gid=line.kind)
    upright = axes.get_xaxis_transform()  # heights as shares of the axes'
    if panel.first_drop_seconds is not None:
        yield Line2D([panel.first_drop_seconds] * 2, (0, 1), transform=upright, gid="drop")
    if panel.message_seconds:
        marks = [(x, y) for seconds in panel.message_seconds for x, y in zip([seconds] * 3, _MARK, strict=True)]
        yield Line2D(*zip(*marks, strict=True), transform=upright, gid="message", clip_on=False)


@functools.cache
def _canvas() -> tuple[Figure, Axes]:
    """What every plot is drawn on: to make it takes longer than to draw."""
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)  # one unit is one point
    FigureCanvasBase(figure)
    figure.patch.set_visible(False)
    axes = figure.add_axes(_AXES)
    axes.set_frame_on(False)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.grid(visible=True, gid="grid")
    axes.xaxis.set_major_locator(MaxNLocator(_TICKS_ACROSS, steps=_ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g} s"))
    axes.yaxis.set_major_locator(MaxNLocator(_TICKS_UP, steps=_ROUND, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    return figure, axes


def _labels(axes: Axes) -> Iterator[str]:
    """The numbers at the axes. The browser knows the font, so it lays them out, and no time goes into measuring."""
    for axis, place in ((axes.xaxis, _below), (axes.yaxis, _beside)):
        low, high = axis.get_view_interval()
        shown = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
        for tick, words in zip(shown, axis.get_major_formatter().format_ticks(shown), strict=True):
            yield f"<text {place(axes, tick)}>{escape(words)}</text>"


def _below(axes: Axes, tick: float) -> str:
    x, y = axes.get_xaxis_transform().transform((tick, 0))
    return f'class="below" x="{_short(x)}" y="{_short(HEIGHT - y + _GAP + _FONT_SIZE)}"'


def _beside(axes: Axes, tick: float) -> str:
    x, y = axes.get_yaxis_transform().transform((0, tick))
    return f'class="beside" x="{_short(x - _GAP)}" y="{_short(HEIGHT - y + _FONT_SIZE / 3)}"'


class _Renderer(RendererBase):
    """Keeps the paths that have a name; see matplotlib's backend_template.py for what a renderer must have."""

    def __init__(self) -> None:
        super().__init__()
        self._paths: dict[str, str] = {}  # all of one name are one path: they look the same
        self._names: list[str | None] = []

    def svg(self) -> str:
        """What was drawn, in the order in which each name came first."""
        return "".join(f'<path class="{name}" d="{points}"/>' for name, points in self._paths.items())

    def open_group(self, s: str, gid: str | None = None) -> None:
        """Whatever is drawn until the group ends has this name, or that of the group around it."""
        self._names.append(gid)

    def close_group(self, s: str) -> None:
        """See open_group."""
        self._names.pop()

    def get_canvas_width_height(self) -> tuple[float, float]:
        """In the SVG's units."""
        return WIDTH, HEIGHT

    def draw_path(
        self, gc: GraphicsContextBase, path: Path, transform: Transform, rgbFace: ColorType | None = None
    ) -> None:
        """Keep a line's points."""
        name = next((name for name in reversed(self._names) if name), None)
        points = _points(path, transform)
        if name and points:
            self._paths[name] = self._paths.get(name, "") + points


def _points(path: Path, transform: Transform) -> str:
    """The path's points in the SVG's coordinates, without those that change nothing."""
    points: list[str] = []
    for where, code in path.iter_segments(transform, simplify=True, curves=False):
        x, y = where[-2:]
        point = f"{_short(float(x))} {_short(HEIGHT - float(y))}"
        if not points or points[-1][1:] != point:
            points.append(f"{'M' if code == Path.MOVETO else 'L'}{point}")
    return "".join(points)


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
