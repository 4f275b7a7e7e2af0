"""Records a command in a terminal as an animated SVG: `record_terminal.py FILE.svg COMMAND...`.

The command runs in a pseudo-terminal, pyte keeps what is on its screen, and each screen that differs becomes a frame.
Nothing is made up: the times are those of the run, cut to the last seconds where it took longer.
"""

from __future__ import annotations

import os
import pty
import select
import struct
import sys
import time
from fcntl import ioctl
from html import escape
from pathlib import Path
from termios import TIOCSWINSZ

import pyte

COLUMNS, ROWS = 112, 16
SECONDS = 10.0  # of the run that are shown; its last ones
STILL_SECONDS = 5.0  # how long the last frame stays before it begins again
FRAME_SECONDS = 0.25
WIDTH, HEIGHT = 7.8, 17.0  # of a character
DEADLINE_SECONDS = 300.0
NO_BREAK = "\N{NO-BREAK SPACE}"  # browsers join several ordinary spaces
COLOURS = {"red": "#ff8f85", "green": "#6fdd8b", "brown": "#e8b44c", "cyan": "#79b8ff", "magenta": "#bc8cff"}


def record(argv: list[str]) -> list[tuple[float, list[str]]]:
    """The screens of a command with the seconds at which each was first seen, as SVG's lines of text."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(f"$ {' '.join(argv[: argv.index('--output')])}\r\n".encode())
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", PATH=f"{Path('.venv/bin').resolve()}:{os.environ['PATH']}")
        os.environ.pop("NO_COLOR", None)
        time.sleep(0.2)  # until the size is set
        os.execvp(argv[0], argv)
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    frames: list[tuple[float, list[str]]] = []
    started = time.monotonic()
    while (now := time.monotonic() - started) < DEADLINE_SECONDS:
        if select.select([terminal], [], [], FRAME_SECONDS)[0]:
            try:
                stream.feed(os.read(terminal, 65536))
            except OSError:
                break
            if frames and now - frames[-1][0] < FRAME_SECONDS:
                continue
        lines = [svg_line(screen, row) for row in range(ROWS)]
        if not frames or frames[-1][1] != lines:
            frames.append((now, lines))
    frames.append((time.monotonic() - started, [svg_line(screen, row) for row in range(ROWS)]))
    os.waitpid(child, 0)
    return frames


def svg_line(screen: pyte.Screen, row: int) -> str:
    """A row of the screen: a `<tspan>` for each stretch of one colour."""
    parts: list[tuple[str, str, int]] = []
    for column in range(COLUMNS):
        char = screen.buffer[row][column]
        if parts and parts[-1][1] == char.fg:
            parts[-1] = (parts[-1][0] + char.data, char.fg, parts[-1][2])
        else:
            parts.append((char.data, char.fg, column))
    return "".join(
        f'<tspan x="{column * WIDTH + 12:.1f}"{colour(fg)}>{escape(text.rstrip()).replace(" ", NO_BREAK)}</tspan>'
        for text, fg, column in parts
        if text.strip()
    )


def colour(name: str) -> str:
    """The colour of a text as an attribute; none for the usual one."""
    found = COLOURS.get(name, f"#{name}" if len(name) == 6 and name != "default" else "")
    return f' fill="{found}"' if found else ""


def svg(frames: list[tuple[float, list[str]]]) -> str:
    """The frames, one after the other and again from the beginning."""
    end = frames[-1][0]
    shown = [(max(0.0, at - (end - SECONDS)), lines) for at, lines in frames if at >= end - SECONDS]
    total = shown[-1][0] + STILL_SECONDS
    width, height = COLUMNS * WIDTH + 24, ROWS * HEIGHT + 24
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        "<title>lab run: live rows while the cells run, then the table</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="#0d1117"/>',
        '<g font-family="ui-monospace, DejaVu Sans Mono, monospace" font-size="12.9" fill="#e6edf3"'
        ' xml:space="preserve">',
    ]
    for number, (at, lines) in enumerate(shown):
        until = shown[number + 1][0] if number + 1 < len(shown) else total
        times = f"0;{at / total:.4f};{until / total:.4f};1" if number else f"0;{until / total:.4f};1"
        values = (
            ("hidden;visible;hidden;hidden" if until < total else "hidden;visible;visible;visible")
            if number
            else ("visible;hidden;hidden")
        )
        still = "visible" if number + 1 == len(shown) else "hidden"  # where nothing moves, the end is shown
        out.append(
            f'<g visibility="{still}"><animate attributeName="visibility" dur="{total:.2f}s" '
            f'calcMode="discrete" repeatCount="indefinite" keyTimes="{times}" values="{values}"/>'
        )
        out += [f'<text y="{row * HEIGHT + 26:.1f}">{line}</text>' for row, line in enumerate(lines) if line]
        out.append("</g>")
    return "\n".join([*out, "</g>", "</svg>", ""])


def main() -> int:
    """Record, and write the file."""
    file, *argv = sys.argv[1:]
    Path(file).write_text(svg(record(argv)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
