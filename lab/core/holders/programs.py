"""Which program made a rule, by the names that it gives to its tables and chains, and how to stop it making them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from lab.core.holders.model import Holder


@dataclass(frozen=True)
class Program:
    """A program that writes rules, and writes them again when they are removed by hand."""

    name: str
    stop: str  # how to have it make no such rules
    risk: str  # what does not work without them


# by table or chain, where the program gives these names of its own
_BY_PLACE: Final = (
    (
        r"firewalld(?:_\w+)?|(?:IN|FWDI|FWDO|FWD|PRE|POST)_\w+_(?:log|deny|allow|pre|post)",
        "firewalld",
        "systemctl disable --now firewalld",
        "the host has no firewall then",
    ),
    (
        r"(?:INPUT|OUTPUT|FORWARD|FORWARD_IN|FORWARD_OUT|PREROUTING|POSTROUTING)_(?:direct|ZONES|ZONES_SOURCE|POLICIES_\w+)",
        "firewalld",
        "systemctl disable --now firewalld",
        "the host has no firewall then",
    ),
    (
        r"DOCKER(?:-\w+)*|docker-bridges",
        "docker",
        '"iptables": false in /etc/docker/daemon.json, and restart docker',
        "published ports and the containers' way out need its nat rules",
    ),
    (
        r"KUBE-(?!ROUTER-)[\w-]+|kube-proxy",
        "kube-proxy",
        "raise conntrack.maxPerCore in its configuration",
        "Services are nat: not in a cluster",
    ),
    (
        r"KUBE-ROUTER-\w+",
        "kube-router",
        "raise nf_conntrack_max",
        "Services and policies need them",
    ),
    (
        r"cali-[\w.:-]+",
        "calico",
        "raise nf_conntrack_max",
        "network policies match by state",
    ),
    (
        r"CILIUM_\w+",
        "cilium",
        "installIptablesRules: false in its configuration",
        "masquerading of pods needs them",
    ),
    (
        r"FLANNEL-\w+",
        "flannel",
        "start it without --ip-masq",
        "pods have no way out then",
    ),
    (
        r"CNI-[\w-]+|NETAVARK[\w-]*|netavark",
        "podman or a CNI plugin",
        "run containers with host networking",
        "published ports need them",
    ),
    (
        r"LIBVIRT_\w+|libvirt_network",
        "libvirt",
        "virsh net-destroy NETWORK",
        "machines of that network have no way out then",
    ),
    (
        r"ufw6?-[\w-]+",
        "ufw",
        "ufw disable",
        "the host has no firewall then",
    ),
    (
        r"LOCAL(?:INPUT|OUTPUT)|(?:DENY|ALLOW)(?:IN|OUT)|LOGDROP(?:IN|OUT)",
        "CSF",
        "csf -x",
        "the host has no firewall then",
    ),
    (
        r"fw4",
        "OpenWrt's fw4",
        "service firewall stop",
        "the router does no nat then",
    ),
    (
        r"zone_\w+_(?:input|output|forward|prerouting|postrouting)",
        "OpenWrt's fw3",
        "service firewall stop",
        "the router does no nat then",
    ),
    (
        r"ts-(?:input|forward|postrouting)",
        "tailscale",
        "tailscale set --netfilter-mode=off",
        "subnet routing needs them",
    ),
    (
        r"lxd|incus",
        "LXD or Incus",
        "set ipv4.nat and ipv4.firewall of the network to false",
        "containers have no way out then",
    ),
    (
        r"io\.systemd\.nat",
        "systemd-networkd",
        "IPMasquerade=no",
        "what is behind it has no way out then",
    ),
)
_PROGRAMS: Final = tuple((re.compile(pattern), Program(*said)) for pattern, *said in _BY_PLACE)


def program_of(holder: Holder) -> Program | None:
    """The program that a holder's table or chain belongs to, or that its jumps name; None where nothing says so."""
    if holder.owner is not None:
        known = next((one for _, one in _PROGRAMS if one.name == holder.owner), None)
        return known or Program(holder.owner, f"stop {holder.owner}", "its rules go with it")
    ranks = [rank for place in set(_places(holder)) if (rank := _rank(place)) is not None]
    return _PROGRAMS[min(ranks)][1] if ranks else None


@lru_cache(4096)
def _rank(place: str) -> int | None:
    """Where in _PROGRAMS the program of a table or chain of this name is."""
    return next((rank for rank, (pattern, _) in enumerate(_PROGRAMS) if pattern.fullmatch(place)), None)


def _places(holder: Holder) -> Iterable[str]:
    yield holder.chain
    yield holder.table
    words = holder.rule.split()
    for option, word in pairwise(words):
        if option in ("-j", "-g", "jump", "goto"):
            yield word
        # docker's own rules stand in built-in chains, and name its bridge
        elif option in ("-o", "-i", "oifname", "iifname") and re.fullmatch(r'"?(?:docker0|br-[0-9a-f]{12})"?', word):
            yield "DOCKER"
        elif option in ("-o", "-i", "oifname", "iifname") and re.fullmatch(r'"?virbr\d+"?', word):
            yield "LIBVIRT_PRT"
