"""Two runs side by side: whose findings changed, which numbers differ by more than chance, and what cannot be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lab.core.comparing.differences import (
    Difference,
    manifest_differences,
    meaning_differences,
    program_differences,
    target_differences,
)
from lab.core.comparing.matching import TargetPair, match_targets, named
from lab.core.comparing.significance import LEVEL, holm, median, outcome_factor, outcomes_test, rank_test, smallest_p
from lab.core.errors import ScenarioError
from lab.core.text import plural, printable

# 1 - first version of what --format json prints.
COMPARE_VERSION = 1

Json = Mapping[str, Any]

# the least by which medians must differ, as a share of the larger one, for numbers to be called different
LEAST_SHARE = 0.1
_NO_FINDING = ("inconclusive", "skipped")
# findings that cannot be told to be the same or not: exit status 3 where none changed
_UNTOLD = ("unclear", "not-comparable")


@dataclass(frozen=True)
class Number:
    """A number of a result that is compared; medians that differ by less than `least` are the same."""

    name: str
    least: float
    of: Callable[[Json], float | None]


NUMBERS = (
    Number("held", 1, lambda cell: (cell["connections"] or {}).get("held")),
    Number("drops", 1, lambda cell: cell["drops"]),
    # two samples at 20 Hz
    Number("first_drop_seconds", 0.1, lambda cell: cell["first_drop_seconds"]),
)


@dataclass(frozen=True)
class Run:
    """A run as it is stored; `meanings` are those of its scenarios whose files it keeps."""

    name: str
    manifest: Json = field(hash=False)
    cells: tuple[Json, ...] = field(hash=False)
    meanings: Mapping[str, Json] = field(default_factory=dict, hash=False)

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets of the cells, each once, in their order."""
        return tuple(dict.fromkeys(str(cell["target"]) for cell in self.cells))

    def part(self, *path: str) -> Json:
        """A table of the manifest; an empty one where it is absent or none."""
        found: object = self.manifest
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def to_json(self) -> dict[str, Any]:
        """As in a comparison's `base` and `new`."""
        names = ("tool_version", "started_at", "complete")
        return {"run": self.name, **{name: self.manifest.get(name) for name in names}}


@dataclass(frozen=True)
class Sample:
    """The repeats of one variant on one target in one run."""

    target: str
    cells: tuple[Json, ...] = field(hash=False)

    @cached_property
    def findings(self) -> Mapping[str, int]:
        """How often each finding came; what is inconclusive or skipped is none."""
        return Counter(cell["finding"] for cell in self.cells if cell["finding"] not in _NO_FINDING)

    @property
    def size(self) -> int:
        """How many findings there are."""
        return sum(self.findings.values())

    @property
    def only_finding(self) -> str | None:
        """The finding of all repeats that have one; None where they vary, or none has one."""
        return next(iter(self.findings)) if len(self.findings) == 1 else None

    @property
    def untold(self) -> tuple[Json, ...]:
        """The cells that are inconclusive where the scenario does not expect that."""
        return tuple(one for one in self.cells if one["finding"] == "inconclusive" and one["as_expected"] is not True)

    @property
    def logged(self) -> Mapping[str, int]:
        """How often the kernel's message was there, and how often not; where that is unknown is left out."""
        seen = (cell["message_logged"] for cell in self.cells if cell["finding"] not in _NO_FINDING)
        return Counter("logged" if logged else "not logged" for logged in seen if logged is not None)

    def values(self, number: Number) -> tuple[float, ...]:
        """A number in every repeat that has a finding and the number."""
        found = (number.of(cell) for cell in self.cells if cell["finding"] not in _NO_FINDING)
        return tuple(value for value in found if value is not None)

    def to_json(self) -> dict[str, Any]:
        """As in a compared cell's `base` and `new`."""
        told = [cell for cell in self.cells if cell["finding"] not in _NO_FINDING]
        without = [cell for cell in self.cells if cell["finding"] in _NO_FINDING]
        return {
            "target": self.target,
            "cells": [cell["cell"] for cell in self.cells],
            "kernel_releases": _distinct(cell["kernel_release"] for cell in self.cells),
            "findings": dict(self.findings),
            "expected": _distinct(cell["expected"] for cell in self.cells),
            "reasons": {cell["finding"]: cell["reason"] for cell in reversed(told)},
            "without_finding": [{name: cell[name] for name in ("cell", "finding", "reason")} for cell in without],
            "message": {"logged": self.logged["logged"], "known": sum(self.logged.values())},
            "numbers": {number.name: list(self.values(number)) for number in NUMBERS},
        }


@dataclass(frozen=True)
class Answer:
    """What a test says; `differs` is None where none was made, and `why` then says why not."""

    p_value: float | None = None
    corrected_p_value: float | None = None
    differs: bool | None = None
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As in a compared cell's `tests`."""
        return dict(vars(self))


@dataclass(frozen=True)
class ComparedCell:
    """A variant on a pair of targets, in both runs."""

    label: str
    variant: str
    scenario: str
    base: Sample
    new: Sample
    verdict: str  # changed, same, unclear, not-comparable, no-finding
    reason: str
    tests: Mapping[str, Answer] = field(hash=False)  # of finding, message, and each of NUMBERS

    def to_json(self) -> dict[str, Any]:
        """As in a comparison's `cells`."""
        return {
            "cell": self.label,
            "variant": self.variant,
            "scenario": self.scenario,
            "verdict": self.verdict,
            "reason": self.reason,
            "base": self.base.to_json(),
            "new": self.new.to_json(),
            "tests": {name: answer.to_json() for name, answer in self.tests.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """Two runs, compared."""

    base: Run
    new: Run
    targets: tuple[TargetPair, ...]
    cells: tuple[ComparedCell, ...]
    only_base: tuple[str, ...]
    only_new: tuple[str, ...]
    unfinished: tuple[str, ...]  # a sentence for each run that did not end and lacks cells of the other
    differences: tuple[Difference, ...]
    missing: tuple[str, ...] = ()  # cells of BASE that NEW lacks and ought to have
    strict: bool = False  # what cannot be told is as bad as a change

    @property
    def verdicts(self) -> Mapping[str, int]:
        """How many cells have each verdict."""
        return Counter(cell.verdict for cell in self.cells)

    @property
    def verdict(self) -> str:
        """changed, unclear, incomplete (nothing else is wrong, but NEW lacks cells), or same."""
        if self.verdicts["changed"]:
            return "changed"
        if self.unfinished or any(self.verdicts[name] for name in _UNTOLD):
            return "unclear"
        return "incomplete" if self.missing else "same"

    @property
    def exit_status(self) -> int:
        """1 a finding changed, 3 none did, but something could not be told (1 where that is strict), else 0."""
        untold = 1 if self.strict else 3
        return {"changed": 1, "unclear": untold, "incomplete": untold, "same": 0}[self.verdict]

    @property
    def summary(self) -> str:
        """One sentence with the numbers of cells."""
        words = (
            ("changed", "changed"),
            ("same", "did not"),
            ("unclear", "cannot be told"),
            ("not-comparable", "cannot be compared"),
            ("no-finding", "without a finding in both"),
        )
        told = [f"{self.verdicts[name]} {text}" for name, text in words if self.verdicts[name] or name == "changed"]
        lacks = f"; NEW lacks {plural(len(self.missing), 'cell')} of BASE" if self.missing else ""
        return f"of {plural(len(self.cells), 'cell')} {', '.join(told)}{lacks}"

    def to_json(self) -> dict[str, Any]:
        """What --format json prints."""
        return {
            "schema_version": COMPARE_VERSION,
            "verdict": self.verdict,
            "exit_status": self.exit_status,
            "summary": self.summary,
            "base": self.base.to_json(),
            "new": self.new.to_json(),
            "targets": [dict(vars(pair)) for pair in self.targets],
            "differences": [one.to_json() for one in self.differences],
            "cells": [cell.to_json() for cell in self.cells],
            "only_base": list(self.only_base),
            "only_new": list(self.only_new),
            "missing": list(self.missing),
            "unfinished": list(self.unfinished),
            "method": {
                "level": LEVEL,
                "correction": "holm",
                "least_share": LEAST_SHARE,
                "least": {number.name: number.least for number in NUMBERS},
            },
        }


def compare(
    base: Run, new: Run, matches: Sequence[str] = (), *, subset: bool = False, strict: bool = False
) -> Comparison:
    """Compare two runs. `matches` are `TARGET=TARGET` texts: these targets, and no others. With `subset` NEW is meant
    to have fewer cells than BASE; otherwise those that it lacks are missing.

    Raises ScenarioError where the runs have nothing in common, or nothing that can be compared.
    """
    _check_overrides(base, new)
    targets = match_targets(base.targets, new.targets, matches)
    pairs = _pairs(base, new, targets)
    if not pairs:
        raise ScenarioError(
            f"{base.name} and {new.name} have no cell in common: targets {named(base.targets)} and "
            f"{named(new.targets)}",
            hint="run the same scenarios, or match targets with --match TARGET=TARGET",
        )
    cells = _compared(pairs, base, new)
    if all(_digests(pair) for pair in pairs):
        raise ScenarioError(
            "\n".join([f"{base.name} and {new.name} cannot be compared", *_refusals(cells)]),
            hint="run one of them again with the scenarios of the other",
        )
    only_base, only_new = _only_in_one(base, new, targets, pairs, asked=bool(matches))
    return Comparison(
        base=base,
        new=new,
        targets=targets,
        cells=cells,
        only_base=only_base,
        only_new=only_new,
        unfinished=(*_unfinished("BASE", base, only_new), *_unfinished("NEW", new, only_base)),
        differences=(*_of_targets(base, new, targets), *manifest_differences(base.manifest, new.manifest)),
        missing=() if subset else only_base,
        strict=strict,
    )


# -- what is compared with what ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    variant: str
    targets: TargetPair
    base: Sample
    new: Sample


def _pairs(base: Run, new: Run, targets: Iterable[TargetPair]) -> list[_Pair]:
    ours, theirs = _samples(base), _samples(new)
    return [
        _Pair(variant, pair, sample, theirs[variant, pair.new])
        for pair in targets
        for (variant, target), sample in ours.items()
        if target == pair.base and (variant, pair.new) in theirs
    ]


def _samples(run: Run) -> dict[tuple[str, str], Sample]:
    cells: dict[tuple[str, str], list[Json]] = {}
    for cell in run.cells:
        cells.setdefault((cell["variant"], cell["target"]), []).append(cell)
    return {(variant, target): Sample(target, tuple(repeats)) for (variant, target), repeats in cells.items()}


def _only_in_one(
    base: Run, new: Run, targets: Sequence[TargetPair], pairs: Iterable[_Pair], asked: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The cells that the other run lacks; of the targets that were asked for, where some were."""
    left, right = {pair.base for pair in targets}, {pair.new for pair in targets}
    used = [(pair.variant, pair.targets) for pair in pairs]
    ours = {(variant, pair.base) for variant, pair in used}
    theirs = {(variant, pair.new) for variant, pair in used}

    def rest(run: Run, known: set[tuple[str, str]], of: set[str]) -> tuple[str, ...]:
        cells = (cell for cell in run.cells if not asked or cell["target"] in of)
        return tuple(cell["cell"] for cell in cells if (cell["variant"], cell["target"]) not in known)

    return rest(base, ours, left), rest(new, theirs, right)


def _unfinished(name: str, run: Run, missing: Sequence[str]) -> tuple[str, ...]:
    if run.manifest.get("complete") is not False or not missing:
        return ()
    cells = "one cell of the other is" if len(missing) == 1 else f"{len(missing)} cells of the other are"
    return (f"{name} did not end, and {cells} not in it",)


def _check_overrides(base: Run, new: Run) -> None:
    own = "each scenario's own"
    for name in ("connections", "max"):
        ours, theirs = (run.part("overrides").get(name) for run in (base, new))
        if ours != theirs:
            sides = ((ours, base), (theirs, new))
            told = " and ".join(f"{value or own} in {run.name}" for value, run in sides)
            raise ScenarioError(
                f"the runs cannot be compared: --{name} is {told}", hint=f"run one of them again with the same --{name}"
            )


def _of_targets(base: Run, new: Run, targets: Iterable[TargetPair]) -> list[Difference]:
    found = []
    for pair in targets:
        ours, theirs = base.part("targets", pair.base), new.part("targets", pair.new)
        kernels = (_kernel(base, pair.base, ours), _kernel(new, pair.new, theirs))
        if pair.base != pair.new:
            found.append(Difference("target", pair.base, pair.new))
        found += target_differences(pair.base, ours, theirs, kernels)
        if not (ours.get("packages") and theirs.get("packages")):
            found += program_differences(pair.base, _programs(base, pair.base), _programs(new, pair.new))
    return found


def _kernel(run: Run, target: str, manifest: Json) -> str | None:
    """What a target's guests told, else what its manifest has."""
    told = _distinct(cell["kernel_release"] for cell in run.cells if cell["target"] == target)
    return ", ".join(told or _distinct([manifest.get("kernel_release")])) or None


def _programs(run: Run, target: str) -> Json:
    cells = (cell for cell in run.cells if cell["target"] == target)
    return {name: version for cell in cells for name, version in (cell.get("versions") or {}).items()}


def _distinct(values: Iterable[Any]) -> list[Any]:
    return [value for value in dict.fromkeys(values) if value is not None]


# -- verdicts ---------------------------------------------------------------------------------------------------------


def _compared(pairs: Sequence[_Pair], base: Run, new: Run) -> tuple[ComparedCell, ...]:
    """Every pair with its verdict. Each kind of question is a family of tests that is corrected for itself."""
    same_machines = _machines(base) == _machines(new)
    findings = _answers([_finding_test(pair) for pair in pairs])
    messages = _answers([_message_test(pair) for pair in pairs])
    numbers = _answers([_number_test(pair, number, same_machines) for pair in pairs for number in NUMBERS])
    labels = _labels(pairs)
    cells = []
    for index, pair in enumerate(pairs):
        own = numbers[index * len(NUMBERS) : (index + 1) * len(NUMBERS)]
        of_numbers = [_large_enough(answer, pair, number) for answer, number in zip(own, NUMBERS, strict=True)]
        tests = {"finding": findings[index], "message": messages[index]}
        tests |= {number.name: answer for number, answer in zip(NUMBERS, of_numbers, strict=True)}
        verdict, reason = _verdict(pair, findings[index], base, new)
        scenario = pair.base.cells[0]["scenario"]
        cells.append(ComparedCell(labels[index], pair.variant, scenario, pair.base, pair.new, verdict, reason, tests))
    return tuple(cells)


def _labels(pairs: Sequence[_Pair]) -> list[str]:
    """A name for each pair: by BASE's target, and by both where that would name two."""
    short = [f"{pair.variant}@{pair.targets.base}" for pair in pairs]
    counts = Counter(short)
    return [
        name if counts[name] == 1 else f"{name}={pair.targets.new}" for name, pair in zip(short, pairs, strict=True)
    ]


_Test = tuple[float | None, str | None]  # the chance, or why there is none


def _finding_test(pair: _Pair) -> _Test:
    base, new = pair.base, pair.new
    if _digests(pair) or not (base.size and new.size):
        return None, "cannot be compared"
    if base.only_finding and new.only_finding:
        return None, "all repeats agree"
    return _test(base.findings, new.findings)


def _message_test(pair: _Pair) -> _Test:
    return (None, "cannot be compared") if _digests(pair) else _test(pair.base.logged, pair.new.logged)


def _test(base: Mapping[str, int], new: Mapping[str, int]) -> _Test:
    names = {name for name, count in (*base.items(), *new.items()) if count}
    if not (base and new):
        return None, "no value in one of the runs"
    if len(names) == 1:
        return None, "all are the same"
    if smallest_p(sum(base.values()), sum(new.values())) * outcome_factor(len(names)) > LEVEL:
        return None, "too few repeats"
    return float(outcomes_test(base, new)), None


def _number_test(pair: _Pair, number: Number, same_machines: bool) -> _Test:
    base, new = pair.base.values(number), pair.new.values(number)
    if _digests(pair):
        return None, "cannot be compared"
    if not (base and new):
        return None, "no value in one of the runs"
    if len({*base, *new}) == 1:
        return None, "all are the same"
    if not same_machines:
        return None, "the machines were not of one kind"
    if smallest_p(len(base), len(new)) > LEVEL:
        return None, "too few repeats"
    return rank_test(base, new), None


def _machines(run: Run) -> tuple[object, object]:
    provisioner = run.part("provisioner")
    return provisioner.get("name"), provisioner.get("accelerator")


def _answers(tests: Sequence[_Test]) -> list[Answer]:
    corrected = iter(holm([chance for chance, _ in tests if chance is not None]))
    answers = []
    for chance, why in tests:
        if chance is None:
            answers.append(Answer(why=why))
        else:
            likely = next(corrected)
            answers.append(Answer(chance, likely, likely <= LEVEL))
    return answers


def _large_enough(answer: Answer, pair: _Pair, number: Number) -> Answer:
    """The answer, with numbers that differ by too little to matter called the same."""
    base, new = (median(sample.values(number)) for sample in (pair.base, pair.new))
    if not answer.differs or base is None or new is None:
        return answer
    least = max(number.least, LEAST_SHARE * max(abs(base), abs(new)))
    if abs(base - new) >= least:
        return answer
    return Answer(answer.p_value, answer.corrected_p_value, False, "too small a difference to matter")


def _verdict(pair: _Pair, answer: Answer, base: Run, new: Run) -> tuple[str, str]:
    """The verdict on the findings of a pair, and the sentence that says why."""
    if digests := _digests(pair):
        return "not-comparable", _other_meaning(pair, base, new, digests)
    sides = (("BASE", pair.base), ("NEW", pair.new))
    if not any(sample.size or sample.untold for _, sample in sides):
        return "no-finding", f"{_no_finding('BASE', pair.base)}; {_no_finding('NEW', pair.new)}"
    if missing := [_no_finding(name, sample) for name, sample in sides if not sample.size]:
        return "not-comparable", "; ".join(missing)
    verdict, reason = _verdict_on_findings(pair, answer)
    untold = [_untold(name, sample) for name, sample in sides if sample.untold]
    if verdict == "same" and untold:
        verdict = "unclear"
    return verdict, "; ".join([reason, *untold])


def _verdict_on_findings(pair: _Pair, answer: Answer) -> tuple[str, str]:
    base, new = pair.base, pair.new
    became = f"{outcomes(base.findings)} became {outcomes(new.findings)}"
    stayed = f"{outcomes(base.findings)} in BASE, {outcomes(new.findings)} in NEW"
    if base.only_finding and new.only_finding:  # so far it is deterministic: one repeat tells as much as many
        return ("same", stayed) if base.only_finding == new.only_finding else ("changed", became)
    if answer.differs is not None:
        chance = f"p = {answer.corrected_p_value:.2g}"
        return ("changed", f"{became} ({chance})") if answer.differs else ("same", f"{stayed} ({chance})")
    if all(base.findings.get(name, 0) * new.size == count * base.size for name, count in new.findings.items()):
        return "same", stayed
    return "unclear", f"{stayed}: findings vary, and these are too few repeats to tell"


def outcomes(counts: Mapping[str, int]) -> str:
    """`table-full 3 of 5, tracked 2 of 5`, the most frequent first."""
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count} of {total}" for name, count in ordered if count)


def _no_finding(name: str, sample: Sample) -> str:
    first = sample.cells[0]
    return f"{name} is {first['finding']}: {_first_line(first)}"


def _untold(name: str, sample: Sample) -> str:
    return f"{len(sample.untold)} of {len(sample.cells)} in {name} are inconclusive: {_first_line(sample.untold[0])}"


def _first_line(cell: Json) -> str:
    return next(iter(str(cell["reason"]).splitlines()), "")


def _digests(pair: _Pair) -> tuple[str, str] | None:
    """The digests of the two scenarios where they differ."""
    ours, theirs = (
        ", ".join(sorted({str(cell["scenario_digest"])[:12] for cell in sample.cells}))
        for sample in (pair.base, pair.new)
    )
    return (ours, theirs) if ours != theirs or "," in ours else None


def _other_meaning(pair: _Pair, base: Run, new: Run, digests: tuple[str, str]) -> str:
    scenario = pair.base.cells[0]["scenario"]
    known = [run.meanings[scenario] for run in (base, new) if scenario in run.meanings]
    told = meaning_differences(*known) if len(known) == 2 else []
    what = "; ".join(told) or f"its digest is {digests[0]} in BASE and {digests[1]} in NEW"
    return f"the scenario {scenario} does not mean the same: {what}"


def _refusals(cells: Iterable[ComparedCell]) -> list[str]:
    return [f"  {printable(reason)}" for reason in dict.fromkeys(cell.reason for cell in cells)]
