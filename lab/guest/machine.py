"""Preparing a throwaway machine: limits that the load needs, raised before the starting state so that a scenario's own
steps have the last word. What was set shows in the recorded sysctls.
"""

import fcntl
import functools
import gzip
import os
import platform
import resource
import shutil
import socket
import struct
from typing import Any, Dict, List, Optional

from lab.guest import PROTOCOL_VERSION, observe, programs
from lab.guest.apply import STEP_PATH, loaded_modules, program_here, run_command, set_sysctls
from lab.guest.files import error_name, read_text, sysctl_path, write_text

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h

LIMITS: Dict[str, Any] = {
    "fs.file-max": 4000000,
    "fs.nr_open": 1048576,
    "net.core.somaxconn": 65535,  # a listener's backlog is cut to it
    "net.core.netdev_max_backlog": 65536,  # loopback queues here
    "net.ipv4.tcp_max_syn_backlog": 65535,
    # sockets in TIME_WAIT and sockets without a process, of which a small machine allows only a few thousand
    "net.ipv4.tcp_max_tw_buckets": 1048576,
    "net.ipv4.tcp_max_orphans": 1048576,
    # With cookies, an overflow of the SYN queue leaves connections that only the client believes in. The article
    # turns them off too; conntrack sees a SYN before TCP does, so the entries are the same.
    "net.ipv4.tcp_syncookies": 0,
}

# What scenarios ask of a machine: the modules and options of netfilter, and of what builds networks.
_ABOUT_MODULES = ("nf_", "nft_", "nf_tables", "nfnetlink", "xt_", "x_tables", "ip_", "ip6", "ipt_", "ebt", "arpt")
_MORE_MODULES = ("iptable_", "veth", "bridge", "br_netfilter", "openvswitch", "act_", "cls_", "sch_", "overlay")
ABOUT_OPTIONS = ("NF_", "NFT_", "NETFILTER", "IP_NF", "IP6_NF", "IP_VS", "NET_ACT_CT", "OPENVSWITCH", "VETH", "BRIDGE")
_CONFIG_PLACES = ("/proc/config.gz", "/boot/config-{release}", "/lib/modules/{release}/config")
_VERSION_COMMANDS = {"iptables": (("iptables-legacy", "-V"), ("iptables", "-V")), "nft": (("nft", "-v"),)}
_VERSION_SECONDS = 10.0
_MAX_CONFIG_BYTES = 4 * 1024 * 1024


def prepare() -> List[str]:
    """Raise the limits and bring loopback up; returns a line for each thing that was refused."""
    programs.provide()
    capabilities()  # here, before the machine's memory is saved, so that no cell waits for it
    observe.prepare()
    problems = set_sysctls(LIMITS)
    limit = int(LIMITS["fs.nr_open"])
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    except (OSError, ValueError) as error:
        problems.append("RLIMIT_NOFILE: {}".format(error))
    try:
        bring_up("lo")
    except OSError as error:
        problems.append("lo: {}".format(error_name(error)))
    return problems


def missing_programs(names: List[str]) -> List[str]:
    """Those of the programs that no folder of a step's PATH has."""
    return [name for name in names if shutil.which(program_here(name), path=STEP_PATH) is None]


def take_name() -> None:
    """Give the running machine the name in /etc/hostname, where there is one (hostname(5))."""
    name, _, _ = read_text("/etc/hostname")
    if name and name.strip():
        socket.sethostname(name.strip())


def bring_up(interface: str) -> None:
    """Set a network interface up (netdevice(7)); raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", interface.encode("ascii"), 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", interface.encode("ascii"), flags | _IFF_UP))


def facts() -> Dict[str, Any]:
    """What this machine is, measured in it."""
    uname = os.uname()
    os_release, _, _ = read_text("/etc/os-release")
    return {
        "protocol": PROTOCOL_VERSION,
        "kernel_release": uname.release,
        "kernel_version": uname.version,
        "architecture": uname.machine,
        "python": platform.python_version(),
        "cpus": os.sysconf("SC_NPROCESSORS_ONLN"),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "os_release": os_release,
        "ipv6": os.path.exists("/proc/net/if_inet6"),
        **capabilities(),
    }


@functools.lru_cache(maxsize=None)
def capabilities() -> Dict[str, Any]:
    """What this kernel and these programs can do, in their own words; None is what could not be read.

    Looked at once. A module that a program loads to tell its version (nft wants nfnetlink) is removed again.
    """
    release = os.uname().release
    return {
        "modules_loadable": _module_names("/lib/modules/{}/modules.dep".format(release)),
        "modules_about": list(_ABOUT_MODULES + _MORE_MODULES),
        "modules_builtin": _module_names("/lib/modules/{}/modules.builtin".format(release)),
        "kernel_config": _kernel_config(release),
        "versions": _versions(),
        "programs_of_lab": _lent(),
    }


def _module_names(path: str) -> Optional[List[str]]:
    text, _, _ = read_text(path)
    if text is None:
        return None
    names = (os.path.basename(line.split(":", 1)[0]).split(".", 1)[0].replace("-", "_") for line in text.splitlines())
    return sorted(name for name in names if name.startswith(_ABOUT_MODULES + _MORE_MODULES))


def _kernel_config(release: str) -> Optional[str]:
    """The lines about netfilter of the kernel's configuration, where the machine has it."""
    for place in _CONFIG_PLACES:
        path = place.format(release=release)
        try:
            with gzip.open(path, "rt") if path.endswith(".gz") else open(path) as file:
                text = file.read(_MAX_CONFIG_BYTES)
        except (OSError, ValueError):
            continue
        wanted = tuple("CONFIG_" + name for name in ABOUT_OPTIONS)
        return "".join(line for line in text.splitlines(True) if line.startswith(wanted))
    return None


def _versions() -> Dict[str, Optional[str]]:
    before = loaded_modules()
    versions = {program: _version(commands) for program, commands in _VERSION_COMMANDS.items()}
    for module in loaded_modules():
        if module not in before:
            run_command(["modprobe", "-r", module], _VERSION_SECONDS)
    return versions


def _lent() -> Optional[List[str]]:
    """The lab's own programs that are run here: not `iptables-legacy` where the distribution has it as `iptables`."""
    names = programs.lent()
    return None if names is None else [name for name in names if os.path.basename(program_here(name)) == name]


def _version(commands: Any) -> Optional[str]:
    for argv in commands:
        outcome = run_command(list(argv), _VERSION_SECONDS)
        if outcome["exit_status"] == 0 and outcome["stdout"].strip():
            return str(outcome["stdout"].splitlines()[0])
    return None


def set_existing(values: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """Write those sysctls and parameters (a name, or a path that starts with /) that exist now.

    One that does not exist is reported so and left alone: writing it would need a module that the starting state did
    not load. Returns, for each, what was wanted, what was there before and after, and the error.
    """
    return {name: _set_one(name, value) for name, value in values.items()}


def _set_one(name: str, value: Any) -> Dict[str, Any]:
    path = name if name.startswith("/") else sysctl_path(name)
    before, error, _ = read_text(path)
    if before is None:
        return {"wanted": value, "before": None, "after": None, "error": error}
    try:
        write_text(path, str(value))
    except OSError as failure:
        error = error_name(failure)
    after, _, _ = read_text(path)
    return {"wanted": value, "before": before.strip(), "after": (after or "").strip() or None, "error": error}
