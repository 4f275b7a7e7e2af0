"""How far the kernel's counters rose while the load was driven, step by step between samples.

A counter of a whole namespace says when it rose. So each step is held against what else was true between the same two
samples: above all, whether the table was full then. A step back is a reset (the module was loaded again): what it hides
is not known, and that there was one is said.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.core.conntrack import counter_delta
from lab.core.evidence import Sample

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
    """What happened between each sample and the next."""
    found = []
    for before, after in itertools.pairwise(samples):
        early_drop = _rise(before, after, "early_drop")
        found.append(
            Step(
                seconds=after.seconds,
                # an entry is evicted only for one beyond the max: __nf_conntrack_alloc() in nf_conntrack_core.c
                full=before.full or after.full or bool(early_drop),
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
    came = bool(samples) and samples[0].counters is None and samples[0].entries is None
    if not samples or samples[-1].counter(name) is None or (samples[0].counter(name) is None and not came):
        return None
    return sum(_rise(before, after, name) or 0 for before, after in itertools.pairwise(samples))


def resets(samples: Sequence[Sample]) -> int:
    """How often the counters began again: any of them went back, or they were gone and came back."""
    return sum(_is_reset(before, after) for before, after in _known_pairs(samples))


def _rise(before: Sample, after: Sample, name: str) -> int | None:
    value = after.counter(name)
    if value is None:
        return None
    if before.counter(name) is None:
        return value if before.counters is None else None  # the module came meanwhile, its counters begin at 0
    rise = counter_delta(before.counters or {}, after.counters or {}, name)
    return value if rise is None else rise


def _is_reset(before: Sample, after: Sample) -> bool:
    names = (before.counters or {}).keys() & (after.counters or {}).keys() - {"entries"}
    return any(counter_delta(before.counters or {}, after.counters or {}, name) is None for name in names)


def _known_pairs(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Sample]]:
    known = [sample for sample in samples if sample.counters is not None]
    return itertools.pairwise(known)
