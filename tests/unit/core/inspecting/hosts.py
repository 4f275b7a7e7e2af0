"""Hosts as texts for the tests: what a record of each has."""

from __future__ import annotations

from lab.core.inspecting.inspection import Inspection, Look, inspect
from lab.core.inspecting.record import record_of

STAT = "entries  found invalid insert_failed drop early_drop clashres chainlength\n"
MASQUERADE = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n"
STATEFUL = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n"
NO_TABLE = "is not loaded: no table is there\n"
MODULES = (
    "xt_MASQUERADE 16384 1 - Live 0x0\n"
    "nf_nat 57344 1 xt_MASQUERADE, Live 0x0\n"
    "nf_conntrack 188416 2 nf_nat,xt_MASQUERADE, Live 0x0\n"
)
# nothing is loaded, and whatever could be asked was asked
HOST = {
    "version": "1\n",
    "host/uname": "6.1.0-50-amd64\n",
    "host/modules": "",
    "host/modules.builtin": "",
    "host/sys_module": "",
    "host/cmdline": "quiet\n",
    "host/modprobe.d": "",
    "host/uptime": "1000.00 900.00\n",
    "host/user": "0\n",
    "host/kmsg": "",
}
OWN = 4026531840
EMPTY = {
    "own": "1\n",
    "at": "10.0\n",
    "iptables-legacy-save.error": NO_TABLE,
    "ip6tables-legacy-save.error": NO_TABLE,
    "ruleset.nft.error": "nf_tables is not loaded\n",
    "hooks.nft.error": "nfnetlink_hook is not loaded\n",
    "tc.filters.error": "act_ct is not loaded\n",
    "ovs.flows.error": "openvswitch is not loaded\n",
    "ip_vs.error": "ENOENT\n",
}


def stat(entries: int, **counters: int) -> str:
    """A /proc/net/stat/nf_conntrack of one CPU."""
    names = STAT.split()
    return STAT + " ".join(f"{dict(counters, entries=entries).get(name, 0):08x}" for name in names) + "\n"


def sysctl(count: int, most: int = 1000) -> str:
    """The settings of a table."""
    path = "/proc/sys/net/netfilter/nf_conntrack_"
    return f"{path}count: {count}\n{path}max: {most}\n{path}buckets: 512\n{path}tcp_timeout_time_wait: 120\n"


def files(
    host: dict[str, str] | None = None, own: dict[str, str] | None = None, **others: dict[str, str]
) -> dict[str, str]:
    """A record's files; a text that is given takes the place of its error. `others`: namespaces, by `n` and inode."""
    found = {**HOST, **{f"host/{name}": text for name, text in (host or {}).items()}}
    namespaces = {OWN: own or {}, **{int(name[1:]): {"own": "0\n", **texts} for name, texts in others.items()}}
    for inode, texts in namespaces.items():
        items = {name: text for name, text in EMPTY.items() if name.removesuffix(".error") not in texts}
        found.update({f"ns/{inode}/{name}": text for name, text in {**items, **texts}.items()})
    return found


def inspected(
    host: dict[str, str] | None = None, own: dict[str, str] | None = None, **others: dict[str, str]
) -> Inspection:
    """What `lab inspect` says of such a host."""
    return inspect(record_of(files(host, own, **others), "a test"))


def look(host: dict[str, str] | None = None, own: dict[str, str] | None = None) -> Look:
    """The same of its own namespace."""
    return inspected(host, own).looks[0]
