"""Which parts of the kernel are there, so that asking for them loads nothing."""

import os
import platform
from typing import Dict, List, Optional, Set

from lab.guest import observe
from lab.guest.apply import loaded_modules
from lab.guest.files import read_text

_BUILT_IN = ("/lib/modules/{}/modules.builtin", "/usr/lib/modules/{}/modules.builtin")
_BUILT_IN_BYTES = 1024 * 1024
_OF_NETFILTER = ("/netfilter/", "/openvswitch/", "/net/sched/")


def present() -> Optional[Set[str]]:
    """The modules that are loaded or built in, as far as can be known; None where the kernel can load none at all, so
    that nothing that is asked of it can load any.
    """
    if not os.path.exists("/proc/modules") or (read_text("/proc/sys/kernel/modules_disabled")[0] or "").strip() == "1":
        return None
    return set(observe.known_modules()) | set(loaded_modules()) | set(built_in())


def built_in() -> List[str]:
    """The modules of netfilter and its neighbours that are built into the kernel: a folder in /sys/module has only one
    with parameters.
    """
    for path in _BUILT_IN:
        text, _, _ = read_text(path.format(platform.release()), _BUILT_IN_BYTES)
        if text is not None:
            paths = [line for line in text.splitlines() if any(part in line for part in _OF_NETFILTER)]
            return sorted(os.path.basename(line).split(".ko")[0].replace("-", "_") for line in paths)
    return []


def module_texts() -> Dict[str, str]:
    """What a record says of modules beside /proc/modules: those in /sys/module, and those that are built in."""
    return {
        "sys_module": "".join(name + "\n" for name in observe.known_modules()),
        "modules.builtin": "".join(name + "\n" for name in built_in()),
    }
