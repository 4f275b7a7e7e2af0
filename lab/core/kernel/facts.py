"""What differs between kernels, as data: docs/kernels.md shows it, and a scenario shows it in a guest where one can.

A row speaks of one change: what holds below a version, what holds from it on, and what that stands on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Grounds(Enum):
    """What a statement stands on, from strong to weak."""

    MEASURED = "measured"  # in a guest
    SOURCE = "source"  # read in the kernel of that version
    COMMIT = "commit"  # its message was read
    INFERRED = "inferred"  # from source or commit, for versions that were not read


@dataclass(frozen=True)
class KernelFact:
    """A change of behaviour; `since` is the first release with it, as in `4.14`."""

    what: str
    before: str
    since: str
    after: str
    grounds: Grounds
    detail: str  # which commit, which kernels were measured or read
    scenario: str | None = None  # a shipped one whose finding depends on it

    @property
    def kernel(self) -> str:
        """The kernels with the change, as a scenario's `kernel` condition writes them."""
        return f">={self.since}"


FACTS: tuple[KernelFact, ...] = (
    KernelFact(
        "the hooks after a rule was added and flushed",
        "stay: the host goes on tracking",
        "4.14",
        "go with the last rule that needs them",
        Grounds.MEASURED,
        "4d3a57f23dec; 4.10.17 before it, 5.10, 6.1, 6.12 and 7.2 after it",
        "nat-flushed",
    ),
    KernelFact(
        "listing the nat table (legacy)",
        "is enough to track",
        "4.14",
        "tracks nothing",
        Grounds.MEASURED,
        "4.10.17 before it, 5.10 to 7.2 after it; 2.6.32 and 3.10 by source",
        "nat-listed",
    ),
    KernelFact(
        "the parameter `enable_hooks=1`",
        "does not exist",
        "5.1",
        "tracks from load on, as kernels before 4.14 did",
        Grounds.MEASURED,
        "ba3fbe663635; absent in 4.19 by source, measured on 5.10, 6.1, 6.12 and 7.2; 5.1 itself inferred",
        "nat-flushed-always-on",
    ),
    KernelFact(
        "`openvswitch` is loaded, without a flow",
        "every namespace is tracked (since 4.18, by source)",
        "6.12",
        "nothing is tracked",
        Grounds.MEASURED,
        "d5283b47e225; 6.1 before it, 6.12 after it",
    ),
    KernelFact(
        "the message of a full table in another namespace",
        "does not say which namespace",
        "6.17",
        "`table full in netns 4026532...`, the inode of /proc/PID/ns/net",
        Grounds.SOURCE,
        "excerpts of 6.18.38",
    ),
    KernelFact(
        "the legacy tables of iptables",
        "are always there",
        "6.17",
        "are optional (NETFILTER_XTABLES_LEGACY)",
        Grounds.COMMIT,
        "9fce66583f06",
    ),
    KernelFact(
        "trackers of DCCP and UDP-Lite",
        "are there",
        "6.17",
        "went; in some of these releases one of them may still be there",
        Grounds.INFERRED,
        "absent in later kernels; the exact releases were not read",
    ),
    KernelFact(
        "`nf_conntrack_max` 0",
        "means no limit: the table is never full",
        "6.19",
        "is refused",
        Grounds.COMMIT,
        "2b749f257645; up to 6.12 by source",
        "max-zero",
    ),
    KernelFact(
        "`nfnetlink`",
        "is a module",
        "7.3",
        "is built in, so that `lsmod` does not show it",
        Grounds.INFERRED,
        "seen in release candidates of 7.3; the commit was not looked up",
    ),
    KernelFact(
        "writing `nf_conntrack_log_invalid`",
        "loads nothing",
        "7.3",
        "loads `nf_log_syslog`",
        Grounds.INFERRED,
        "seen in release candidates of 7.3; the commit was not looked up",
    ),
)


def facts_table(facts: Sequence[KernelFact] = FACTS) -> str:
    """The facts as a Markdown table, oldest change first."""
    rows = [("what", "before", "since", "from then on", "stands on", "scenario"), ("---",) * 6]
    rows += [
        (one.what, one.before, one.since, one.after, f"{one.grounds.value}: {one.detail}", _link(one.scenario))
        for one in facts
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_facts(page: str) -> str:
    """A page with the table between its marks made anew. Raises ValueError where it has no such marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks the marks {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n{facts_table()}{end}{after}"


BEGIN = "<!-- kernel facts: made by scripts/write-docs from lab/core/kernel/facts.py -->"
END = "<!-- end of kernel facts -->"


def _link(scenario: str | None) -> str:
    return f"[{scenario}](scenarios/{scenario}.md)" if scenario else "-"
