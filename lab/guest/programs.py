"""The lab's own programs in a distribution's root: for what that does not have, and for what builds and observes.

There the lab's root lies at /run/conntrack-lab/root. Its programs are run by its own dynamic loader, so that neither
the distribution's libraries matter to them nor its C library; a small script of each program's name does that, in a
folder that comes last in the path of steps.
"""

import os
import shutil
from typing import List, Optional

from lab.guest.files import write_text

ROOT = "/run/conntrack-lab/root"
SCRIPTS = "/run/conntrack-lab/bin"
OWN_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_LIBRARIES = ROOT + "/usr/lib/x86_64-linux-gnu"
_LOADER = _LIBRARIES + "/ld-linux-x86-64.so.2"
_PLACES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_MOST_LINKS = 10
# libxtables looks for its extensions where it was built to; the variable is its own (xtables.c)
_SCRIPT = """#!/bin/sh
XTABLES_LIBDIR={libraries}/xtables
export XTABLES_LIBDIR
exec {loader} --argv0 {name} --library-path {libraries} {program} "$@"
"""
PROGRAMS = (
    *("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"),
    *("iptables-legacy", "iptables-legacy-save", "iptables-legacy-restore"),
    *("ip6tables-legacy", "ip6tables-legacy-save", "ip6tables-legacy-restore"),
    *("iptables-nft", "iptables-nft-save", "iptables-nft-restore"),
    *("ip6tables-nft", "ip6tables-nft-save", "ip6tables-nft-restore"),
    *("nft", "conntrack", "ipset", "ip", "tc", "bridge", "ss", "arptables", "ebtables", "sysctl"),
)
_INSTRUMENTS = frozenset({"ip", "tc", "bridge", "ss"})


def provide() -> None:
    """Write the scripts, where this is a distribution's root; raises OSError."""
    if not os.path.isdir(ROOT):
        return
    os.makedirs(SCRIPTS, exist_ok=True)
    for name in PROGRAMS:
        program = next(filter(None, (_real("{}/{}".format(place, name)) for place in _PLACES)), None)
        if program is not None:
            path = os.path.join(SCRIPTS, name)
            write_text(path, _SCRIPT.format(loader=_LOADER, libraries=_LIBRARIES, name=name, program=program))
            os.chmod(path, 0o755)


def _real(path: str) -> Optional[str]:
    """A path of the lab's root with every link followed as that root has it; None where it leads to no program."""
    for _ in range(_MOST_LINKS):
        found = ROOT + path
        if not os.path.islink(found):
            return found if os.access(found, os.X_OK) else None
        target = os.readlink(found)
        path = target if target.startswith("/") else os.path.normpath(os.path.join(os.path.dirname(path), target))
    return None


def instrument(name: str) -> str:
    """The lab's own of what builds networks, in a distribution's root: busybox has an `ip` that knows no namespaces.
    Any other program by its name.
    """
    script = os.path.join(SCRIPTS, name)
    return script if name in _INSTRUMENTS and os.path.exists(script) else name


def lent() -> Optional[List[str]]:
    """The programs that are the lab's own because the distribution has none of that name; None where there is no
    distribution beside the lab.
    """
    if not os.path.isdir(ROOT):
        return None
    there = [name for name in PROGRAMS if os.path.exists(os.path.join(SCRIPTS, name))]
    return [name for name in there if name in _INSTRUMENTS or shutil.which(name, path=OWN_PATH) is None]
