"""The texts of a host and of its network namespaces, as a mapping from their paths in a record to them."""

import errno
import os
import platform
import re
import shutil
import time
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from lab.guest import observe
from lab.guest.apply import STEP_PATH
from lab.guest.files import MAX_TEXT_BYTES, error_name, read_text
from lab.guest.recorder import FORMAT_VERSION
from lab.guest.recorder.modules import module_texts, present
from lab.guest.recorder.namespaces import OWN, Namespace, inside, namespaces
from lab.guest.recorder.pseudonyms import random_pseudonyms
from lab.guest.recorder.rulesets import rulesets
from lab.guest.recorder.table import entries

Files = Dict[str, str]

_HOST_FILES = (("modules", "/proc/modules"), ("cmdline", "/proc/cmdline"), ("uptime", "/proc/uptime"))
_PARAMETERS = ("/sys/module/nf_conntrack/parameters/*",)
_PORTS = ("/sys/class/net/*/brport/port_no",)  # of the namespace that /sys was mounted in: the recorder's own
_NAMESPACE_FILES = (
    ("stat_nf_conntrack", "/proc/net/stat/nf_conntrack"),
    ("snmp", "/proc/net/snmp"),
    ("ip_tables_names", "/proc/net/ip_tables_names"),
    ("ip6_tables_names", "/proc/net/ip6_tables_names"),
    ("ip_vs", "/proc/net/ip_vs"),
)
_WITH_ADDRESSES = frozenset(
    {"ruleset.nft", "ruleset.json", "ovs.flows", "tc.filters", "ip_vs"}
    | {"{}-{}-save".format(program, backend) for program in ("iptables", "ip6tables") for backend in ("legacy", "nft")}
)
_LATER = ("stat_nf_conntrack", "snmp")
_SYSCTLS = ("/proc/sys/net/netfilter/nf_conntrack_*",)
_BRIDGE = ("/proc/sys/net/bridge/bridge-nf-call-*", "/sys/class/net/*/bridge/nf_call_ip*tables")
_COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
_NAMESPACE_SECONDS = 90.0
_KMSG = "/dev/kmsg"
_KMSG_RECORDS = 100000
_KMSG_KEPT = 2000
# of the kernel's log only these lines: a firewall logs addresses there
_OF_CONNTRACK = re.compile(r"conntrack|(?:callbacks|messages) suppressed")


class Options(NamedTuple):
    """What is recorded beside rules, counters and settings."""

    watch_seconds: float = 1.0  # between two looks at the counters; 0 for one look
    entries: bool = False  # the rows of the table
    addresses: bool = False  # of rows, which are left out without it
    pseudonyms: bool = False  # in rules, in the place of addresses
    total_seconds: float = 300.0  # after which no further namespace is begun


def collect(options: Options) -> Files:
    """Everything, each text by its path in a record. Changes nothing on the host, and ends in bounded time."""
    files: Files = {"version": "{}\n".format(FORMAT_VERSION)}
    files.update(_below("host", _host()))
    there = present()
    found, problems = namespaces()
    files["namespaces.problems"] = "".join(line + "\n" for line in problems)
    began = time.monotonic()
    seen: List[Namespace] = []
    for namespace in found:
        folder = "ns/{}".format(namespace.inode)
        files.update(_below(folder, _identity(namespace)))
        if time.monotonic() - began > options.total_seconds:
            files[folder + "/error"] = "not read: {:g} s were over".format(options.total_seconds)
            continue
        try:
            look = inside(namespace, lambda: _look(there, options), _NAMESPACE_SECONDS)
        except OSError as error:
            files[folder + "/error"] = str(error)
            continue
        files.update(_below(folder, look))
        seen.append(namespace)
    if options.pseudonyms:
        _hide_addresses(files)
    if options.watch_seconds > 0:
        files.update(_second_looks(seen, began, options.watch_seconds))
    files.update(_below("host", dict(_text_items("modules_after", read_text("/proc/modules")))))
    return files


def _hide_addresses(files: Files) -> None:
    """Put pseudonyms into the texts that name addresses, the same in all of them."""
    hidden = random_pseudonyms()
    for path, text in files.items():
        if path.rpartition("/")[2].partition(".error")[0] in _WITH_ADDRESSES:
            files[path] = hidden(text)
    files["host/pseudonyms"] = "1\n"


def _second_looks(seen: List[Namespace], began: float, seconds: float) -> Files:
    """The counters again, `seconds` after the first look."""
    time.sleep(max(0.0, seconds - max(0.0, time.monotonic() - began - seconds)) if seen else 0.0)
    files: Files = {}
    for namespace in seen:
        try:
            later = inside(namespace, _look_again, _NAMESPACE_SECONDS)
        except OSError:  # it is gone: one look is what there is
            continue
        files.update(_below("ns/{}/later".format(namespace.inode), later))
    return files


def _below(folder: str, files: Files) -> Files:
    return {"{}/{}".format(folder, name): text for name, text in files.items()}


def _host() -> Files:
    files: Files = {"uname": "{}\n".format(platform.release()), "pid_1_namespace": _link("/proc/1/ns/net")}
    for name, path in _HOST_FILES:
        files.update(_text_items(name, read_text(path)))
    files.update(module_texts())
    files["user"] = "{}\n".format(os.geteuid())
    groups = dict(observe.GROUPS)
    for name, patterns in (("modprobe.d", groups["modprobe.d"]), ("parameters", _PARAMETERS), ("bridge_ports", _PORTS)):
        files.update(_text_items(name, observe.group_text(patterns)))
    files.update(_text_items("slabinfo", observe.slab_rows()))
    files.update(_text_items("kmsg", _kernel_log()))
    # what `iptables` leads to, which asking it for its version would load a module for
    files["iptables.program"] = os.path.realpath(shutil.which("iptables", path=STEP_PATH) or "") + "\n"
    return files


def _text_items(name: str, read: Tuple[Optional[str], Optional[str], bool]) -> Files:
    text, error, cut = read
    if text is None:
        return {name + ".error": error or "?"}
    return {name: text} if not cut else {name: text, name + ".cut": "only its beginning was kept\n"}


def _link(path: str) -> str:
    try:
        return os.readlink(path) + "\n"
    except OSError:
        return "?\n"


def _identity(namespace: Namespace) -> Files:
    return {
        "names": "".join(name + "\n" for name in namespace.names),
        "processes": "".join(line + "\n" for line in namespace.processes),
        "process_count": "{}\n".format(namespace.process_count),
        "own": "{:d}\n".format(namespace.path == OWN),
    }


def _look(there: Optional[Set[str]], options: Options) -> Files:
    files: Files = {"at": "{:.3f}\n".format(time.monotonic())}
    for name, path in _NAMESPACE_FILES:
        files.update(_text_items(name, read_text(path)))
    files.update(_text_items("sysctl", observe.group_text(_SYSCTLS)))
    files.update(_text_items("bridge", observe.group_text(_BRIDGE)))
    files.update(rulesets(there))
    if options.entries:
        files.update(entries(there is None or "nf_conntrack_netlink" in there, options.addresses))
    return files


def _look_again() -> Files:
    files: Files = {"at": "{:.3f}\n".format(time.monotonic())}
    for name, path in _NAMESPACE_FILES:
        if name in _LATER:
            files.update(_text_items(name, read_text(path)))
    files.update(_text_items("sysctl", observe.group_text((_COUNT,))))
    return files


def _kernel_log() -> Tuple[Optional[str], Optional[str], bool]:
    """The records of the kernel's log that speak of conntrack, as /dev/kmsg has them: the newest of many."""
    try:
        fd = os.open(_KMSG, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return None, error_name(error), False
    kept: List[str] = []
    try:
        for _ in range(_KMSG_RECORDS):
            try:
                record = os.read(fd, 8192).decode("utf-8", "backslashreplace")
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten before it was read: the next read goes on behind it
                    continue
                return None, error_name(error), False
            if _OF_CONNTRACK.search(record):
                kept.append(record[:MAX_TEXT_BYTES])
    finally:
        os.close(fd)
    return "".join(kept[-_KMSG_KEPT:]), None, len(kept) > _KMSG_KEPT
