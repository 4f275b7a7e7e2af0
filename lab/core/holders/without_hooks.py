"""What holds conntrack beside rulesets and modules: a service of IPVS, a filter of tc, a flow of Open vSwitch.

IPVS attaches the hooks for an FTP service with NAT. Filters and flows attach none: they hand packets to the tracker by
themselves, on every kernel.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from lab.core.holders.model import IPVS, OPENVSWITCH, TC, Holder

# --- IPVS: /proc/net/ip_vs (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show()) -----------------------------------

# `TCP  C0000201:0015 rr`, `TCP  [2001:0db8:...]:0015 rr`; a service of marked packets (FWM) has no port
_SERVICE: Final = re.compile(
    r"(?P<protocol>TCP|UDP|SCTP) +(?P<address>[0-9A-Fa-f]{8}|\[[0-9A-Fa-f:]{2,39}\]):(?P<port>[0-9A-Fa-f]{4}) .*"
)
_OTHER_SERVICE: Final = re.compile(r"FWM +[0-9A-Fa-f]{8} .*")
_DESTINATION: Final = re.compile(r"-> +\S+ +(?P<forward>[A-Za-z]+) .*")
_FTP: Final = 21  # FTPPORT: ip_vs_register_conntrack() when a destination with NAT is added; released with the service
_IPVSADM: Final = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}


def ipvs_holders(text: str) -> Iterator[Holder]:
    """The FTP services with NAT. Raises ValueError for a text that is not /proc/net/ip_vs."""
    service: re.Match[str] | None = None
    named = False
    for number, raw in enumerate(text.split("\n"), start=1):
        line = f"{raw.strip()} "
        if not line.strip() or (number <= 3 and line.startswith(("IP Virtual Server", "Prot ", "-> RemoteAddress"))):
            continue
        if match := _DESTINATION.fullmatch(line):
            if service is not None and not named and match["forward"] == "Masq" and int(service["port"], 16) == _FTP:
                named = True
                yield _service_holder(service)
        elif match := _SERVICE.fullmatch(line):
            service, named = match, False
        elif _OTHER_SERVICE.fullmatch(line):
            service = None
        else:
            raise ValueError(f"ip_vs line {number}: {raw[:60]!r} is not of /proc/net/ip_vs")


def _service_holder(service: re.Match[str]) -> Holder:
    address = service["address"]
    family = "ip6" if address.startswith("[") else "ip"
    where = (
        f"[{ipaddress.IPv6Address(address[1:-1])}]" if family == "ip6" else str(ipaddress.IPv4Address(int(address, 16)))
    )
    place = f"{where}:{int(service['port'], 16)}"
    return Holder(
        kind="service",
        backend=IPVS,
        family=family,
        table="",
        chain="",
        handle=None,
        number=None,
        rule=f"{service['protocol']} {place}",
        depends_on=("FTP with NAT",),
        reachable=None,
        families=(family,),
        remove=("ipvsadm", "-D", _IPVSADM[service["protocol"]], place),
    )


# --- tc: `tc filter show dev DEVICE ingress|egress`, each after a line `dev DEVICE DIRECTION` -----------------------

_DEVICE: Final = re.compile(r"dev (?P<device>\S+) (?P<direction>ingress|egress)")
_FILTER: Final = re.compile(
    r"filter (?:parent \S+ )?(?:block \S+ )?protocol (?P<protocol>\S+) pref (?P<pref>\d{1,10}) (?P<kind>\S+)"
    r"(?: chain (?P<chain>\d{1,10}))?(?: fh)?(?: handle)?(?: (?P<handle>0x[0-9a-f]+))?\b.*"
)
_CT_ACTION: Final = re.compile(r"action order \d+: ct(?: (?!info)\S.*| *)")
_PROTOCOL_FAMILIES: Final = {"ip": ("ip",), "ipv6": ("ip6",)}


@dataclass
class _Filter:
    device: str
    direction: str
    head: re.Match[str]
    conditions: list[str] = field(default_factory=list)
    action: str = ""


def tc_holders(text: str) -> Iterator[Holder]:
    """The filters with the action ct, in the order of the text. Raises ValueError for a filter of no device."""
    device = direction = ""
    current: _Filter | None = None
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        starts = match = _DEVICE.fullmatch(line) if raw.startswith("dev ") else None
        if starts or line.startswith("filter "):
            if current is not None and current.action:
                yield _filter_holder(current)
            current = None
        if match:
            device, direction = match["device"], match["direction"]
        elif line.startswith("filter "):
            head = _FILTER.fullmatch(line)
            if head is None or not device:
                raise ValueError(f"tc line {number}: {line[:60]!r} is not of `tc filter show`")
            current = _Filter(device, direction, head)
        elif current is not None and _CT_ACTION.fullmatch(line) and not current.action:
            current.action = line.partition(": ")[2]
        elif current is not None and line and not current.action and not line.startswith(("action ", "index ")):
            current.conditions.append(line)
    if current is not None and current.action:
        yield _filter_holder(current)


def _filter_holder(found: _Filter) -> Holder:
    head = found.head
    place = (found.device, found.direction)
    protocol, pref, handle = head["protocol"], head["pref"], head["handle"]
    chain = ("chain", head["chain"]) if head["chain"] not in (None, "0") else ()
    which = ("handle", handle, head["kind"]) if handle else (head["kind"],)
    conditions = " ".join(found.conditions)
    return Holder(
        kind="filter",
        backend=TC,
        family="",
        table=found.device,
        chain=found.direction,
        handle=None,
        number=None,
        rule=f"{head['kind']} protocol {protocol} pref {pref} {conditions} action {found.action}".replace("  ", " "),
        depends_on=("action ct",),
        reachable=None,
        families=_PROTOCOL_FAMILIES.get(protocol, ("ip", "ip6")),
        remove=("tc", "filter", "del", "dev", *place, *chain, "protocol", protocol, "pref", pref, *which),
        hooks=False,
    )


# --- Open vSwitch: the flows of the kernel's datapaths, `ovs-appctl dpctl/dump-flows` or `ovs-dpctl dump-flows` ------

_CT_FLOW: Final = re.compile(r"(?<![\w-])ct(?:\(|,|$)")
_ETHERTYPE: Final = re.compile(r"eth_type\((0x0800|0x86dd)\)")
_ETHERTYPE_FAMILIES: Final = {"0x0800": ("ip",), "0x86dd": ("ip6",)}


def ovs_holders(text: str) -> Iterator[Holder]:
    """The flows whose actions track; lines that are no flow say nothing."""
    for line in text.split("\n"):
        head, _, actions = line.strip().partition(", actions:")
        if not _CT_FLOW.search(actions):
            continue
        match = head.partition(", packets:")[0]
        kind = _ETHERTYPE.search(match)
        yield Holder(
            kind="flow",
            backend=OPENVSWITCH,
            family="",
            table="",
            chain="",
            handle=None,
            number=None,
            rule=f"{match}, actions:{actions}",
            depends_on=("ct",),
            reachable=None,
            families=_ETHERTYPE_FAMILIES[kind[1]] if kind else ("ip", "ip6"),
            remove=(),
            hooks=False,
            advice="remove the flow of the bridge that it comes from: ovs-ofctl dump-flows shows those with ct()",
        )
