"""What a report shows of a run: its matrix, its cells, and what shaped it."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from lab.core.manifest import Manifest, Target
from lab.core.render.matrix import MARKS, by_role, by_state, duration, kernel_of, target_names
from lab.core.render.report_cell import RecordedCell, cell_view
from lab.core.render.report_groups import counts_of_findings, headline
from lab.core.render.views import CellView, Outcome, Report, StateView
from lab.core.result import CellResult

_SHORT_DIGEST = 12


def report(
    name: str,
    manifest: Manifest,
    recorded: Sequence[RecordedCell],
    summaries: Mapping[str, str],
    wall_seconds: float | None = None,
) -> Report:
    """A run's report; `summaries` are those of its scenarios, by name. Raises KeyError or TypeError for damaged steps.

    `manifest` may lack anything: a part that is not there is not shown.
    """
    cells = [cell.result for cell in recorded]
    targets = target_names(manifest, cells)
    views = {id(cell.result): cell_view(f"c{number}", cell) for number, cell in enumerate(recorded, start=1)}
    states = []
    for number, ((scenario, axes), found) in enumerate(by_state(cells).items(), start=1):
        states.append(
            StateView(
                anchor=f"s{number}",
                name=f"{scenario}, {axes}" if axes else scenario,
                summary=summaries.get(scenario, ""),
                fields=tuple(_outcomes(found.get(target, ()), views) for target in targets),
                cells=tuple(views[id(cell)] for target in targets for cell in found.get(target, ())),
            )
        )
    columns = tuple((target, kernel_of(target, manifest, cells)) for target in targets)
    return Report(
        name=name,
        headline=headline(cells, columns),
        outcome=outcome_in_words(cells),
        findings=counts_of_findings(cells),
        incomplete=manifest.complete is False,
        columns=columns,
        states=tuple(states),
        facts=tuple(run_facts(manifest, wall_seconds)),
        versions=_versions([manifest.targets.get(target, Target()) for target in targets]),
    )


def outcome_in_words(cells: Sequence[CellResult]) -> str:
    """`27 cells: 26 as expected, 1 not as expected`."""
    counts = Counter(cell.mark for cell in cells)
    parts = ", ".join(f"{counts[name]:,} {words}" for name, words in MARKS if counts[name])
    return f"{len(cells):,} cell{'s' if len(cells) != 1 else ''}: {parts}"


def run_facts(manifest: Manifest, wall_seconds: float | None = None) -> list[tuple[str, str]]:
    """What shaped the run, by its manifest; what that does not tell is left out."""
    made_by = manifest.provisioner
    accelerator = {"tcg": "emulated", "kvm": "KVM"}.get(made_by.accelerator or "")
    facts = (
        ("command", shlex.join(manifest.command or ())),
        ("started", _time(manifest.started_at)),
        ("took", duration(wall_seconds) if wall_seconds is not None else None),
        ("conntrack-lab", manifest.tool_version),
        ("machines", ", ".join(filter(None, (made_by.qemu_version, accelerator)))),
        ("processors", manifest.host.processors),
        ("changed", " ".join(manifest.overrides.words)),
    )
    return [(name, str(value)) for name, value in facts if value]


def _time(stamp: str | None) -> str:
    """`2026-11-21T00:54:46+00:00` as people read it; anything else as it is."""
    return re.sub(r"^(\S+)T(\d\d:\d\d):\d\d\+00:00$", r"\1 \2 UTC", stamp or "")


def _versions(targets: Sequence[Target]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The packages that matter and the image, each with its version in every target; the kernel is in the head."""
    packages = [by_role(target.packages or {}) for target in targets]
    roles = dict.fromkeys(role for versions in packages for role in versions)
    rows = [(role, [versions.get(role, "-") for versions in packages]) for role in roles]
    names = [target.distribution or "-" for target in targets]
    rows = [("distribution", names), *rows] if any(name != "-" for name in names) else rows
    digests = [(target.image_digest or target.distribution_sha256 or "-")[:_SHORT_DIGEST] for target in targets]
    rows += [("image", digests)] if any(digest != "-" for digest in digests) else []
    return tuple((role, tuple(found)) for role, found in rows)


def _outcomes(cells: Sequence[CellResult], views: Mapping[int, CellView]) -> tuple[Outcome, ...]:
    """Each different outcome of the cells of one field, the most frequent first."""
    groups: dict[tuple[str, str, bool], list[CellView]] = {}
    for cell in cells:
        view = views[id(cell)]
        groups.setdefault((view.finding, view.mark, cell.message_logged is True), []).append(view)
    return tuple(
        Outcome(group[0].anchor, finding, marked, group[0].expected, logged, len(group))
        for (finding, marked, logged), group in sorted(groups.items(), key=lambda group: -len(group[1]))
    )
