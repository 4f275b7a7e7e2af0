"""A scenario without the lab: commands for a throwaway machine, and its load in small as a Python script."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence

from lab.core.plan import CellPlan, RemoveStep, open_at_once
from lab.core.render.by_hand_paths import Places, places
from lab.core.scenario import DEFAULT_PATH, FileStep, LoadSpec, RunStep, Step, SysctlStep, UnloadStep

_PORT = 7777
_TIMES_MAX = 4  # so many connections for each entry that the table can hold show what it does with the rest
_DEFAULT_CONNECTIONS = 400
_MOST_CONNECTIONS = 20_000
_USUAL_FILES = 1024  # the soft limit of open files that a shell has
_SPARE_FILES = 100
_MODULES = ("ctypes", "os", "resource", "socket", "struct", "threading", "time")
_USUAL_FOLDERS = ("", "/etc", "/etc/modprobe.d", "/root", "/run", "/tmp")
_KERNELS_FILES = ("/proc/", "/sys/")
_MOST_COLUMNS = 100
_EMPTY = "conntrack is not in the kernel"

_LOOK = f"""\
def look():
    path = "/proc/sys/net/netfilter/nf_conntrack_count"
    if not os.path.exists(path):
        return "{_EMPTY}"
    names, *cpus = map(str.split, open("/proc/net/stat/nf_conntrack"))
    drop, early = (sum(int(cpu[names.index(name)], 16) for cpu in cpus) for name in ("drop", "early_drop"))
    return f"entries {{open(path).read().strip()}}, drop {{drop}}, early_drop {{early}}\""""

_ENTER = """\
def enter(namespace):
    with open(namespace) as file:
        if ctypes.CDLL(None).setns(file.fileno(), 0x40000000):
            raise SystemExit(namespace)"""

_ACCEPT = """\
def accept():
    while True:
        accepted.append(server.accept())"""

_HELD = """\
threading.Thread(target=accept, daemon=True).start()
for _ in range({count}):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex({server})
    clients.append(client)
    time.sleep(0.001)
time.sleep(2)"""

_CHURNED = """\
opened, failed, pairs = 0, 0, []
while opened < {count} and failed < 20:
    client = socket.socket()
    client.settimeout(0.5)
    try:
        client.connect({server})
    except OSError:
        failed += 1
        continue
    opened += 1
    pairs.append((client, server.accept()[0]))
    if len(pairs) == {at_once}:
        end(*pairs.pop(0)){pause}"""

_SYNS = """\
queued = socket.create_connection({server})  # fills the queue: no further SYN is answered
for _ in range({count}):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex({server})
    client.close(){pause}"""

_DATAGRAMS = """\
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind(("", {port}))  # takes what comes, and never answers
source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
refused = 0
for number in range({count}):
    try:
        source.sendto(b"", (f"127.0.{{number // 250 + 1}}.{{number % 250 + 1}}", {port}))
    except PermissionError:
        refused += 1{pause}"""

# What closes both ends; `reset` makes close() send RST (socket(7)), TCP_REPAIR (19) makes it send nothing.
_ENDS: Mapping[str, str] = {
    "fin": """\
def end(client, peer):
    client.close()
    peer.close()""",
    "reset": """\
def end(client, peer):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    peer.close()""",
    "vanish": """\
def end(client, peer):
    for each in (client, peer):
        each.setsockopt(socket.IPPROTO_TCP, 19, 1)
        each.close()""",
}


def commands(step: Step | RemoveStep) -> str:
    """A step, its placeholders filled in, as what one types."""
    match step:
        case RunStep(argv, refused, end=end):
            return _where(end) + shlex.join(argv) + ("  # must fail" if refused else "")
        case FileStep(path, source=source) if source:
            return f"cp {shlex.quote(source)} {shlex.quote(path)}  # the file beside the scenario"
        case FileStep(path, text):
            return _write(path, text)
        case SysctlStep(values, end=end):
            return "\n".join(_where(end) + _sysctl(name, value) for name, value in values)
        case UnloadStep(modules):
            return _unload(modules)
        case RemoveStep(argv, _):
            return shlex.join(argv)


def _where(end: str | None) -> str:
    return f"ip netns exec lab-{end} " if end else ""


def settings(plan: CellPlan) -> str:
    """The table's settings as what one types; empty where the kernel's own are left."""
    lines = []
    for name, value in plan.settings.items():
        lines.append(f"echo {value} > {name}" if name.startswith("/") else _sysctl(name, str(value)))
    return "\n".join(lines)


def covers(plan: CellPlan) -> bool:
    """Whether there is a script for the plan's load: others are shown by `lab shell` alone."""
    load = plan.load
    plain = load.family is None and not (load.data or load.answered or plan.during or load.close == "half")
    return plain and (plan.machine.path in (None, DEFAULT_PATH) or load.kind in ("hold", "churn"))


def connections(plan: CellPlan) -> int:
    """How many connections show the same by hand: a few times the table, never more than the scenario's."""
    enough = _TIMES_MAX * plan.conntrack.max if plan.conntrack.max else _DEFAULT_CONNECTIONS
    return min(plan.load.connections, max(enough, _DEFAULT_CONNECTIONS), _MOST_CONNECTIONS)


def load_script(plan: CellPlan) -> str:
    """The load in small, as a Python script that prints the counters before and after it."""
    ends = places(plan)
    count = connections(plan)
    files = 2 * (count if plan.load.kind == "hold" else _at_once(plan.load, count)) + _SPARE_FILES
    limit = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))" if files > _USUAL_FILES else ""
    parts = [limit, _LOOK, _ENTER if _remote(ends) else "", _LOADS[plan.load.kind](plan.load, count, ends)]
    body = "\n\n".join(filter(None, parts))
    modules = [module for module in _MODULES if f"{module}." in body]
    return f"import {', '.join(modules)}\n\n{body}"


def _hold(load: LoadSpec, count: int, ends: Places) -> str:
    lines = ["accepted, clients = [], []", "", _ACCEPT, "", 'print("before:", look())', *_server(ends)]
    lines += [_HELD.format(count=count, server=_address(ends.connect_to)), *_home(ends)]
    return "\n".join([*lines, 'print("after: ", look())', f'print(len(accepted), "of {count} accepted")'])


def _churn(load: LoadSpec, count: int, ends: Places) -> str:
    churned = _CHURNED.format(
        count=count, server=_address(ends.connect_to), at_once=_at_once(load, count), pause=_pause(load)
    )
    lines = [_ENDS.get(load.close or "fin", ""), "", 'print("before:", look())', *_server(ends), churned, *_home(ends)]
    return "\n".join([*lines, 'print("after: ", look())', f'print(opened, "of {count} opened,", failed, "failed")'])


def _half_open(load: LoadSpec, count: int, ends: Places) -> str:
    address = _address(ends.connect_to)
    lines = ['print("before:", look())', f"server = socket.create_server({address}, backlog=0)"]
    lines += [_SYNS.format(count=count, server=address, pause=_pause(load)), 'print("after: ", look())']
    return "\n".join([*lines, *_newcomers(load)])


def _udp(load: LoadSpec, count: int, ends: Places) -> str:
    lines = ['print("before:", look())', _DATAGRAMS.format(count=count, port=_PORT, pause=_pause(load))]
    lines += ['print("after: ", look())', f'print(refused, "of {count} refused")']
    return "\n".join([*lines, *_newcomers(load)])


_LOADS = {"hold": _hold, "churn": _churn, "half-open": _half_open, "udp": _udp}


def _newcomers(load: LoadSpec) -> list[str]:
    """TCP connections after a flood: do they still get in?"""
    if not load.newcomers:
        return []
    count = min(load.newcomers, _DEFAULT_CONNECTIONS)
    address = f'("127.0.0.1", {_PORT + 1})'
    lines = ["", "accepted, clients = [], []", "", _ACCEPT, "", f"server = socket.create_server({address})"]
    lines += [_HELD.format(count=count, server=address), 'print("then:  ", look())']
    return [*lines, f'print(len(accepted), "of {count} newcomers accepted")']


def _server(ends: Places) -> list[str]:
    listen = f"server = socket.create_server({_address(ends.listen_on)}, backlog=100)"
    if not _remote(ends):
        return [listen]
    return [_enter(ends.server), listen, _enter(ends.client)]


def _home(ends: Places) -> list[str]:
    return [_enter("")] if _remote(ends) else []


def _remote(ends: Places) -> bool:
    return bool(ends.client or ends.server)


def _enter(namespace: str) -> str:
    return f'enter("/run/netns/{namespace}")' if namespace else 'enter("/proc/1/ns/net")'


def _address(address: str) -> str:
    return f'("{address}", {_PORT})'


def _at_once(load: LoadSpec, count: int) -> int:
    return min(open_at_once(load), count) if load.kind == "churn" and load.hold_seconds else 1


def _pause(load: LoadSpec) -> str:
    return f"\n    time.sleep({1 / load.rate_per_second:.6g})" if load.rate_per_second else ""


def _unload(modules: Sequence[str]) -> str:
    names = " ".join(module.replace("-", "_") for module in modules)
    lines = textwrap.wrap(f"for module in {names}; do", _MOST_COLUMNS, break_long_words=False, subsequent_indent="    ")
    loop = (" \\\n".join(lines), '    if grep -q "^$module " /proc/modules; then modprobe -r "$module"; fi', "done")
    return "\n".join(("sleep 1  # what was flushed is freed in the background", *loop))


def _sysctl(name: str, value: str) -> str:
    return f"sysctl -w {shlex.quote(f'{name}={value}')}"


def _write(path: str, text: str) -> str:
    if path.startswith(_KERNELS_FILES):
        return f"echo {shlex.quote(text.rstrip())} > {shlex.quote(path)}"
    folder = path.rpartition("/")[0]
    lines = (
        []
        if folder in ("", "/etc", "/tmp", "/run", "/root", "/etc/modprobe.d")
        else [f"mkdir -p {shlex.quote(folder)}"]
    )
    if not text.endswith("\n"):
        return "\n".join([*lines, f"printf %s {shlex.quote(text)} > {shlex.quote(path)}"])
    end = "EOF"
    while end in text.splitlines():
        end += "_"
    return "\n".join([*lines, f"cat > {shlex.quote(path)} << '{end}'", f"{text}{end}"])
