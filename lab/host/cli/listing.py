"""What `lab list` tells: the scenarios and the targets, as columns or as JSON. Only `targets_of` looks at the cache."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.core.plan import variants
from lab.core.scenario import Scenario
from lab.core.text import aligned, columns, printable
from lab.host import images
from lab.host.distributions import table as table_of_distributions
from lab.host.images import boxes
from lab.host.machines.kinds import KINDS
from lab.host.machines.vagrant.targets import BOX_MARK
from lab.host.releases import TARGETS

LIST_VERSION = 1
UNKNOWN = "?"
_LEAST_LAST = 30  # characters that the last column has at least, or it goes below its row
_INDENT = "    "


@dataclass(frozen=True)
class ScenarioRow:
    """A scenario in the list; `expects` are the findings that it expects anywhere, in the file's order."""

    name: str
    variants: tuple[str, ...]
    kind: str
    expects: tuple[str, ...]
    summary: str
    path: str

    def to_json(self) -> dict[str, Any]:
        """As in the JSON of the list."""
        return {**vars(self), "variants": list(self.variants), "expects": list(self.expects)}


@dataclass(frozen=True)
class TargetRow:
    """A target in the list. `kernel` is what it boots, None where that is not known before it is built or chosen;
    `built` is None for what the lab does not build.
    """

    name: str
    kernel: str | None
    built: bool | None
    summary: str

    def to_json(self) -> dict[str, Any]:
        """As in the JSON of the list."""
        return dict(vars(self))


def scenarios_of(scenarios: Sequence[Scenario]) -> tuple[ScenarioRow, ...]:
    """The scenarios as they are listed."""
    return tuple(
        ScenarioRow(
            name=scenario.name,
            variants=tuple(variant.name for variant in variants(scenario)),
            kind=scenario.load.kind,
            expects=tuple(dict.fromkeys(expectation.finding for expectation in scenario.expectations)),
            summary=scenario.summary,
            path=scenario.path,
        )
        for scenario in scenarios
    )


def targets_of() -> tuple[TargetRow, ...]:
    """The targets as they are listed: those of the lab, what it does not build, and the boxes that it built.

    Raises PrerequisiteError for an image or a box that is damaged.
    """
    found = {target: images.load(target) for target in TARGETS.values()}
    own = [
        TargetRow(target.name, image.kernel_release if image else None, image is not None, target.summary)
        for target, image in found.items()
    ]
    foreign = [
        TargetRow(name, kind.kernel(), None, summary)
        for kind in KINDS.values()
        for name, summary in kind.listed.items()
    ]
    built = [
        TargetRow(f"{BOX_MARK}{box.name}", box.kernel_release, True, f"the box {box.file}")
        for box in boxes.list_boxes()
        if boxes.is_current(box)  # by that name, an outdated one would be built again: lab image list has it
    ]
    return (*own, *distributions(), *foreign, *built)


def distributions() -> Iterator[TargetRow]:
    """The rows of the table of distributions. Raises ScenarioError for a table of the user's that cannot be read."""
    for row in table_of_distributions.rows().values():
        digest = "its digest is not known yet: lab image pin" if row.digest is None else f"{row.digest}"[:19]
        yield TargetRow(row.name, None, None, f"{row.summary or row.place} ({digest})")


def scenario_table(rows: Sequence[ScenarioRow], width: int | None) -> str:
    """The scenarios in columns; `width` is that of the terminal, None where lines may be as long as they are."""
    header = ("scenario", "variants", "kind", "expects", "summary")
    cells = [(row.name, str(len(row.variants)), row.kind, " ".join(row.expects) or "-", row.summary) for row in rows]
    return table(header, cells, width)


def target_table(rows: Sequence[TargetRow], width: int | None) -> str:
    """The targets in columns; `width` as above."""
    built = {True: "yes", False: "no", None: "-"}
    cells = [(row.name, row.kernel or UNKNOWN, built[row.built], row.summary) for row in rows]
    return table(("target", "kernel", "built", "summary"), cells, width)


def document(scenarios: Sequence[ScenarioRow] | None, targets: Sequence[TargetRow] | None) -> Mapping[str, Any]:
    """The list as JSON; what was not asked for has no key."""
    return {
        "schema_version": LIST_VERSION,
        **({} if scenarios is None else {"scenarios": [row.to_json() for row in scenarios]}),
        **({} if targets is None else {"targets": [row.to_json() for row in targets]}),
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> str:
    """Headed columns. Within a `width` the last column is wrapped, and where hardly anything of it would fit beside the
    others it stands below its row; nothing is left out.
    """
    plain = [tuple(map(printable, row)) for row in (header, *rows)]
    if width is None:
        return "\n".join(aligned(plain))
    before = sum(width + 2 for width in columns(plain)[:-1])
    if width - before < _LEAST_LAST:
        return "\n".join(_below(plain, width))
    return "\n".join(aligned(line for row in plain for line in _wrapped(row, width - before)))


def _wrapped(row: Sequence[str], width: int) -> list[tuple[str, ...]]:
    first, *more = textwrap.wrap(row[-1], width) or [""]
    blank = ("",) * (len(row) - 1)
    return [(*row[:-1], first), *((*blank, line) for line in more)]


def _below(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    heads = aligned(row[:-1] for row in rows)
    room = max(1, width - len(_INDENT))
    lines: list[str] = []
    for number, (head, row) in enumerate(zip(heads, rows, strict=True)):
        lines += [head, *(f"{_INDENT}{line}" for line in textwrap.wrap(row[-1], room) if number)]
    return lines
