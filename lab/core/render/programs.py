"""The table of docs/firewall-programs.md: each program in each state, on each kernel, as runs found it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lab.core.render.markdown import code, table
from lab.core.result import CellResult

AXIS = "state"
BEGIN = "<!-- measured: made by scripts/write-firewall-programs from runs -->"
END = "<!-- end of measured -->"
_LETTERS = {"untracked": "no", "table-full": "**yes**", "skipped": "skipped"}  # is anything tracked?

Row = tuple[str, str | int]


def programs_table(results: Sequence[CellResult]) -> str:
    """A row for each scenario's state, in the order of the results; a column for each target.

    A cell says whether anything is tracked and in how many runs that was found; another finding is named.
    """
    targets = {cell.target: _kernel(cell) for cell in reversed(results)}
    rows: dict[Row, list[CellResult]] = {}
    for cell in results:
        rows.setdefault((cell.scenario, cell.axes.get(AXIS, "")), []).append(cell)
    names = sorted(targets, key=lambda target: _number(targets[target]))
    header = ("program", "state", *(f"{target}, {targets[target]}" for target in names), "holders")
    lines = [
        (
            f"[{scenario}](scenarios/{scenario}.md)",
            str(state),
            *(_found(cell for cell in cells if cell.target == target) for target in names),
            _holders(cells),
        )
        for (scenario, state), cells in rows.items()
    ]
    return table(header, lines)


def with_programs(page: str, results: Sequence[CellResult]) -> str:
    """A page with the table between its marks made again. Raises ValueError where it has no such marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks the marks {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n{programs_table(results)}\n{end}{after}"


def _found(cells: Iterable[CellResult]) -> str:
    """`**yes** (3 of 3)`; `no (2 of 3), inconclusive (1 of 3)`; `-` where it was not run."""
    counted = Counter(cell.finding for cell in cells)
    total = sum(counted.values())
    return ", ".join(f"{_LETTERS.get(name, name)} ({count} of {total})" for name, count in counted.most_common()) or "-"


def _holders(cells: Sequence[CellResult]) -> str:
    """Of each backend the most holders that a run had, and what in them needs connection tracking."""
    most: dict[str, int] = {}
    needs: dict[str, dict[str, None]] = {}
    for cell in cells:
        for backend, count in Counter(holder.backend for holder in cell.holders or ()).items():
            most[backend] = max(count, most.get(backend, 0))
        for holder in cell.holders or ():
            needs.setdefault(holder.backend, {}).update(dict.fromkeys(holder.depends_on))
    return "; ".join(f"{count} of {backend}: {_needs(needs, backend)}" for backend, count in most.items()) or "-"


def _needs(needs: Mapping[str, Mapping[str, None]], backend: str) -> str:
    return ", ".join(map(code, needs[backend]))


def _kernel(cell: CellResult) -> str:
    return ".".join((cell.kernel_release or "?").split("-")[0].split(".")[:2])


def _number(kernel: str) -> tuple[int, ...]:
    return tuple(int(part) for part in kernel.split(".") if part.isdigit())
