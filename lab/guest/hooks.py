"""The netfilter hooks of this network namespace, asked of the kernel, in the words of `nft list hooks`.

nft asks for its own rulesets first, for which nf_tables must be there; the question itself needs nfnetlink_hook alone
(CONFIG_NETFILTER_NETLINK_HOOK, 5.14 and newer; linux/netfilter/nfnetlink_hook.h).
"""

import errno
import socket
import time
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from lab.guest.nfnetlink import DUMP, Subsystem, attribute, attributes, number_attribute

MODULE = "nfnetlink_hook"
_SUBSYSTEM = 12  # NFNL_SUBSYS_HOOK
_GET = 0  # NFNL_MSG_HOOK_GET
# enum nfnl_hook_attributes; enum nfnl_hook_chain_info_attributes; enum nfnl_hook_chain_desc_attributes
_NUMBER, _PRIORITY, _DEVICE, _FUNCTION, _MODULE, _CHAIN = range(1, 7)
_INFO_DESCRIPTION, _INFO_TYPE = 1, 2
_TABLE, _FAMILY, _NAME = 1, 2, 3
_OBJECTS = {1: "chain", 3: "flowtable"}  # enum nfnl_hook_chaintype

_INET = ("prerouting", "input", "forward", "output", "postrouting")  # enum nf_inet_hooks, nf_br_hook_priorities
# enum of NFPROTO_*, linux/netfilter.h
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_HOOKS: Tuple[Tuple[int, Sequence[str]], ...] = ((3, ("input", "output")), (2, _INET), (10, _INET), (7, _INET))
_NETDEV = 5
_NETDEV_HOOKS = ("ingress", "egress")
_MAX_DEVICES = 500
_MAX_SECONDS = 20.0
# what this kernel does not have: a family, or a hook of one; or a device that has gone
_NO_SUCH_HOOK = (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EINVAL, errno.ENOENT, errno.ENODEV)


def list_hooks() -> str:
    """As `nft list hooks` prints them; "" where there are none, or the kernel tells of none.

    Raises OSError where the kernel does not answer, or takes too long, ValueError for an answer that is cut off.
    """
    subsystem = Subsystem(_SUBSYSTEM)
    try:
        return "".join(_families(subsystem))
    finally:
        subsystem.close()


def _families(subsystem: Subsystem) -> Iterator[str]:
    for family, names in _HOOKS:
        yield _block("family {}".format(_FAMILIES[family]), _hooks(subsystem, family, names), 0)
    parts: List[str] = []
    deadline = time.monotonic() + _MAX_SECONDS
    for _, device in socket.if_nameindex()[:_MAX_DEVICES]:
        if time.monotonic() > deadline:
            raise OSError(errno.ETIMEDOUT, "the kernel lists hooks too slowly")
        parts += _hooks(subsystem, _NETDEV, _NETDEV_HOOKS, device)
    yield _block("family netdev", parts, 0)


def _hooks(subsystem: Subsystem, family: int, names: Sequence[str], device: Optional[str] = None) -> List[str]:
    where = "" if device is None else " device {}".format(device)
    return [
        _block(
            "hook {}{}".format(name, where), [entry_line(body) for body in _asked(subsystem, family, number, device)], 1
        )
        for number, name in enumerate(names)
    ]


def _asked(subsystem: Subsystem, family: int, number: int, device: Optional[str]) -> List[bytes]:
    request = number_attribute(_NUMBER, number)
    if device is not None:
        request += attribute(_DEVICE, device.encode() + b"\0")
    try:
        return [body for bodies in subsystem.answers(_GET, DUMP, family, request) for body in bodies]
    except OSError as error:
        if error.errno in _NO_SUCH_HOOK:
            return []
        raise


def entry_line(body: bytes) -> str:
    """A function that packets pass, from the attributes of its message. Raises ValueError for what is none."""
    found = dict(attributes(body))
    priority = int.from_bytes(found.get(_PRIORITY, b""), "big", signed=True)
    what = _object(dict(attributes(found.get(_CHAIN, b"")))) or _text(found, _FUNCTION)
    module = _text(found, _MODULE)
    words = ["{:+011d}".format(priority) if priority else " {:010d}".format(0), what, module and "[{}]".format(module)]
    return "\t\t{}\n".format(" ".join(filter(None, words)))


def _object(info: Dict[int, bytes]) -> str:
    """The chain or flowtable of nftables that a hook runs; "" where it runs none."""
    kind = _OBJECTS.get(int.from_bytes(info.get(_INFO_TYPE, b""), "big"))
    description = dict(attributes(info.get(_INFO_DESCRIPTION, b"")))
    family = _FAMILIES.get(int.from_bytes(description.get(_FAMILY, b""), "big"))
    if kind is None or family is None:
        return ""
    return "{} {} {} {}".format(kind, family, _text(description, _TABLE), _text(description, _NAME))


def _text(found: Dict[int, bytes], kind: int) -> str:
    return found.get(kind, b"").rstrip(b"\0").decode("utf-8", "replace")


def _block(head: str, parts: Sequence[str], depth: int) -> str:
    """Lines in brackets; "" where there are none."""
    inner = "".join(parts)
    tabs = "\t" * depth
    return "{}{} {{\n{}{}}}\n".format(tabs, head, inner, tabs) if inner else ""
