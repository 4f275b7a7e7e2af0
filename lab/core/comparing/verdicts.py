"""The verdict on each pair of samples: exact tests, corrected for their number, and the sentence that says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.core.comparing.differences import meaning_differences
from lab.core.comparing.matching import TargetPair
from lab.core.comparing.model import LEAST_SHARE, NUMBERS, Answer, ComparedCell, Number, Run, Sample
from lab.core.comparing.significance import LEVEL, holm, median, outcome_factor, outcomes_test, rank_test, smallest_p
from lab.core.result import CellResult


@dataclass(frozen=True)
class Pair:
    """The repeats of one variant on two targets that are compared."""

    variant: str
    targets: TargetPair
    base: Sample
    new: Sample

    @property
    def digests(self) -> tuple[str, str] | None:
        """The digests of the two scenarios where they differ."""
        ours, theirs = (
            ", ".join(sorted({cell.scenario_digest[:12] for cell in sample.cells})) for sample in (self.base, self.new)
        )
        return (ours, theirs) if ours != theirs or "," in ours else None


def compared(pairs: Sequence[Pair], base: Run, new: Run) -> tuple[ComparedCell, ...]:
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
        scenario = pair.base.cells[0].scenario
        cells.append(ComparedCell(labels[index], pair.variant, scenario, pair.base, pair.new, verdict, reason, tests))
    return tuple(cells)


def _labels(pairs: Sequence[Pair]) -> list[str]:
    """A name for each pair: by BASE's target, and by both where that would name two."""
    short = [f"{pair.variant}@{pair.targets.base}" for pair in pairs]
    counts = Counter(short)
    return [
        name if counts[name] == 1 else f"{name}={pair.targets.new}" for name, pair in zip(short, pairs, strict=True)
    ]


_Test = tuple[float | None, str | None]  # the chance, or why there is none


def _finding_test(pair: Pair) -> _Test:
    base, new = pair.base, pair.new
    if pair.digests or not (base.size and new.size):
        return None, "cannot be compared"
    if base.only_finding and new.only_finding:
        return None, "all repeats agree"
    return _test(base.findings, new.findings)


def _message_test(pair: Pair) -> _Test:
    return (None, "cannot be compared") if pair.digests else _test(pair.base.logged, pair.new.logged)


def _test(base: Mapping[str, int], new: Mapping[str, int]) -> _Test:
    names = {name for name, count in (*base.items(), *new.items()) if count}
    if not (base and new):
        return None, "no value in one of the runs"
    if len(names) == 1:
        return None, "all are the same"
    if smallest_p(sum(base.values()), sum(new.values())) * outcome_factor(len(names)) > LEVEL:
        return None, "too few repeats"
    return float(outcomes_test(base, new)), None


def _number_test(pair: Pair, number: Number, same_machines: bool) -> _Test:
    base, new = pair.base.values(number), pair.new.values(number)
    if pair.digests:
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
    return run.manifest.provisioner.name, run.manifest.provisioner.accelerator


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


def _large_enough(answer: Answer, pair: Pair, number: Number) -> Answer:
    """The answer, with numbers that differ by too little to matter called the same."""
    base, new = (median(sample.values(number)) for sample in (pair.base, pair.new))
    if not answer.differs or base is None or new is None:
        return answer
    least = max(number.least, LEAST_SHARE * max(abs(base), abs(new)))
    if abs(base - new) >= least:
        return answer
    return Answer(answer.p_value, answer.corrected_p_value, False, "too small a difference to matter")


def _verdict(pair: Pair, answer: Answer, base: Run, new: Run) -> tuple[str, str]:
    """The verdict on the findings of a pair, and the sentence that says why."""
    if digests := pair.digests:
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


def _verdict_on_findings(pair: Pair, answer: Answer) -> tuple[str, str]:
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
    return f"{name} is {first.finding}: {_first_line(first)}"


def _untold(name: str, sample: Sample) -> str:
    return f"{len(sample.untold)} of {len(sample.cells)} in {name} are inconclusive: {_first_line(sample.untold[0])}"


def _first_line(cell: CellResult) -> str:
    return next(iter(cell.reason.splitlines()), "")


def _other_meaning(pair: Pair, base: Run, new: Run, digests: tuple[str, str]) -> str:
    scenario = pair.base.cells[0].scenario
    known = [run.meanings[scenario] for run in (base, new) if scenario in run.meanings]
    differing = meaning_differences(*known) if len(known) == 2 else []
    what = "; ".join(differing) or f"its digest is {digests[0]} in BASE and {digests[1]} in NEW"
    return f"the scenario {scenario} does not mean the same: {what}"
