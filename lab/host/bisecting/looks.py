"""Looks at kernels: each is prepared, its cells are run as by `lab run`, and what stored runs say of it counts too.

The state of a scan or a bisection is nothing but its runs' folders. So one that was interrupted goes on, what another
command has run with the same output is used, and no cell is run twice.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lab.core.bisecting.bisection import Seen
from lab.core.bisecting.points import Point
from lab.core.errors import LabError, ScenarioError
from lab.core.manifest import Manifest, Target
from lab.core.result import CellResult, exit_status
from lab.core.scenario import scenario_digest
from lab.host.bisecting.kernel import image_of, prepare
from lab.host.cache import Cancelled
from lab.host.kernels.bundle import KernelBundle
from lab.host.machines.agent_package import agent_sha256
from lab.host.machines.kinds import expand_targets
from lab.host.machines.qemu.preparing import Pinned
from lab.host.machines.qemu.targets import KIND, debian
from lab.host.machines.targets import TargetSpec
from lab.host.options import RunOptions
from lab.host.results import layout
from lab.host.results.stored_cell import StoredCell
from lab.host.results.stored_run import opened
from lab.host.run.planned import PlannedRun, plan_on

Say = Callable[[str], None]
RunCells = Callable[[PlannedRun, RunOptions], Path]

# findings that say nothing of the kernel
NO_FINDING = ("inconclusive", "skipped")
EXIT_DIFFERS, EXIT_UNCLEAR = 1, 3  # of lab.core.result.exit_status


@dataclass(frozen=True)
class KernelCell:
    """A stored cell: on which kernel, and in which run's folder."""

    kernel_digest: str
    result: CellResult
    run: Path

    @property
    def boots(self) -> int:
        """How often a machine was booted for it; most are restored from a saved state."""
        return sum("boot" in attempt.stages_seconds for attempt in self.result.tries)


@dataclass(frozen=True)
class Question:
    """What makes two cells the same one, their kernels apart."""

    scenarios: frozenset[str]
    image_sha256s: Mapping[str, str] = field(hash=False)
    connections: int | None
    max: int | None
    agent_sha256: str

    def is_asked_by(self, manifest: Manifest, target: Target) -> bool:
        """Whether a run's cells on this target are such cells, whatever their scenarios."""
        asked = manifest.overrides
        return (
            manifest.agent_sha256 == self.agent_sha256
            and target.image_sha256s == self.image_sha256s
            and (asked.connections, asked.max) == (self.connections, self.max)
        )


@dataclass
class Looks:
    """The kernels, and what is known of them.

    `source_of` gives a kernel's source, perhaps after building it; a LabError of it is why the kernel is skipped. `run`
    runs planned cells and gives their run's folder.
    """

    points: Sequence[Point]
    options: RunOptions
    run: RunCells
    say: Say
    source_of: Callable[[Point], str] = lambda point: point.source
    sources: dict[int, str] = field(default_factory=dict)
    bundles: dict[int, KernelBundle] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    cells: list[KernelCell] = field(default_factory=list)
    boots: int = 0
    cells_run: int = 0

    def __post_init__(self) -> None:
        """Check what is asked for, and read the runs of earlier times. Raises LabError."""
        self.target = single_target(self.options)
        self.planned = plan_on(self.options, (self.target,))
        self.image = image_of(self.target, self.options, self.say)
        self.question = Question(
            frozenset(map(scenario_digest, self.planned.scenarios)),
            dict(self.image.sha256s),
            self.options.connections,
            self.options.max,
            agent_sha256(),
        )
        for manifest in sorted(self.options.output.glob(f"*/{layout.MANIFEST}")):
            if not manifest.parent.is_symlink():  # `latest` is one of the others
                self._read(manifest.parent)

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the variants that are run on every kernel."""
        return tuple(dict.fromkeys(cell.variant.name for cell in self.planned.cells))

    def seen(self, place: int, variant: str) -> Seen:
        """What a kernel showed so far. Of one that was not looked at this time yet, nothing is known."""
        if place in self.skipped:
            return Seen(inconclusive=1, skipped=self.skipped[place])
        results = [cell.result for cell in self.of(place) if cell.result.variant == variant]
        findings = tuple(result.finding for result in results if result.finding not in NO_FINDING)
        others = [result for result in results if result.finding in NO_FINDING]
        return Seen(findings, len(others), f"{others[-1].finding}: {others[-1].reason}" if others else None)

    def of(self, place: int) -> list[KernelCell]:
        """The stored cells of a kernel, the oldest first; equal kernels have the same."""
        if place not in self.bundles:
            return []
        return [cell for cell in self.cells if cell.kernel_digest == self.bundles[place].digest]

    def look(self, totals: Mapping[int, int]) -> None:
        """Look at kernels until each was looked at so often, what stored runs say of them included."""
        lacking: dict[int, list[int]] = {}
        for place, total in totals.items():
            if self._prepare(place) and (missing := total - self._looks(place)) > 0:
                lacking.setdefault(missing, []).append(place)
        for missing, group in lacking.items():
            distinct = {self.bundles[place].digest: place for place in reversed(group)}
            self._run(sorted(distinct.values()), missing)

    def exit_status(self) -> int:
        """As of a run of all cells; a kernel that could not be tried is as an inconclusive one."""
        status = exit_status([cell.result for place in range(len(self.points)) for cell in self.of(place)])
        return EXIT_UNCLEAR if self.skipped and status != EXIT_DIFFERS else status

    def _looks(self, place: int) -> int:
        counts = Counter(cell.result.variant for cell in self.of(place))
        return min(counts[variant] for variant in self.variants)

    def _prepare(self, place: int) -> bool:
        """Whether a kernel can be tried; otherwise it is said and kept why not."""
        if place not in self.bundles and place not in self.skipped:
            point = self.points[place]
            try:
                self.sources[place] = self.source_of(point)
                self.bundles[place] = prepare(self.sources[place], self.target, self.options, self.say)
            except Cancelled:
                raise
            except LabError as error:
                self.skipped[place] = str(error)
                self.say(f"{point.name}: skipped: {error}")
        return place in self.bundles

    def _run(self, places: Sequence[int], times: int) -> None:
        specs = {place: debian(self.target.of, self.sources[place], self.points[place].name) for place in places}
        options = replace(self.options, repeat=times)
        planned = plan_on(options, tuple(specs.values()))
        pinned = {spec.name: Pinned(kernel=self.bundles[place]) for place, spec in specs.items()}
        known = len(self.cells)
        self._read(self.run(replace(planned, pinned=pinned), options))
        self.cells_run += len(planned.cells)
        self.boots += sum(cell.boots for cell in self.cells[known:])

    def _read(self, run: Path) -> None:
        """Add what a run's folder says; one that is damaged, or of another question, says nothing."""
        with contextlib.suppress(LabError, OSError):
            stored = opened(run)
            digests = {
                name: target.kernel_digest
                for name, target in stored.manifest.targets.items()
                if target.kernel_digest and self.question.is_asked_by(stored.manifest, target)
            }
            for cell in _oldest_first(stored.cells) if digests else ():
                result = stored.result(cell)
                if result.target in digests and result.scenario_digest in self.question.scenarios:
                    self.cells.append(KernelCell(digests[result.target], result, run))


def single_target(options: RunOptions) -> TargetSpec:
    """The one target whose userspace the kernels run under. Raises ScenarioError."""
    specs = expand_targets(options.targets)
    if len(specs) != 1 or specs[0].kind != KIND or specs[0].kernel is not None or not specs[0].is_made:
        names = ", ".join(spec.name for spec in specs)
        raise ScenarioError(
            f"--target {names}: kernels are tested under one userspace that QEMU boots",
            hint="name one, without a kernel: --target debian12",
        )
    return specs[0]


def _oldest_first(cells: Iterable[StoredCell]) -> list[StoredCell]:
    return sorted(cells, key=lambda cell: cell.folder.stat().st_mtime)
