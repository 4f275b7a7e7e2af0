"""How far the kernel's counters rose while the load was driven, step by step between samples.

A counter of a whole namespace says when it rose. So each step is held against what else was true between the same two
samples: above all, whether the table was full then. A step back is a reset (the module was loaded again): what it hides
is not known, and that there was one is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.core.evidence import Sample
from lab.core.kernel.conntrack import counter_delta

# The column of a hash chain that was too long for one more entry (nf_conntrack_core.c since 5.15); its neighbours are
# counted together with it.
CHAIN_TOO_LONG = "chainlength"


@dataclass(frozen=True)
class Step:
    """What happened between two samples; None is unknown."""

    seconds: float  # when it was seen
    full: bool  # the table was at its max at one of the two, or something was evicted between them
    drop: int | None
    early_drop: int | None
    insert_failed: int | None
    chain_too_long: int | None
    found: int | None

    @property
    def dropped_for_room(self) -> int:
        """Packets dropped that no failed insert accounts for: each of those is counted as a drop as well
        (nf_ct_resolve_clash() in nf_conntrack_core.c), but for a chain that is too long.
        """
        return max(0, (self.drop or 0) - self.failed_inserts)

    @property
    def failed_inserts(self) -> int:
        """Entries that could not be inserted, for another reason than a chain that is too long: a clash, or no port."""
        return max(0, (self.insert_failed or 0) - (self.chain_too_long or 0))


def steps(samples: Sequence[Sample]) -> tuple[Step, ...]:
    """What happened between each sample that shows the counters and the next one that does."""
    found = []
    for before, after, was_full in _intervals(samples):
        early_drop = _rise(before, after, "early_drop")
        found.append(
            Step(
                seconds=after.seconds,
                # an entry is evicted only for one beyond the max: __nf_conntrack_alloc() in nf_conntrack_core.c
                full=was_full or bool(early_drop),
                drop=_rise(before, after, "drop"),
                early_drop=early_drop,
                insert_failed=_rise(before, after, "insert_failed"),
                chain_too_long=_rise(before, after, CHAIN_TOO_LONG),
                found=_rise(before, after, "found"),
            )
        )
    return tuple(found)


def total(samples: Sequence[Sample], name: str) -> int | None:
    """How far a counter rose, in its steps upwards; None where the kernel does not show it in the first sample or the
    last, unless conntrack itself was not there yet.
    """
    if not samples or samples[-1].counter(name) is None:
        return None
    if samples[0].counter(name) is None and not _absent(samples[0]):
        return None
    return sum(_rise(before, after, name) or 0 for before, after, _ in _intervals(samples))


def resets(samples: Sequence[Sample]) -> int:
    """How often the counters began again: any of them went back, or they were gone and came back."""
    intervals = list(_intervals(samples))
    came_back = sum(before is None for before, _, _ in intervals) - (bool(samples) and _absent(samples[0]))
    return max(0, came_back) + sum(_is_reset(before, after) for before, after, _ in intervals if before is not None)


def _intervals(samples: Sequence[Sample]) -> Iterator[tuple[Sample | None, Sample, bool]]:
    """Pairs of samples that show the counters, and whether any between them, or one of them, shows a full table. The
    first is None where conntrack was not there before: then its counters began at 0.
    """
    before: Sample | None = None
    began_at_zero = full = False
    for sample in samples:
        full = full or sample.full
        if sample.counters is None:
            if _absent(sample):
                before, began_at_zero = None, True
            continue
        if before is not None or began_at_zero:
            yield before, sample, full
        before, began_at_zero, full = sample, False, sample.full


def _absent(sample: Sample) -> bool:
    return sample.counters is None and sample.entries is None


def _rise(before: Sample | None, after: Sample, name: str) -> int | None:
    value = after.counter(name)
    if value is None or before is None:
        return value
    if before.counter(name) is None:
        return None
    rise = counter_delta(before.counters or {}, after.counters or {}, name)
    return value if rise is None else rise


def _is_reset(before: Sample, after: Sample) -> bool:
    names = (before.counters or {}).keys() & (after.counters or {}).keys() - {"entries"}
    return any(counter_delta(before.counters or {}, after.counters or {}, name) is None for name in names)
