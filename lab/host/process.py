"""Starting programs that cannot outlive the lab."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Sequence

from lab.core.errors import PrerequisiteError

UNPRIVILEGED_USER = "nobody"


def confined(argv: Sequence[str]) -> list[str]:
    """`argv` by way of setpriv(1): killed when its parent dies however that comes, unable to gain privileges, and,
    where the lab runs as root, as an unprivileged user in no group but that of /dev/kvm.

    Raises PrerequisiteError without setpriv.
    """
    wrapper = [_setpriv(), "--pdeathsig", "KILL", "--no-new-privs"]
    if os.geteuid() == 0:
        user = pwd.getpwnam(UNPRIVILEGED_USER)
        wrapper += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", *_groups()]
    return [*wrapper, "--", *argv]


def dying_with_parent(argv: Sequence[str]) -> list[str]:
    """`argv`, killed when the thread that starts it ends. Raises PrerequisiteError without setpriv."""
    return [_setpriv(), "--pdeathsig", "KILL", "--", *argv]


def _setpriv() -> str:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise PrerequisiteError("setpriv is missing", hint="install util-linux, or run scripts/setup")
    return setpriv


def _groups() -> list[str]:
    try:
        kvm_group = os.stat("/dev/kvm").st_gid
    except OSError:
        kvm_group = 0
    return [f"--groups={kvm_group}"] if kvm_group else ["--clear-groups"]


def unprivileged_ids() -> tuple[int, int]:
    """(uid, gid) that confined programs run as; (-1, -1), which os.chown takes for no change, when not root."""
    if os.geteuid() != 0:
        return -1, -1
    user = pwd.getpwnam(UNPRIVILEGED_USER)
    return user.pw_uid, user.pw_gid
