"""A comparison as text: columns for people, and Markdown that fits a comment. Pure: records in, text out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from lab.core.comparing.differences import Difference
from lab.core.comparing.model import LEAST_SHARE, NUMBERS, ComparedCell, Comparison, Number, Run, Sample
from lab.core.comparing.significance import LEVEL, median
from lab.core.render.fitting import Section, fitted, utf8_bytes
from lab.core.render.markdown import block, table_code
from lab.core.text import aligned, printable

# GitHub takes 65,536 characters in a comment
MOST_MARKDOWN = 65_000

_WORDS = {
    "changed": "CHANGED",
    "same": "same",
    "unclear": "unclear",
    "not-comparable": "not comparable",
    "no-finding": "no finding",
}
_HEADER = ("cell", "finding", "repeats", "message", "held", "drops", "first drop")
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_MOST_VALUE = 300
_MOST_NAMED = 5
_MOST_LISTED = 10
_MOST_REASON = 1500
_DIFFERS_MARK = " *"


def human(comparison: Comparison) -> str:
    """A verdict, what differs between the runs, a line for each cell, and why for each that is not the same."""
    runs = [f"{name}: {', '.join(_run(run))}" for name, run in _sides(comparison)]
    rows = [("", *_HEADER), *((_WORDS[cell.verdict], *_row(cell)) for cell in comparison.cells)]
    parts = [
        [f"{comparison.verdict}: {comparison.summary}{_named(comparison.missing, str)}", *runs],
        _with_head("what differs between the runs", _aligned(map(_difference, comparison.differences))),
        _aligned(rows),
        *(_why(cell) for cell in comparison.cells if cell.verdict != "same"),
        list(comparison.unfinished),
        _with_head("only in BASE", _listed(comparison.only_base)),
        _with_head("only in NEW", _listed(comparison.only_new)),
        _method(comparison),
    ]
    return "\n\n".join("\n".join(map(printable, lines)) for lines in parts if lines)


def markdown(comparison: Comparison, limit: int = MOST_MARKDOWN, size: Callable[[str], int] = len) -> str:
    """The same for a pull request: the verdict, the cells that changed, and the rest folded; at most `limit` long, in
    what `size` counts (characters).
    """
    of = {verdict: [cell for cell in comparison.cells if cell.verdict == verdict] for verdict in _WORDS}
    untold = [*of["unclear"], *of["not-comparable"]]
    only = [(name, "BASE") for name in comparison.only_base] + [(name, "NEW") for name in comparison.only_new]
    runs = [f"{name}: {', '.join(map(table_code, _run(run)))}" for name, run in _sides(comparison)]
    missing = _named(comparison.missing, table_code)
    sections = [
        Section(f"**{comparison.verdict}**: {comparison.summary}{missing}\n", ("; ".join(runs),)),
        Section(_table_head(_HEADER), tuple(map(_markdown_row, of["changed"]))),
        Section("", comparison.unfinished),
        _folded("Why", [_markdown_why(cell) for cell in of["changed"]]),
        _folded("What cannot be told", [_markdown_why(cell) for cell in untold]),
        _folded("What differs between the runs", list(map(_difference_row, comparison.differences)), _DIFFERENCES),
        _folded("Only in one run", [_line((table_code(name), run)) for name, run in only], ("cell", "run")),
        _folded("Did not change", list(map(_markdown_row, of["same"])), _HEADER),
        _folded("Without a finding in both", [_markdown_why(cell) for cell in of["no-finding"]]),
        Section("", (" ".join(_method(comparison)).replace("*", r"\*"),)),
    ]
    return fitted([section for section in sections if any(section.lines)], limit, _left_out, size)


def summary(comparison: Comparison, limit_bytes: int) -> str:
    """The same for a summary of a CI's step, of at most `limit_bytes`."""
    return markdown(comparison, min(limit_bytes, MOST_MARKDOWN), utf8_bytes)


FORMATS: Mapping[str, Callable[[Comparison], str]] = {"human": human, "md": markdown}


# -- a cell -----------------------------------------------------------------------------------------------------------


def _row(cell: ComparedCell) -> tuple[str, ...]:
    return (
        cell.label,
        _change(cell, _finding),
        f"{cell.base.size}, {cell.new.size}",
        _change(cell, _message) + _mark(cell, "message"),
        *(_number(cell, number) for number in NUMBERS),
    )


def _number(cell: ComparedCell, number: Number) -> str:
    shown = _NUMBERS[number.name]
    return _change(cell, lambda sample: shown(sample, sample.values(number))) + _mark(cell, number.name)


def _change(cell: ComparedCell, shown: Callable[[Sample], str]) -> str:
    base, new = shown(cell.base), shown(cell.new)
    return base if base == new else f"{base} -> {new}"


def _mark(cell: ComparedCell, test: str) -> str:
    return _DIFFERS_MARK if cell.tests[test].differs else ""


def _finding(sample: Sample) -> str:
    if not sample.findings:
        return sample.cells[0].finding
    if sample.only_finding:
        return sample.only_finding
    ordered = sorted(sample.findings.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}/{sample.size}" for name, count in ordered)


def _message(sample: Sample) -> str:
    logged, known = sample.logged["logged"], sum(sample.logged.values())
    if not known:
        return "?"
    return {0: "no", known: "logged"}.get(logged, f"{logged}/{known}")


def _count(sample: Sample, values: Sequence[float]) -> str:
    """The median; `-` where no load was driven, `?` where it is not known."""
    middle = median(values)
    if middle is None:
        return "?" if any(cell.connections for cell in sample.cells) else "-"
    return f"{middle:.12g}"


def _seconds(_: Sample, values: Sequence[float]) -> str:
    middle = median(values)
    return "-" if middle is None else f"{middle:.2f} s"


_NUMBERS: dict[str, Callable[[Sample, Sequence[float]], str]] = {
    "held": _count,
    "drops": _count,
    "first_drop_seconds": _seconds,
}


def _why(cell: ComparedCell) -> list[str]:
    """The reason of a verdict, and of each finding in it; a line each, those of a guest's words indented."""
    lines = [f"{cell.label}: {_WORDS[cell.verdict]}", f"  {cell.reason}"]
    if cell.verdict not in ("changed", "unclear"):
        return lines
    for name, sample in (("BASE", cell.base), ("NEW", cell.new)):
        for finding, reason in sample.reasons.items():
            first, *more = reason[:_MOST_REASON].splitlines() or [""]
            lines += [f"  {name}, {finding}{_expected(sample, finding)}: {first}", *(f"    {line}" for line in more)]
    return lines


def _expected(sample: Sample, finding: str) -> str:
    """Whether a finding was expected, or what was instead, and why."""
    judged = next((cell for cell in sample.cells if cell.finding == finding and cell.as_expected is not None), None)
    if judged is None:
        return ""
    because = (judged.because or "")[:_MOST_REASON].partition("\n")[0]
    what = "as expected" if judged.as_expected else f"expected {judged.expected}"
    return f" ({what}: {because})" if because else f" ({what})"


# -- the runs ---------------------------------------------------------------------------------------------------------


def _named(names: Sequence[str], shown: Callable[[str], str]) -> str:
    """`: a@x, b@x and 3 more`, the first few by their names; nothing where there are none."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f": {', '.join(map(shown, names[:_MOST_NAMED]))}{more}" if names else ""


def _sides(comparison: Comparison) -> tuple[tuple[str, Run], ...]:
    return ("BASE", comparison.base), ("NEW", comparison.new)


def _run(run: Run) -> list[str]:
    """A run's name, and from its manifest when it began and which lab made it."""
    facts = ((run.manifest.started_at, ""), (run.manifest.tool_version, "conntrack-lab "))
    return [run.name, *(f"{prefix}{value}"[:_MOST_VALUE] for value, prefix in facts if value)]


def _difference(difference: Difference) -> tuple[str, str]:
    return f"  {difference.what}", f"{_value(difference.base)} -> {_value(difference.new)}"


def _value(text: str | None) -> str:
    return "-" if text is None else _DIGEST.sub(r"\1", text)


def _method(comparison: Comparison) -> list[str]:
    """How it was decided; nothing where no test was made."""
    made = {"findings": 0, "messages": 0, "numbers": 0}
    for cell in comparison.cells:
        for name, answer in cell.tests.items():
            kind = {"finding": "findings", "message": "messages"}.get(name, "numbers")
            made[kind] += answer.differs is not None
    if not any(made.values()):
        return []
    counts = ", ".join(f"{count} of {kind}" for kind, count in made.items() if count)
    return [
        f"tests: {counts}; Fisher's exact test for findings and messages, Mann-Whitney U for numbers, two-sided, level "
        f"{LEVEL:g}, corrected for their number by Holm's method, each kind for itself",
        f"* differs by more than chance; of numbers, the medians by at least {LEAST_SHARE:.0%}",
    ]


# -- columns ----------------------------------------------------------------------------------------------------------


def _listed(names: Sequence[str]) -> list[str]:
    """Cells that one run alone has, a line for each as far as people read."""
    more = [f"  and {len(names) - _MOST_LISTED} more: --format json"] if len(names) > _MOST_LISTED else []
    return [*(f"  {name}" for name in names[:_MOST_LISTED]), *more]


def _with_head(head: str, lines: Iterable[str]) -> list[str]:
    body = list(lines)
    return [head, *body] if body else []


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows whose columns stand below each other."""
    return aligned([printable(text) for text in row] for row in rows)


# -- Markdown ---------------------------------------------------------------------------------------------------------


_DIFFERENCES = ("what", "BASE", "NEW")


def _folded(title: str, lines: Sequence[str], header: Sequence[str] = ()) -> Section:
    head = f"<details><summary>{title} ({len(lines)})</summary>\n"
    return Section("\n".join([head, _table_head(header)] if header else [head]), tuple(lines), "\n</details>")


def _left_out(count: int) -> str:
    return f"\n{count} more are left out here; `lab compare --format json` has them."


def _table_head(header: Sequence[str]) -> str:
    return f"{_line(header)}\n{_line(['---'] * len(header))}"


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _markdown_row(cell: ComparedCell) -> str:
    name, *rest = _row(cell)
    return _line([table_code(name), *(text.replace("*", r"\*") for text in rest)])


def _difference_row(difference: Difference) -> str:
    values = (table_code(_value(text)[:_MOST_VALUE]) for text in (difference.base, difference.new))
    return _line([table_code(difference.what), *values])


def _markdown_why(cell: ComparedCell) -> str:
    lines = "\n".join(printable(line) for text in _why(cell) for line in text.splitlines())
    return block(lines, "text") + "\n"
