"""A way to be root over a tree of files, of those that this host allows."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from lab.core.errors import PrerequisiteError

_SUB_IDS_HINT = (
    "build as root (sudo), or: sudo apt install uidmap; "
    "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER; "
    "and where AppArmor forbids it: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
)


@dataclass(frozen=True)
class Sandbox:
    """A way to be root over a tree of files: a command prefix that other programs run behind."""

    prefix: tuple[str, ...]


# The PID namespace makes a killed builder take all of its children along; the mount namespace what they mounted.
_NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child=KILL")
_ROOT_SANDBOXES = (
    Sandbox(("unshare", *_NAMESPACES)),
    # in a chroot whose / is no mount point, its propagation cannot be changed
    Sandbox(("unshare", *_NAMESPACES, "--propagation", "unchanged")),
    # a container without CAP_SYS_ADMIN: mmdebstrap then does without mounts
    Sandbox(()),
)
_USER_SANDBOXES = (Sandbox(("unshare", "--user", "--map-root-user", "--map-auto", *_NAMESPACES)),)


def find_sandbox() -> Sandbox:
    """The first sandbox that this host allows. Raises PrerequisiteError if it allows none."""
    complaint = ""
    for sandbox in _ROOT_SANDBOXES if os.geteuid() == 0 else _USER_SANDBOXES:
        done = subprocess.run((*sandbox.prefix, "true"), capture_output=True, text=True, check=False, timeout=20)
        if done.returncode == 0:
            return sandbox
        complaint = done.stderr.strip()
    raise PrerequisiteError(
        f"this host does not let an unprivileged user build images: {complaint}", hint=_SUB_IDS_HINT
    )
