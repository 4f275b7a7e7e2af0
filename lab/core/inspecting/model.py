"""What was recorded of a host: its own texts, and those of each network namespace; what is missing has its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.core.evidence import Snapshot
from lab.core.facts import Facts

NO_TEXTS = Snapshot()


@dataclass(frozen=True)
class Namespace:
    """A network namespace; its snapshot has the host's texts too, for modules are everybody's."""

    snapshot: Snapshot
    inode: int | None = None  # as `readlink /proc/PID/ns/net` says it
    names: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()  # "PID COMMAND"; the first few
    process_count: int | None = None
    own: bool = True  # the one that the recorder ran in
    initial: bool | None = None  # that of the first process; None where it is not known
    error: str | None = None  # why it was not entered
    later: Snapshot | None = None  # the counters at a second look
    seconds: float | None = None  # between the looks

    @property
    def label(self) -> str:
        """What people call it."""
        if self.initial or (self.own and self.initial is None):
            return "host"
        if self.names:
            return self.names[0]
        if self.processes:
            return f"netns of {self.processes[0].partition(' ')[2]} (PID {self.processes[0].partition(' ')[0]})"
        return "this namespace" if self.own else f"netns {self.inode}"


@dataclass(frozen=True)
class Record:
    """A host as recorded."""

    origin: str  # what it was read from: "this host", a file
    host: Snapshot = NO_TEXTS
    namespaces: tuple[Namespace, ...] = ()
    problems: tuple[str, ...] = ()  # what could not be read, and is no single text
    files: Mapping[str, str] = field(default_factory=dict, hash=False)  # further ones, by path: an included ruleset

    @property
    def facts(self) -> Facts:
        """Of its kernel."""
        return Facts(target="", kernel_release=(self.host.texts.get("uname") or "").strip() or None)
