"""Other hosts, to see who still gets through: network namespaces beside this one, and connections in, out and between.

    eth0 in lab-peer-a 198.18.77.2 --- 198.18.77.1 lab-pa | here | lab-pb 198.18.78.1 --- 198.18.78.2 eth0 in lab-peer-b

The addresses are of RFC 2544, for measuring networks: rules name those of RFC 5737 as examples, and these are nobody's.
The second peer is made where this machine forwards. Neither namespaces nor veth load a module of conntrack.
"""

import errno
import fcntl
import os
import select
import socket
import struct
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from lab.guest.apply import loaded_modules, run_command
from lab.guest.files import error_name, read_text
from lab.guest.machine import set_existing
from lab.guest.namespaces import in_namespace

# what firewalls often let in, and one that they seldom do
PORTS = (22, 80, 443, 7799)
_ROUND_SECONDS = 1.8  # a SYN is sent again after one second
_ROUNDS = 2  # a machine that was busy for a moment cuts nobody off
_COMMAND_SECONDS = 5.0
_UP_SECONDS = 1.0
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40  # linux/sockios.h, linux/if.h
_MAX = "net.netfilter.nf_conntrack_max"
_ROOM = 10000  # entries, so that a full table hides nothing of what the rules do
_FORWARDS = "/proc/sys/net/ipv4/ip_forward"


class Peer(NamedTuple):
    """A namespace, and the pair of interfaces that leads there."""

    namespace: str
    interface: str  # the end that is here
    here: str
    address: str


PEERS = (
    Peer("lab-peer-a", "lab-pa", "198.18.77.1", "198.18.77.2"),
    Peer("lab-peer-b", "lab-pb", "198.18.78.1", "198.18.78.2"),
)


def try_peers() -> Dict[str, Any]:
    """Make the peers, try TCP connections all at once, and take everything away again.

    Returns `attempts` (way, port, whether it worked), `forwards`, `modules_loaded`, and `error`: why there are none.
    """
    modules = set(loaded_modules())
    forwards = (read_text(_FORWARDS)[0] or "").strip() == "1"
    peers = PEERS if forwards else PEERS[:1]
    told: Dict[str, Any] = {"attempts": [], "forwards": forwards, "error": None}
    taken = _taken(peers)
    if taken:
        return dict(told, error="this machine has {} already".format(", ".join(taken)), modules_loaded=[])
    limit = _with_room()
    try:
        for peer in peers:
            _make(peer)
        told["attempts"] = _attempts(peers)
    except OSError as error:
        told["error"] = str(error)
    finally:
        for peer in peers:
            _remove(peer)
        if limit is not None:
            set_existing({_MAX: limit})
    told["modules_loaded"] = sorted(set(loaded_modules()) - modules)
    return told


def _taken(peers: Tuple[Peer, ...]) -> List[str]:
    """Names that somebody else has: what is theirs is not removed."""
    interfaces = [name for _, name in socket.if_nameindex()]
    namespaces = [peer.namespace for peer in peers if os.path.exists("/var/run/netns/" + peer.namespace)]
    return [peer.interface for peer in peers if peer.interface in interfaces] + namespaces


def _with_room() -> Optional[str]:
    """Let more entries into the table; returns the max that was, or None where it was left."""
    before = read_text("/proc/sys/net/netfilter/nf_conntrack_max")[0]
    count = read_text("/proc/sys/net/netfilter/nf_conntrack_count")[0]
    if before is None or count is None or int(before) == 0 or int(before) >= int(count) + _ROOM:
        return None
    set_existing({_MAX: int(count) + _ROOM})
    return before.strip()


def _make(peer: Peer) -> None:
    there = ["ip", "-n", peer.namespace]
    _run(["ip", "netns", "add", peer.namespace])
    _run(["ip", "link", "add", peer.interface, "type", "veth", "peer", "name", "eth0", "netns", peer.namespace])
    _run(["ip", "address", "add", peer.here + "/24", "dev", peer.interface])
    _run([*there, "address", "add", peer.address + "/24", "dev", "eth0"])
    _run([*there, "link", "set", "dev", "eth0", "up"])
    _run(["ip", "link", "set", "dev", peer.interface, "up"])
    _run([*there, "route", "add", "default", "via", peer.here])
    deadline = time.monotonic() + _UP_SECONDS
    while not _is_running(peer.interface):
        if time.monotonic() > deadline:
            raise OSError(errno.ENETDOWN, "{} is not up".format(peer.interface))
        time.sleep(0.01)


def _is_running(interface: str) -> bool:
    """Whether both ends of the pair are up (netdevice(7)); until then what is sent is dropped."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", interface.encode("ascii"), 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
    return bool(flags & _IFF_RUNNING)


def _remove(peer: Peer) -> None:
    """What is not there is no error. The interface goes first: a namespace is taken apart in the background."""
    run_command(["ip", "link", "delete", "dev", peer.interface], _COMMAND_SECONDS)
    run_command(["ip", "netns", "delete", peer.namespace], _COMMAND_SECONDS)


def _run(argv: List[str]) -> None:
    outcome = run_command(argv, _COMMAND_SECONDS)
    if outcome["exit_status"] != 0:
        said = (outcome["stderr"].strip() or "nothing").replace("\n", "; ")
        raise OSError("`{}` ended with {}: {}".format(" ".join(argv), outcome["exit_status"], said))


def _attempts(peers: Tuple[Peer, ...]) -> List[Dict[str, Any]]:
    listeners: List[socket.socket] = []
    try:
        listeners.extend(_listeners(peers[0].here))
        for peer in peers:
            with in_namespace(peer.namespace):
                listeners.extend(_listeners(peer.address))
        ways = ("out", "in", "forwarded")[: len(peers) + 1]
        worked = {(way, port): False for way in ways for port in PORTS}
        for _ in range(_ROUNDS):
            for way, port in _round(peers, [one for one in worked if not worked[one]]):
                worked[way, port] = True
        return [{"way": way, "port": port, "worked": did} for (way, port), did in worked.items()]
    finally:
        for sock in listeners:
            sock.close()


def _round(peers: Tuple[Peer, ...], wanted: List[Tuple[str, int]]) -> List[Tuple[str, int]]:
    """Those of the wanted ways and ports that a connection came through."""
    targets = {"out": peers[0].address, "in": peers[0].here, "forwarded": peers[-1].address}
    begun: Dict[int, Tuple[str, int]] = {}
    sockets: List[socket.socket] = []
    try:
        for way, port in wanted:
            if way == "out":
                sockets.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            else:
                with in_namespace(peers[0].namespace):
                    sockets.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            sockets[-1].setblocking(False)
            sockets[-1].connect_ex((targets[way], port))
            begun[sockets[-1].fileno()] = (way, port)
        return [begun[fd] for fd in _connected(sockets)]
    finally:
        for sock in sockets:
            sock.close()


def _listeners(address: str) -> Iterator[socket.socket]:
    """What somebody listens on already needs no listener of ours."""
    for port in PORTS:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            sock.listen(8)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise OSError(error.errno, "cannot listen on {}:{}: {}".format(address, port, error_name(error)))
        else:
            yield sock


def _connected(sockets: List[socket.socket]) -> List[int]:
    """The descriptors of those whose connect ended well in time."""
    waiting = {sock.fileno(): sock for sock in sockets}
    worked: List[int] = []
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLOUT)
    deadline = time.monotonic() + _ROUND_SECONDS
    while waiting and time.monotonic() < deadline:
        for fd, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            poll.unregister(fd)
            if waiting.pop(fd).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                worked.append(fd)
    return worked
