"""Keeping conntrack out of a path's remote ends, so that this machine's table is the one that the load meets."""

import socket
from typing import Any, Dict, Iterable, List, Sequence, Tuple

from lab.guest.apply import run_command
from lab.guest.files import read_text
from lab.guest.namespaces import TopologyError, inside
from lab.guest.paths import IPV4, IPV6, LOOPBACK_ADDRESSES, path_of
from lab.guest.topology import failure

_COMMAND_SECONDS = 20.0
_COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
_DISCARD_PORT = 9
_SOCKETS = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}

# Either of these, run in a namespace, keeps what passes there out of conntrack.
_NFT_CHAIN = "chain {0} {{ type filter hook {0} priority -300; notrack; }}; "
_NFT_CHAINS = "".join(_NFT_CHAIN.format(hook) for hook in ("prerouting", "output"))
_NOTRACK: Tuple[List[List[str]], ...] = (
    [
        [program, "--table", "raw", "--append", chain, "--jump", "CT", "--notrack"]
        for program in ("iptables-legacy", "ip6tables-legacy")
        for chain in ("PREROUTING", "OUTPUT")
    ],
    [["nft", "table {} lab-ends {{ {}}}".format(family, _NFT_CHAINS)] for family in ("ip", "ip6")],
)


def untrack_ends(name: str, families: Sequence[str] = (IPV4,), touched: Iterable[str] = ()) -> Dict[str, Any]:
    """Keep conntrack out of the ends, where it is active; returns what was done, by role.

    Up to Linux 4.13, and with the module's parameter enable_hooks, every namespace tracks, each in a table of its own
    with the same max: the client's would be full first, and what it drops never gets to this machine. To be called when
    the starting state is applied; ends that the state has `touched` are a part of it and stay as they are. Where
    nothing is tracked nothing is changed. Raises TopologyError.
    """
    left = set(touched)
    return {role: {"touched": True} if role in left else _untrack(name, role, families) for role in path_of(name).links}


def _untrack(name: str, role: str, families: Sequence[str]) -> Dict[str, Any]:
    with inside(name, role):
        if not _tracks(families):
            return {"tracked": False, "commands": []}
        outcomes: List[Dict[str, Any]] = []
        for alternative in _NOTRACK:
            outcomes.extend(run_command(argv, _COMMAND_SECONDS) for argv in alternative)
            if not _tracks(families):
                return {"tracked": True, "commands": [outcome["argv"] for outcome in outcomes]}
    namespace = path_of(name).links[role].namespace
    raise TopologyError("{} still tracks: {}".format(namespace, "; ".join(map(failure, outcomes))))


def _tracks(families: Sequence[str]) -> bool:
    """Whether a datagram over this namespace's loopback makes an entry in its table."""
    before, _, _ = read_text(_COUNT)
    if before is None:
        return False
    for family in families:
        with socket.socket(_SOCKETS[family], socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (LOOPBACK_ADDRESSES[family], _DISCARD_PORT))
    return read_text(_COUNT)[0] != before
