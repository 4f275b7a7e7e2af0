"""A sosreport, of old and new layouts: its files by their paths, as a record.

What it lacks is unknown. From 2021 to 2026 the tables of iptables were collected only where nf_tables was loaded, and
only the alternative that `iptables` leads to is ever asked (sos issues 2724 and 4478).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lab.core.errors import ScenarioError
from lab.core.evidence import Snapshot
from lab.core.inspecting.forms import items_of, log_lines, merged, modules_of_lsmod, stat_of_conntrack, sysctl_lines
from lab.core.inspecting.model import Namespace, Record
from lab.core.inspecting.pasted import record_of_items, with_backends

_ROOT: Final = re.compile(r"(?:(?P<root>[^/]*)/)?(?=(?:sos_commands|proc|sys|etc|lib|usr|run|var|boot)/)")
_KERNEL: Final = r"sos_commands/kernel/"
_RULES: Final = r"sos_commands/(?:firewall_tables|networking)/"
_LISTING: Final = re.compile(_RULES + r"(?P<program>ip6?tables)_-t_(?P<table>\w+)_-(?:nvL|vnxL)")
# those of one backend are never collected: they are what this asks for where rules are missing
_SAVE: Final = re.compile(_RULES + r"(?P<program>ip6?tables(?:-legacy|-nft)?)-save")
_NFT: Final = re.compile(_RULES + r"nft_(?:-a_)?list_ruleset")
_IN_NAMESPACE: Final = re.compile(
    r"sos_commands/\w+/(?:namespaces/[^/]+/)?ip_netns_exec_(?P<name>[^/]+?)_"
    r"(?P<command>ip6?tables-save|conntrack_-L(?:_-o_extended)?|conntrack_-S)"
)
_MODPROBE: Final = re.compile(r"(?:etc|lib|usr/lib|run|usr/local/lib)/modprobe\.d/[^/]+\.conf")
_LOGS: Final = re.compile(r"sos_commands/kernel/dmesg(?:_-T)?|var/log/(?:kern\.log|messages|syslog|dmesg)")
_NET: Final = re.compile(
    r"proc/(?:self/|\d+/)?net/(?P<name>stat/nf_conntrack|nf_conntrack|ip_vs|ip6?_tables_names|snmp)"
)
_SYS_FILE: Final = re.compile(r"proc/sys/net/(?:netfilter|bridge)/[\w-]+")
_PARAMETER: Final = re.compile(r"sys/module/nf_conntrack/parameters/\w+")
_MODULE: Final = re.compile(r"sys/module/(?P<name>\w+)/(?:refcnt|parameters/\w+)")
_LINKS: Final = "sos_commands/networking/ip_-s_-d_link"
_LINK: Final = re.compile(r"\d{1,10}: (?P<name>[^\s:@]{1,15})[:@]")
_WHOLE: Final = re.compile(
    r"proc/(?:modules|cmdline|slabinfo|uptime)|boot/config-.*"
    rf"|{_KERNEL}(?:lsmod|uname_-a|sysctl_-a)"
    r"|sos_commands/conntrack/conntrack_(?:-L(?:_-o_extended)?|-S)"
    r"|sos_commands/openvswitch/ovs-appctl_dpctl.dump-flows.*"
    rf"|{_LINKS}"
)
_PATTERNS: Final = (
    _LISTING, _SAVE, _NFT, _IN_NAMESPACE, _MODPROBE, _LOGS, _NET, _SYS_FILE, _PARAMETER, _MODULE, _WHOLE,
)  # fmt: skip
_EMPTY_NAMES: Final = "is not loaded: {} lists no table"
# what to put into a sosreport that lacks it; the host's table is there already, so that this loads no module
_ADD: Final = "not collected; as root on that host: {} > sos_commands/{}, into the sosreport"
_MISSING: Final = {
    "iptables-legacy-save": _ADD.format("iptables-legacy-save", "networking/iptables-legacy-save"),
    "ip6tables-legacy-save": _ADD.format("ip6tables-legacy-save", "networking/ip6tables-legacy-save"),
    "ruleset.nft": _ADD.format("nft -a list ruleset", "firewall_tables/nft_-a_list_ruleset"),
}
_CONFIG: Final = {
    "iptables-legacy-save": "CONFIG_IP_NF_IPTABLES",
    "ip6tables-legacy-save": "CONFIG_IP6_NF_IPTABLES",
    "ruleset.nft": "CONFIG_NF_TABLES",
}


def is_sosreport(paths: Mapping[str, str]) -> bool:
    """Whether these are the files of one."""
    return any("sos_commands/" in path for path in paths)


def wanted(path: str) -> bool:
    """Whether a file of a sosreport says anything here."""
    inner = _inner(path)
    if inner is None:
        return False
    return any(pattern.fullmatch(inner) for pattern in _PATTERNS)


def _inner(path: str) -> str | None:
    match = _ROOT.match(path)
    return None if match is None else path[match.end() :]


def sosreport_record(files: Mapping[str, str], origin: str) -> Record:
    """The record in these files. Raises ScenarioError for a sosreport that has nothing of what is needed."""
    paths = {inner: text for path, text in files.items() if (inner := _inner(path)) is not None}
    items = _host_items(paths)
    if not items:
        raise ScenarioError(
            f"{origin}: a sosreport without any text that is needed", hint="sos report -o kernel,networking"
        )
    problems = ["a sosreport: nftables rules of other namespaces are never in it"]
    _add_rules(paths, items)
    items, notes = with_backends(items)
    problems += notes
    record = record_of_items(items, origin, tuple(problems))
    own = record.namespaces[0]
    errors = {**_MISSING, **own.snapshot.errors, **_legacy_tables(paths, items)}
    for name, option in _CONFIG.items():
        config = next((text for path, text in paths.items() if path.startswith("boot/config-")), "")
        if f"{option}=y" in config:  # built in: that it is not among the modules says nothing
            errors[name] = _MISSING[name]
    own = replace(own, snapshot=Snapshot(own.snapshot.texts, errors))
    return replace(record, namespaces=(own, *_named(paths, record.host)))


# files that are items as they are, and those whose text is seen to be one
_AS_IT_IS: Final = {
    "proc/modules": "modules",
    "proc/cmdline": "cmdline",
    "proc/slabinfo": "slabinfo",
    "proc/net/stat/nf_conntrack": "stat_nf_conntrack",
    "proc/net/nf_conntrack": "entries",
    "proc/net/ip_vs": "ip_vs",
}
_SEEN: Final = re.compile(rf"{_KERNEL}uname_-a|sos_commands/conntrack/.*")


def _host_items(paths: Mapping[str, str]) -> dict[str, str]:
    items: dict[str, str] = {}
    for path, text in sorted(paths.items()):
        name = _AS_IT_IS.get(re.sub(r"^proc/(?:self|\d+)/net/", "proc/net/", path))
        if name is not None and text.strip():
            items.setdefault(name, text)
        elif _SEEN.fullmatch(path):
            items.update({item.name: item.text for item in items_of(text)})
        elif _MODPROBE.fullmatch(path):
            lines = (f"/{path}: {line}\n" for line in text.splitlines())
            items["modprobe.d"] = items.get("modprobe.d", "") + "".join(lines)
        elif _LOGS.fullmatch(path):
            items["kmsg"] = items.get("kmsg", "") + log_lines(text)
        elif "dump-flows" in path:
            items["ovs.flows"] = text
    lsmod = modules_of_lsmod(paths.get(f"{_KERNEL}lsmod") or "")  # empty where it failed: then nothing is known
    if lsmod:
        items.setdefault("modules", lsmod)
    modules = sorted({match["name"] for path in paths if (match := _MODULE.match(path))})
    if modules:
        items["sys_module"] = "".join(f"{name}\n" for name in modules)
    settings = _settings(paths)
    ports, attributes = _bridges(paths.get(_LINKS) or "")
    if "bridge" in settings and ports:
        items["bridge_ports"], settings["bridge"] = ports, settings["bridge"] + attributes
    return {**items, **settings}


def _bridges(links: str) -> tuple[str, str]:
    """The ports of bridges, and the attributes that hand their frames to netfilter, as lines of files of /sys."""
    name, ports, attributes = "", "", ""
    for line in links.splitlines():
        if match := _LINK.match(line):
            name = match["name"]
        elif (words := line.split())[:1] == ["bridge_slave"] and "port_no" in words[:-1]:
            ports += f"/sys/class/net/{name}/brport/port_no: {words[words.index('port_no') + 1]}\n"
        elif words[:1] == ["bridge"]:
            names = [word for word in ("nf_call_iptables", "nf_call_ip6tables") if word in words[:-1]]
            attributes += "".join(
                f"/sys/class/net/{name}/bridge/{word}: {words[words.index(word) + 1]}\n" for word in names
            )
    return ports, attributes


def _settings(paths: Mapping[str, str]) -> dict[str, str]:
    """The sysctls and parameters, as lines of `path: value`."""
    lines = sysctl_lines(paths.get(f"{_KERNEL}sysctl_-a") or "").splitlines(keepends=True)
    for pattern in (_SYS_FILE, _PARAMETER):
        lines += [f"/{path}: {text.strip()}\n" for path, text in sorted(paths.items()) if pattern.fullmatch(path)]
    bridge = "".join(line for line in lines if "/bridge/" in line)
    return {"sysctl": "".join(lines), "bridge": bridge} if lines else {}


def _add_rules(paths: Mapping[str, str], items: dict[str, str]) -> None:
    """Add the rulesets; of which backend iptables showed its own, a sosreport does not say."""
    nft = next((text for path, text in paths.items() if _NFT.fullmatch(path)), None)
    if nft is not None and not nft.lstrip().startswith(("bash:", "timeout:", "/bin/sh:")):
        items["ruleset.nft"] = nft
    listed: dict[str, str] = {}
    for path, text in sorted(paths.items()):
        if (match := _LISTING.fullmatch(path)) and text.lstrip().startswith("Chain "):
            listed[match["program"]] = f"{listed.get(match['program'], '')}*{match['table']}\n{text.rstrip()}\n"
        elif (match := _SAVE.fullmatch(path)) and "COMMIT" in text:
            listed.setdefault(match["program"], text)
    items.update({f"{program}-save": text for program, text in listed.items()})


def _legacy_tables(paths: Mapping[str, str], items: Mapping[str, str]) -> dict[str, str]:
    """Of the legacy families whose rules were not collected: whether they have tables, by /proc/net/ip_tables_names."""
    found = {}
    for name, file in (("iptables-legacy-save", "ip_tables_names"), ("ip6tables-legacy-save", "ip6_tables_names")):
        listed = [text for path, text in paths.items() if (match := _NET.fullmatch(path)) and match["name"] == file]
        tables = sorted({word for text in listed for word in text.split()})
        if name not in items and listed:
            there = f"{file} lists {', '.join(tables)}: {_MISSING[name]}"
            found[name] = there if tables else _EMPTY_NAMES.format(file)
    return found


def _named(paths: Mapping[str, str], host: Snapshot) -> list[Namespace]:
    """The named namespaces, of which only iptables of one alternative and the table are collected."""
    texts: dict[str, dict[str, str]] = {}
    for path, text in sorted(paths.items()):
        match = _IN_NAMESPACE.fullmatch(path)
        if match is None:
            continue
        items = texts.setdefault(match["name"], {})
        if match["command"] == "conntrack_-S" and text.startswith("cpu="):
            items["stat_nf_conntrack"] = stat_of_conntrack(text)
        for item in items_of(text, match["command"]):
            items[item.name] = merged(items, item)
    texts = {name: with_backends({**host.texts, **items})[0] for name, items in texts.items()}
    return [
        Namespace(Snapshot({**host.texts, **items}, host.errors), names=(name,), own=False)
        for name, items in texts.items()
    ]
