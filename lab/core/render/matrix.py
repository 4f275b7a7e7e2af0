"""The matrix: what one run found, states down and kernels across, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lab.core.manifest import Manifest, Target
from lab.core.render.markdown import prose, table
from lab.core.result import CellResult
from lab.core.scenario import BACKEND_AXIS

_KERNEL_PACKAGE = "linux-image-"
_ACCELERATORS = {"tcg": "emulated", "kvm": "with KVM"}
MARKS = (
    ("ok", "as expected"),
    ("DIFFERS", "not as expected"),
    ("unclear", "inconclusive"),
    ("skipped", "skipped"),
    ("-", "not judged"),
)


def matrix_page(manifest: Manifest, cells: Sequence[CellResult], wall_seconds: float, made_by: str) -> str:
    """The page of a run as Markdown, from its manifest and results."""
    parts = [
        f"<!-- Made by {made_by} from results/reference/: change nothing here, and run it again. -->",
        "# The matrix",
        _head(manifest, cells, wall_seconds),
        _legend(cells),
        _findings(manifest, cells),
        "## Versions",
        _versions(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _head(manifest: Manifest, cells: Sequence[CellResult], wall_seconds: float) -> str:
    counts = Counter(cell.mark for cell in cells)
    outcome = ", ".join(f"{counts[name]} {words}" for name, words in MARKS if counts[name])
    made_by, changed = manifest.provisioner, manifest.overrides.words
    how = f"{_ACCELERATORS[made_by.accelerator or '']}, {manifest.host.processors or '?'} processors"
    lines = [
        f"{len(cells)} cells: {outcome}.",
        *_alike(manifest, cells),
        f"Run on {(manifest.started_at or '')[:10]} (UTC) in {duration(wall_seconds)}: conntrack-lab"
        f" {manifest.tool_version}, {prose(made_by.qemu_version or '')}, {how}.",
        *([f"With `{' '.join(changed)}`."] if changed else []),
        "What the findings mean: [findings.md](findings.md). "
        "All numbers: [results/reference](../results/reference/README.md).",
    ]
    return "\n".join(lines)


def _alike(manifest: Manifest, cells: Sequence[CellResult]) -> list[str]:
    """A sentence where no row has two findings: then one column says what all of them do."""
    if len(target_names(manifest, cells)) < 2:
        return []
    rows = [[cell for found in row.values() for cell in found] for row in by_state(cells).values()]
    differing = [row for row in rows if len({cell.finding for cell in row}) > 1]
    if differing:
        return [f"{len(differing)} of {len(rows)} states have another finding on some kernel."]
    kernels = ", ".join(prose(kernel_of(target, manifest, cells)) for target in target_names(manifest, cells))
    return [
        f"Every state has the same finding on all of these kernels: {kernels}.",
        "Where older ones differ: [kernels.md](kernels.md).",
    ]


def _legend(cells: Iterable[CellResult]) -> str:
    lines = ["- L: the kernel logged `table full`."]
    if any(cell.mark in ("DIFFERS", "unclear") for cell in cells):
        lines.append("- **Bold**: not as expected; the expected finding stands behind it.")
    return "\n".join(lines)


def by_state(cells: Iterable[CellResult]) -> dict[tuple[str, str], dict[str, list[CellResult]]]:
    """The cells of each state and target, in their order; a state is a scenario's name and its axes in words."""
    states: dict[tuple[str, str], dict[str, list[CellResult]]] = {}
    for cell in cells:
        axes = [f"iptables-{value}" if axis == BACKEND_AXIS else f"{axis}={value}" for axis, value in cell.axes.items()]
        state = (cell.scenario, ", ".join(axes))
        states.setdefault(state, {}).setdefault(cell.target, []).append(cell)
    return states


def target_names(manifest: Manifest, cells: Iterable[CellResult]) -> list[str]:
    """The targets of a run, each once: those of its manifest, then those that only its cells name."""
    return list(dict.fromkeys((*manifest.targets, *(cell.target for cell in cells))))


def kernel_of(target: str, manifest: Manifest, cells: Iterable[CellResult]) -> str:
    """What the guests said, else what the target's kernel names itself."""
    said = (cell.kernel_release for cell in cells if cell.target == target and cell.kernel_release)
    return next(said, None) or manifest.targets.get(target, Target()).kernel_release or "?"


def outcome_of(cells: Sequence[CellResult]) -> str:
    """A field of the matrix; of repeats, each different outcome with how often it came."""
    counts = Counter(map(_finding, cells))
    if len(cells) == 1 or not cells:
        return "".join(counts)
    return "; ".join(f"{words} ({count}x)" for words, count in counts.most_common())


def _findings(manifest: Manifest, cells: Sequence[CellResult]) -> str:
    """The states that differ between kernels, a column for each; then those that do not, in one column."""
    targets = target_names(manifest, cells)
    outcomes = {
        state: tuple(outcome_of(found.get(target, ())) for target in targets)
        for state, found in by_state(cells).items()
    }
    differing = [
        [", ".join(filter(None, (_link(name), axes))), *shown]
        for (name, axes), shown in outcomes.items()
        if len(set(shown)) > 1
    ]
    alike: dict[tuple[str, str], list[str]] = {}
    for (name, axes), shown in outcomes.items():
        if len(set(shown)) == 1:
            alike.setdefault((name, shown[0]), []).append(axes)
    variants = Counter(name for name, _ in outcomes)
    joined = [[_link(name), _joined(axes, variants[name]), outcome] for (name, outcome), axes in alike.items()]
    kernels = [f"{prose(target)}<br>{prose(kernel_of(target, manifest, cells))}" for target in targets]
    every = "finding on " + ("every kernel" if len(targets) > 1 else f"{prose(targets[0])}") if targets else "finding"
    parts = [table(["state", *kernels], differing)] if differing else []
    parts += [table(["state", "variants", every], joined)] if joined else []
    return "\n\n".join(parts)


def _link(scenario: str) -> str:
    return f"[{scenario}](scenarios/{scenario}.md)"


def _joined(axes: Sequence[str], variants: int) -> str:
    """The variants that share an outcome: all of a scenario's, or each by its axes."""
    if len(axes) == variants > 1:
        return f"all {variants}"
    return "; ".join(axes)


def _finding(cell: CellResult) -> str:
    differs = cell.mark in ("DIFFERS", "unclear") and cell.expected
    words = f"**{cell.finding}**, not {cell.expected}" if differs else cell.finding
    return f"{words}, L" if cell.message_logged else words


def _versions(manifest: Manifest) -> str:
    targets = manifest.targets
    packages = {name: by_role(target.packages or {}) for name, target in targets.items()}
    roles = dict.fromkeys(role for versions in packages.values() for role in versions)
    if not roles:
        return "Not recorded."
    rows = [[role, *(prose(packages[name].get(role, "-")) for name in targets)] for role in roles]
    return table(["package", *map(prose, targets)], rows)


def by_role(packages: Mapping[str, str]) -> dict[str, str]:
    """The kernel's package has another name for each kernel: all of them in one row."""
    return {"kernel" if name.startswith(_KERNEL_PACKAGE) else name: version for name, version in packages.items()}


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `2 h 5 min`."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
