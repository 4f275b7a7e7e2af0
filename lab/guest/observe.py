"""Recording evidence: raw text of the kernel's files and of the rulesets, without changing what is observed.

A collector that loaded a conntrack module would make the very state that it reports. Three things prevent that:
programs that read rulesets are run only when the module that would hold such rules is loaded already; while they run,
/proc/sys/kernel/modprobe names a program that loads nothing, which stops the kernel's own autoloading and iptables'
(it asks that file which program to call), and where that cannot be set no such program runs; and the module list is
recorded at the beginning and at the end, so that the host can refuse evidence whose collection loaded one.
"""

import fnmatch
import glob
import os
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from lab.guest import hooks, loader
from lab.guest.apply import finish_command, loaded_modules, run_command, start_command
from lab.guest.files import MAX_TEXT_BYTES, error_name, read_text
from lab.guest.loader import NoLoading

OnEvidence = Callable[[Dict[str, Any]], None]

FILES: Tuple[Tuple[str, str], ...] = (
    ("modules", "/proc/modules"),
    ("stat_nf_conntrack", "/proc/net/stat/nf_conntrack"),
    ("snmp", "/proc/net/snmp"),
    ("netstat", "/proc/net/netstat"),
    ("sockstat", "/proc/net/sockstat"),
    ("meminfo", "/proc/meminfo"),
    ("cmdline", "/proc/cmdline"),
    ("ip_tables_names", "/proc/net/ip_tables_names"),
    ("ip6_tables_names", "/proc/net/ip6_tables_names"),
    ("ip_vs", "/proc/net/ip_vs"),
)

# One text of "path: value" lines each; a sysctl that does not exist has no line.
GROUPS: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    (
        "sysctl",
        (
            "/proc/sys/net/netfilter/nf_conntrack_*",
            "/proc/sys/net/core/somaxconn",
            "/proc/sys/net/core/message_*",
            "/proc/sys/net/core/netdev_max_backlog",
            "/proc/sys/net/ipv4/ip_local_port_range",
            "/proc/sys/net/ipv4/tcp_max_syn_backlog",
            "/proc/sys/net/ipv4/tcp_syncookies",
            "/proc/sys/net/ipv4/tcp_syn*retries",
            "/proc/sys/net/ipv4/tcp_mem",
            "/proc/sys/fs/file-nr",
            "/proc/sys/fs/nr_open",
            "/sys/module/nf_conntrack/parameters/*",
        ),
    ),
    # whether packets of a bridge pass the hooks of ip and ip6, and what is a port of one
    (
        "bridge",
        (
            "/proc/sys/net/bridge/bridge-nf-*",
            "/sys/class/net/*/bridge/nf_call_ip*tables",
            "/sys/class/net/*/brport/port_no",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/net/ipv6/conf/all/forwarding",
        ),
    ),
    ("modprobe.d", ("/etc/modprobe.d/*", "/run/modprobe.d/*", "/lib/modprobe.d/*")),
)

# Built into the kernel, a module has a folder in /sys/module and no line in /proc/modules.
MODULE_PATTERNS = (
    "nf_*",
    "nft_*",
    "xt_*",
    "ip*table*",
    "ip*t_*",
    "ip_conntrack*",
    "nfnetlink*",
    "x_tables",
    "ip_vs*",
    "openvswitch",
    "act_ct",
)

_MODULES = "/sys/module"
ENTRIES_PATH = "/proc/net/nf_conntrack"
ENTRIES_BYTES = 65536  # enough to see whose entries they are; their number is in nf_conntrack_count
SLAB_PATH = "/proc/slabinfo"
SLABS = ("# name", "slabinfo", "nf_conntrack", "TCP ", "request_sock_TCP")

COMMAND_SECONDS = 20.0
_MAX_PROCESSES = 200
_MAX_ARGV = 4096
_ERROR_CHARACTERS = 2000
_GROUP_FILE_BYTES = 65536


class Command(NamedTuple):
    """A program that shows rules or hooks, and the modules without which there can be none, or none be shown."""

    name: str
    argv: Tuple[str, ...]
    needs: Tuple[str, ...]


# The filters of every device (at most 500), each list after a line of its own. No list is no error where there is no
# queueing discipline that could have one. /sys/class/net would show the namespace that sysfs was mounted in.
_TC_FILTERS = """command -v tc > /dev/null || exit 127
left=500
sed -n 's/^ *\\([^ :]*\\):.*/\\1/p' /proc/net/dev | while read -r device; do
    for direction in ingress egress; do
        echo "dev $device $direction"
        tc filter show dev "$device" "$direction" 2> /dev/null
    done
    left=$((left - 1))
    test $left -gt 0 || exit 125
done
"""

COMMANDS = (
    Command("ruleset.nft", ("nft", "-a", "list", "ruleset"), ("nf_tables",)),
    Command("ruleset.json", ("nft", "-j", "-a", "list", "ruleset"), ("nf_tables",)),
    Command("iptables-legacy-save", ("iptables-legacy-save", "-c"), ("ip_tables",)),
    Command("ip6tables-legacy-save", ("ip6tables-legacy-save", "-c"), ("ip6_tables",)),
    Command("iptables-nft-save", ("iptables-nft-save", "-c"), ("nf_tables",)),
    Command("ip6tables-nft-save", ("ip6tables-nft-save", "-c"), ("nf_tables",)),
    Command("tc.filters", ("sh", "-c", _TC_FILTERS), ("act_ct",)),
    Command("ovs.datapaths", ("ovs-dpctl", "show"), ("openvswitch",)),
    Command("ovs.flows", ("ovs-appctl", "dpctl/dump-flows"), ("openvswitch",)),
)


HOOKS = "hooks.nft"

# Every name that evidence can have: on the host each becomes a file.
ITEM_NAMES = frozenset(
    [name for name, _ in FILES]
    + [name for name, _ in GROUPS]
    + [command.name for command in COMMANDS]
    + [HOOKS, "sys_module", "nf_conntrack", "slabinfo", "processes", "modules_after"]
)


def prepare() -> None:
    """Look at the files of GROUPS once: compiled patterns, which an emulated machine needs some ms for each, are there
    then when its memory is saved.
    """
    for _, patterns in GROUPS:
        group_text(patterns)
    known_modules()


def observe(on_evidence: OnEvidence, list_hooks: bool = False) -> None:
    """Record everything once; each item is passed on with its name, its text, and why it has none.

    `list_hooks` may load what lists the kernel's hooks, which depends on no module of conntrack; without it they are
    listed only where that is loaded already.
    """
    for name, path in FILES:
        on_evidence(_item(name, *read_text(path)))
    for name, patterns in GROUPS:
        on_evidence(_item(name, *group_text(patterns)))
    on_evidence(_item("sys_module", "\n".join(known_modules()) + "\n", None, False))
    on_evidence(_item("nf_conntrack", *read_text(ENTRIES_PATH, ENTRIES_BYTES)))
    on_evidence(_item("slabinfo", *slab_rows()))
    on_evidence(_item("processes", *_other_processes()))
    if list_hooks:  # a scenario's own `install` lines are about other loads, and are ignored
        run_command(["modprobe", "--quiet", "--ignore-install", hooks.MODULE], COMMAND_SECONDS)
    _run_commands(on_evidence)
    on_evidence(_item("modules_after", *read_text("/proc/modules")))


def _run_commands(on_evidence: OnEvidence) -> None:
    """The rulesets and the hooks, as far as their modules are there, in one deadline for all."""
    present = set(known_modules()) | set(loaded_modules())
    with NoLoading() as loading:
        obstacle = loading.obstacle
        wanted = [command for command in COMMANDS if obstacle is None and present.issuperset(command.needs)]
        deadline = time.monotonic() + COMMAND_SECONDS
        started = [(command, _start(command)) for command in wanted]
        lists_hooks = obstacle is None and hooks.MODULE in present
        if lists_hooks:
            on_evidence(_item(HOOKS, *listed_hooks()))
        for command, process in started:
            on_evidence(_finish(command, process, deadline - time.monotonic()))
    not_asked = [(command.name, command.needs) for command in COMMANDS if command not in wanted]
    if not lists_hooks:
        not_asked.append((HOOKS, (hooks.MODULE,)))
    for name, needs in not_asked:
        missing = [module for module in needs if module not in present]
        reason = "{} is not loaded".format(missing[0]) if missing else "{}: {}".format(loader.LOADER_PATH, obstacle)
        on_evidence(_item(name, None, reason, False))


def listed_hooks() -> Tuple[Optional[str], Optional[str], bool]:
    """The text of HOOKS, or why there is none, and whether it was cut; as of read_text."""
    try:
        text = hooks.list_hooks()
    except (OSError, ValueError) as error:
        return None, error_name(error) if isinstance(error, OSError) else str(error), False
    return text[:MAX_TEXT_BYTES], None, len(text) > MAX_TEXT_BYTES


def _start(command: Command) -> Any:
    try:
        return start_command(command.argv)
    except OSError as error:
        return error


def _finish(command: Command, process: Any, seconds: float) -> Dict[str, Any]:
    if isinstance(process, OSError):
        return _item(command.name, None, error_name(process), False)
    ended = finish_command(process, seconds, MAX_TEXT_BYTES)
    if ended.exit_status != 0:
        error = "exit status {}: {}".format(ended.exit_status, ended.stderr.text[:_ERROR_CHARACTERS].strip())
        return _item(command.name, None, error, False)
    return _item(command.name, ended.stdout.text, None, ended.stdout.truncated)


def _item(name: str, text: Optional[str], error: Optional[str], truncated: bool) -> Dict[str, Any]:
    return {"name": name, "text": text, "error": error, "truncated": truncated}


def group_text(patterns: Tuple[str, ...]) -> Tuple[str, Optional[str], bool]:
    """The files of these globs as lines `path: line`: (text, error, truncated)."""
    lines: List[str] = []
    size = 0
    for path in sorted(path for pattern in patterns for path in glob.glob(pattern)):
        text, _, cut = read_text(path, _GROUP_FILE_BYTES)
        for line in (text or "").splitlines():
            size += len(path) + len(line) + 3
            if size > MAX_TEXT_BYTES:
                return "".join(lines), None, True
            lines.append("{}: {}\n".format(path, line))
        if cut:
            return "".join(lines), None, True
    return "".join(lines), None, False


def known_modules() -> List[str]:
    """The modules of MODULE_PATTERNS that are loaded or built in, from /sys/module."""
    names = os.listdir(_MODULES) if os.path.isdir(_MODULES) else []
    return sorted({name for pattern in MODULE_PATTERNS for name in fnmatch.filter(names, pattern)})


def _other_processes() -> Tuple[Optional[str], Optional[str], bool]:
    """What runs beside the kernel and the lab: a line "PID PARENT ARGV" for each process."""
    own = _command_line("self")
    lines: List[str] = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        argv = _command_line(str(pid))
        if argv and argv != own:  # the kernel's threads have none; the load's processes have ours
            lines.append("{} {} {}\n".format(pid, _parent(pid), argv[:_MAX_ARGV]))
    return "".join(lines[:_MAX_PROCESSES]), None, len(lines) > _MAX_PROCESSES


def _command_line(pid: str) -> str:
    text, _, _ = read_text("/proc/{}/cmdline".format(pid), _MAX_ARGV)
    return " ".join((text or "").split("\0")).strip().replace("\n", " ")


def _parent(pid: int) -> str:
    """The fourth field of /proc/PID/stat (proc(5)); the second is a name that may have spaces in it."""
    text, _, _ = read_text("/proc/{}/stat".format(pid), 4096)
    fields = (text or "").rpartition(")")[2].split()
    return fields[1] if len(fields) > 1 else "?"


def slab_rows() -> Tuple[Optional[str], Optional[str], bool]:
    """The rows of SLABS in /proc/slabinfo: (text, error, truncated)."""
    text, error, truncated = read_text(SLAB_PATH)
    if text is None:
        return None, error, False
    return "".join(line for line in text.splitlines(True) if line.startswith(SLABS)), None, truncated
