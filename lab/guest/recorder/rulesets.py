"""The rulesets and hooks of the namespace that this process is in, asked for without loading anything.

Reading can load modules in four ways, and each is avoided: a program whose kernel part is absent asks for it (so it is
not run); `iptables -t TABLE` makes a table that is not there (so a legacy family is saved only where
/proc/net/ip_tables_names lists tables); libxtables calls modprobe (so it is given a program that loads nothing); and
iptables-nft asks the kernel about the extension that it takes a rule of nft for (so it runs only where that is there).
"""

import os
import re
import shutil
import time
from typing import Dict, List, Optional, Set, Tuple

from lab.guest import hooks, observe
from lab.guest.apply import STEP_PATH, finish_command, start_command
from lab.guest.files import error_name, read_text

COMMAND_SECONDS = 20.0
MAX_COMMAND_BYTES = 32 * 1024 * 1024
_ERROR_CHARACTERS = 500
_BY_NAME = {command.name: command for command in observe.COMMANDS}
# a legacy family's command, and where the tables that are there are listed
_LEGACY = (
    ("iptables-legacy-save", "/proc/net/ip_tables_names"),
    ("ip6tables-legacy-save", "/proc/net/ip6_tables_names"),
)
_NO_MODPROBE = ("-M", "/bin/false")
_SAVED_NFT = ("iptables-nft-save", "ip6tables-nft-save")
# what iptables-nft takes an expression of nft for, and then asks the kernel about, which loads it
_ASKS_FOR = (
    (re.compile(r"\b(?:tcp|udp) "), ("xt_tcpudp",)),
    (re.compile(r"\bicmp(?:v6)? "), ("ip_tables", "ip6_tables", "xt_tcpudp")),
    (re.compile(r"\bmark "), ("xt_mark", "xt_connmark")),
    (re.compile(r"\blimit "), ("xt_limit",)),
    (re.compile(r"\blog\b"), ("xt_LOG", "xt_NFLOG")),
    (re.compile(r"\bpkttype "), ("xt_pkttype",)),
    (re.compile(r"\bfib "), ("xt_addrtype", "ipt_rpfilter")),
)
# the sets that rules look into, without what is in them
_SETS = ("ip_set", ["ipset", "list", "-terse", "-output", "save"])
_NFT_PROGRAM = "xtables-nft-multi"

Files = Dict[str, str]


def rulesets(present: Optional[Set[str]]) -> Files:
    """Every ruleset, each by its name; NAME.error says why there is none. `present` are the modules that are there,
    None where none can be loaded.
    """
    found: Files = {}
    for name, names_path in _LEGACY:
        _run(found, name, _NO_MODPROBE, present, _no_tables(names_path) or _no_program(name))
    for name in ("ruleset.nft", "ovs.datapaths", "ovs.flows"):
        _run(found, name, (), present)
    found.update(_hooks(present))
    _more_of_nft(found, present)
    _run(found, "tc.filters", (), present)
    module, argv = _SETS
    if present is None or module in present:
        found.update(output("ipset", argv, COMMAND_SECONDS))
    return found


def _hooks(present: Optional[Set[str]]) -> Files:
    if present is not None and hooks.MODULE not in present:
        return {observe.HOOKS + ".error": "{} is not loaded".format(hooks.MODULE)}
    text, error, cut = observe.listed_hooks()
    if text is None or cut:
        return {observe.HOOKS + ".error": error or "the kernel lists more than can be kept"}
    return {observe.HOOKS: text}


def _no_tables(path: str) -> Optional[str]:
    """Why a legacy family need not be asked; None where it must be."""
    text, error, _ = read_text(path)
    if text is None:
        return (
            None if error != "ENOENT" else "{} is not loaded".format(path.split("_")[0].rsplit("/", 1)[1] + "_tables")
        )
    return None if text.strip() else "is not loaded: no table is there"


def _no_program(name: str) -> Optional[str]:
    """Why a legacy family cannot be asked. What is called iptables-save may be of either backend, and asking it which
    would open a socket of nfnetlink, and load that.
    """
    if shutil.which(name, path=STEP_PATH) is not None:
        return None
    plain = shutil.which(name.replace("-legacy", ""), path=STEP_PATH)
    if plain is not None and os.path.basename(os.path.realpath(plain)) != _NFT_PROGRAM:
        return None
    return "{}: ENOENT".format(name)


def _more_of_nft(found: Files, present: Optional[Set[str]]) -> None:
    """The other views of the nftables ruleset: nft shows a rule of iptables-nft in its own words, or by a name."""
    if present is not None and "nf_tables" not in present:
        found.update({name + ".error": "nf_tables is not loaded" for name in _SAVED_NFT})
        return
    text = found.get("ruleset.nft")
    why_not = _could_load(text, present)
    for name in _SAVED_NFT:
        _run(found, name, (), present, why_not)
    quoted = any(line.count('"') % 2 for line in (text or "").splitlines())  # in a comment, which nft does not escape
    if quoted or (text is not None and "iptables-nft-save" not in found):
        _run(found, "ruleset.json", (), present)


def _could_load(text: Optional[str], present: Optional[Set[str]]) -> Optional[str]:
    """Why iptables-nft is not asked; None where it loads nothing."""
    if present is None:
        return None
    if "nft_compat" not in present:
        return "nft_compat is not there, so no rule is one of iptables-nft's"
    for pattern, modules in _ASKS_FOR:
        if (text is None or pattern.search(text)) and present.isdisjoint(modules):
            return "not asked: it could load {}".format(modules[0])
    return None


def _run(
    found: Files, name: str, more: Tuple[str, ...], present: Optional[Set[str]], why_not: Optional[str] = None
) -> None:
    command = _BY_NAME[name]
    missing = [] if present is None else [module for module in command.needs if module not in present]
    if why_not is None and missing:
        why_not = "{} is not loaded".format(missing[0])
    if why_not is not None:
        found[name + ".error"] = why_not
        return
    argv: List[str] = [*command.argv, *more]
    found.update(output(name, argv, COMMAND_SECONDS))


def output(name: str, argv: List[str], seconds: float, limit: int = MAX_COMMAND_BYTES) -> Files:
    """What a program prints, as NAME, or as NAME.error why there is nothing."""
    began = time.monotonic()
    try:
        process = start_command(argv)
    except OSError as error:
        return {name + ".error": "{}: {}".format(argv[0], error_name(error))}
    ended = finish_command(process, seconds, limit)
    if not ended.by_itself:
        return {name + ".error": "{}: killed after {:.0f} s".format(argv[0], time.monotonic() - began)}
    if ended.exit_status != 0:
        words = ended.stderr.text[:_ERROR_CHARACTERS].strip()
        return {name + ".error": "{}: exit status {}: {}".format(argv[0], ended.exit_status, words)}
    if ended.stdout.truncated:
        return {name + ".error": "{}: prints more than {} MB".format(argv[0], limit // 2**20)}
    return {name: ended.stdout.text}
