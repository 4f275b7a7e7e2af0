"""What a user names as a target: machines of one kind (lab/host/machines/kinds.py), made of something."""

from __future__ import annotations

from dataclasses import dataclass

from lab.host.releases import TARGETS, Target


@dataclass(frozen=True)
class TargetSpec:
    """What a user asked for: machines of a kind, what they are made of, and perhaps another kernel."""

    kind: str
    # `debian12`, `vagrant:BOX`, `host`; with another kernel `debian12+LABEL`, before that has a label
    # `debian12+kernel:PATH`
    name: str
    of: str  # a name of TARGETS; a Vagrant box: a name, a path, or a URL with its checksum
    kernel: str | None = None  # as lab.host.kernels.source reads it
    label: str | None = None  # what the kernel is called in the target's name

    @property
    def is_made(self) -> bool:
        """Whether it is made of one of the lab's own images, or boxes, of a Debian release."""
        return self.of in TARGETS

    @property
    def target(self) -> Target:
        """The Debian release that it is made of, for kinds that are made of one."""
        return TARGETS[self.of]
