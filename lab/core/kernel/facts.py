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
    trial: str | None = None  # one in tests/vm/facts, where no shipped one shows it

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
        "tc's action `ct` with a full table",
        "lets the packet pass, untracked (the action is there since 5.3)",
        "6.12",
        "drops it, as the hooks do",
        Grounds.MEASURED,
        "5.10 and 6.1 before it, 6.12 to 7.3 after it; the release between 6.2 and 6.12 was not looked for",
        trial="act-ct-full",
    ),
    KernelFact(
        "`openvswitch` is loaded, without a flow",
        "every namespace is tracked (since 4.18, by source)",
        "6.12",
        "nothing is tracked",
        Grounds.MEASURED,
        "d5283b47e225; 5.10 and 6.1 before it, 6.12 to 7.3 after it",
        trial="openvswitch-loaded",
    ),
    KernelFact(
        "the message of a full table in another namespace",
        "does not say which namespace",
        "6.17",
        "`table full in netns 4026532...`, the inode of /proc/PID/ns/net",
        Grounds.MEASURED,
        "6.16.12 before it, 6.17.13 after it",
        trial="message-names-namespace",
    ),
    KernelFact(
        "the legacy tables of iptables",
        "are always there",
        "6.17",
        "are optional (NETFILTER_XTABLES_LEGACY); Debian has them",
        Grounds.MEASURED,
        "9fce66583f06; the configurations of 6.16.12 and 6.17.13",
    ),
    KernelFact(
        "the tracker of DCCP",
        "is there",
        "6.17",
        "went",
        Grounds.MEASURED,
        "6.16.12 before it, 6.17.13 after it",
        trial="dccp-tracked",
    ),
    KernelFact(
        "writing `nf_conntrack_log_invalid`",
        "loads nothing",
        "6.17",
        "loads `nf_log_syslog`",
        Grounds.MEASURED,
        "6.16.12 before it, 6.17.13 after it",
        trial="log-invalid-loads",
    ),
    KernelFact(
        "connections over loopback in `connlimit`",
        "are counted",
        "6.17.13",
        "are not: a limit on INPUT lets them all pass",
        Grounds.MEASURED,
        "5.10.223, 6.1.176, 6.12.117, 6.16.12 and 6.17.8 before it, 6.17.13, 6.18.5 and 6.18.9 after it; releases of "
        "older series may have had it for a time",
        trial="conncount-loopback",
    ),
    KernelFact(
        "connections over loopback in `connlimit`, again",
        "are not counted",
        "6.18.15",
        "are counted",
        Grounds.MEASURED,
        "6.18.9 before it, 6.18.15, 7.2 and 7.3 after it; the releases between were not tried",
        trial="conncount-loopback",
    ),
    KernelFact(
        "`nf_conntrack_max` 0",
        "means no limit: the table is never full",
        "6.19",
        "is refused",
        Grounds.MEASURED,
        "2b749f257645 by its message; 6.18.15 before it, 7.2 after it",
        scenario="max-zero",
    ),
    KernelFact(
        "the tracker of UDP-Lite",
        "is there",
        "7.2",
        "went: the protocol is one of the unknown ones",
        Grounds.MEASURED,
        "6.18.15 before it, 7.2.12 after it; which release between was not looked for",
        trial="udplite-tracked",
    ),
    KernelFact(
        "`nfnetlink`",
        "is a module",
        "7.2",
        "is built in, so that `lsmod` does not show it",
        Grounds.MEASURED,
        "Debian's 6.18.15 before it, 7.2.12 after it; which release between was not looked for",
        trial="nfnetlink-module",
    ),
)


def facts_table(facts: Sequence[KernelFact] = FACTS) -> str:
    """The facts as a Markdown table, oldest change first."""
    rows = [("what", "before", "since", "from then on", "stands on", "shown by"), ("---",) * 6]
    rows += [
        (fact.what, fact.before, fact.since, fact.after, f"{fact.grounds.value}: {fact.detail}", _link(fact))
        for fact in facts
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_facts(page: str) -> str:
    """A page with the table between its marks made again. Raises ValueError where it has no such marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks the marks {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n{facts_table()}{end}{after}"


BEGIN = "<!-- kernel facts: made by scripts/write-docs from lab/core/kernel/facts.py -->"
END = "<!-- end of kernel facts -->"


def _link(fact: KernelFact) -> str:
    if fact.scenario is not None:
        return f"[{fact.scenario}](scenarios/{fact.scenario}.md)"
    return f"[{fact.trial}](../tests/vm/facts/{fact.trial}.toml)" if fact.trial is not None else "-"
