"""When the kernel said that the table is full: before the load, or while it was driven, and of which namespace."""

from __future__ import annotations

from dataclasses import dataclass

from lab.core.evidence import Evidence
from lab.core.kernel import kmsg


@dataclass(frozen=True)
class Messages:
    """The kernel's own messages; `during` is None where the log has a hole and shows none."""

    during: bool | None = None
    before: bool = False
    namespaces: tuple[int, ...] = ()  # the inodes of those that messages during the load name (6.17 and newer)


def messages(evidence: Evidence) -> Messages:
    """What the log says. Recordings without marks around the load have everything since the state's beginning as
    `during`. Raises ValueError for a log that is none.
    """
    if evidence.kernel_log is None:
        return Messages()
    log = kmsg.records(evidence.kernel_log)
    begins = next((number for number, one in enumerate(log) if kmsg.LOAD_BEGINS in one.text), 0)
    ends = next((number for number, one in enumerate(log) if kmsg.LOAD_ENDS in one.text), len(log))
    during = kmsg.table_full(log[begins:ends])
    holes = evidence.kernel_log_holes or {}
    whole = not (holes.get("overwritten") or holes.get("truncated") or kmsg.gaps(log))
    return Messages(
        during=True if during.logged else (False if whole else None),
        before=kmsg.table_full(log[:begins]).logged,
        namespaces=during.netns_inodes,
    )
