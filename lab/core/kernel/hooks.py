"""The netfilter hooks of a network namespace, from `nft list hooks`: text in, value out.

They exist only where the kernel can list them (CONFIG_NETFILTER_NETLINK_HOOK, 5.14 and newer: off in Debian's 6.1,
on since 6.12) and nft knows the command (1.0.0 and newer). Elsewhere the output is empty and the exit status zero,
just as with no hooks at all. So silence is unknown, and "not attached" is said only when some other hook, known to
be one, shows that the list is real. On Debian that is AppArmor's, which no ruleset can remove.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class NftObject:
    """The part of an nftables ruleset that a hook runs."""

    kind: str  # chain, flowtable
    family: str
    table: str
    name: str


@dataclass(frozen=True)
class Hook:
    """A function that packets of `family` pass at `hook`."""

    family: str  # ip, ip6, inet, arp, bridge, netdev
    hook: str  # prerouting, input, ingress, ...
    priority: int
    function: str  # the kernel's name of it; "" where the kernel does not tell
    module: str | None  # None: built in, or not told
    runs: NftObject | None = None  # what nft calls `chain FAMILY TABLE NAME`; `function` is "" then
    device: str | None = None


# What registers the tracker. ipv4_confirm and ipv6_confirm up to 6.1, nf_confirm from 6.12 on; the helpers' own hook
# up to 4.19; nf_ct_bridge_* for the bridge family. Not here: *_defrag, which others use too and which stayed
# registered for ever before 5.15, and nf_nat_*, which leaves alone whatever is not tracked.
_CONNTRACK: Final = re.compile(
    r"ipv[46]_conntrack_(?:in|local)|ipv[46]_confirm|ipv[46]_helper|nf_confirm|nf_ct_bridge_\w+"
)

# What else a kernel registers: seeing one of these (or of the above) shows that the list is real.
_OTHERS: Final = re.compile(
    r"nft_do_chain\w*|ipt_do_table|ip6t_do_table|arpt_do_table|ebt_do_table|iptable_\w+_hook|ip6table_\w+_hook"
    r"|nf_nat_\w+|ipv[46]_(?:conntrack_)?defrag|nf_flow_offload_\w+|selinux_\w+|apparmor_ip\w*|smack_\w+"
    r"|br_nf_\w+|ip_vs_\w+|ipv[46]_synproxy_hook|ip_sabotage_in|ila_nf_input|bpf_prog_\w+"
)

_FAMILY: Final = re.compile(r"family (?P<family>[a-z0-9]+) \{")
_HOOK: Final = re.compile(r"hook (?P<hook>[a-z]+)(?: device (?P<device>\S+))? \{")
_ENTRY: Final = re.compile(r"(?P<priority>[-+]?\d{1,10})(?: (?P<what>[^\[\]]*?))?(?: ?\[(?P<module>[\w-]+)\])?")
_OBJECT: Final = re.compile(r"(?P<kind>chain|flowtable) (?P<family>[a-z0-9]+) (?P<table>\S+) (?P<name>\S+)")


def hooks(text: str) -> tuple[Hook, ...]:
    """Read what `nft list hooks` printed; empty text gives no hooks, which `conntrack_hooks` takes as unknown.

    Raises `ValueError` for a line that belongs nowhere, such as an error message of an nft too old for the command.
    """
    found: list[Hook] = []
    family = hook = ""
    device: str | None = None
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line:
            continue
        if line == "}":
            if not family:
                raise ValueError(f"hooks line {number}: a bracket closes that none opened")
            family, hook, device = (family, "", None) if hook else ("", "", None)
        elif not family and (match := _FAMILY.fullmatch(line)):
            family = match["family"]
        elif family and not hook and (match := _HOOK.fullmatch(line)):
            hook, device = match["hook"], match["device"]
        elif hook and (match := _ENTRY.fullmatch(line)):
            found.append(_entry(match, family, hook, device))
        else:
            raise ValueError(f"hooks line {number}: {line[:60]!r} is not part of a list of hooks")
    if family:
        raise ValueError(f"hooks: the text ends inside of family {family}")
    return tuple(found)


def _entry(match: re.Match[str], family: str, hook: str, device: str | None) -> Hook:
    what = match["what"] or ""
    runs = _OBJECT.fullmatch(what)
    return Hook(
        family=family,
        hook=hook,
        priority=int(match["priority"]),
        function="" if runs else what,
        module=match["module"],
        runs=NftObject(runs["kind"], runs["family"], runs["table"], runs["name"]) if runs else None,
        device=device,
    )


def is_known(hook: Hook) -> bool:
    """Whether this is a hook that kernels are known to register: the negative control."""
    return hook.runs is not None or bool(_CONNTRACK.fullmatch(hook.function) or _OTHERS.fullmatch(hook.function))


def conntrack_hooks(listed: Iterable[Hook]) -> tuple[Hook, ...] | None:
    """Those of the hooks that track connections.

    None means unknown: no hook that is known to be one was listed. An empty answer means that the list is real and
    connection tracking is not attached.
    """
    listed = tuple(listed)
    if not any(is_known(hook) for hook in listed):
        return None
    return tuple(hook for hook in listed if _CONNTRACK.fullmatch(hook.function))


def tracked_families(listed: Iterable[Hook]) -> frozenset[str] | None:
    """The families (ip, ip6, bridge) whose new connections are tracked; None when that is unknown."""
    attached = conntrack_hooks(listed)
    return None if attached is None else frozenset(hook.family for hook in attached)
