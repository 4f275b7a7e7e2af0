"""Mitigations in real guests: what holds conntrack is removed in a second machine, and the load shows what it did."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lab.core.plan import ExpectedRule, PlannedStep, RemoveStep
from lab.host.results.judging import judge_run
from tests.recordings import GOLDEN
from tests.records import document
from tests.vm.conftest import Guests, Ran

log = logging.getLogger(__name__)
RULESETS = GOLDEN / "rulesets"
HEAD = 'version = 1\nname = "{name}"\nsummary = "For a test."\n'
LOAD = "[conntrack]\nmax = {most}\n[load]\nconnections = 2000\n"

MASQUERADE = ("--table", "nat", "--append", "POSTROUTING", "--out-interface", "eth0", "--jump", "MASQUERADE")
# RETURN, not ACCEPT: what accepts above a rule that drops is part of a firewall, and stays
STATE = ("--append", "INPUT", "--match", "conntrack", "--ctstate", "INVALID", "--jump", "RETURN")
CONNLIMIT = ("--append", "INPUT", *"--protocol tcp --match connlimit --connlimit-above 100000 --jump DROP".split())
NOTRACK = tuple(
    ("--table", "raw", "--append", chain, "--jump", "CT", "--notrack") for chain in ("PREROUTING", "OUTPUT")
)

LISTENING = "grep -q :1E61 /proc/net/tcp"  # port 7777, of the load
UNTIL = ("sh", "-c", f"until iptables-legacy -C {shlex.join(STATE[1:])}; do sleep 0.05; done")

ALWAYS_ON = """
[[state]]
file = { path = "/etc/modprobe.d/lab.conf", text = "options nf_conntrack enable_hooks=1" }
"""
NFT_COUNTS = """
table inet count {
	chain in {
		type filter hook input priority 0;
		ct state new counter
		ct mark 7 counter
	}
}
"""
NFT_TABLE_NAMED_AS_A_WORD_OF_NFT = """
table ip helpers {
    ct helper ftp-standard {
        type "ftp" protocol tcp;
    }
}
"""


def ruleset(text: str) -> str:
    """Steps that load a ruleset of nftables."""
    return file(text) + steps(("nft", "-f", "/root/file"))


def made_by(folder: str) -> str:
    """Steps that make a recorded ruleset again. nft 0.9.8 looks for its standard input in /dev, which udev fills."""
    link = "test -e /dev/stdin || ln -s /proc/self/fd/0 /dev/stdin"
    made = (RULESETS / folder / "made-by.sh").read_text()
    return file(made) + steps(("sh", "-c", link), ("sh", "/root/file"))


def file(text: str) -> str:
    """A step that writes a file."""
    braced = text.replace("{", "{{").replace("}", "}}")
    return f"[[state]]\nfile.path = \"/root/file\"\nfile.text = '''\n{braced}'''\n"


def steps(*argvs: tuple[str, ...]) -> str:
    return "".join(f"[[state]]\nrun = {list(argv)}\n" for argv in argvs)


def in_background(script: str) -> tuple[str, ...]:
    """A step that leaves a shell running."""
    return ("sh", "-c", f"setsid sh -c {shlex.quote(script)} >/dev/null 2>&1 </dev/null &")


def many(backend: str) -> str:
    """Steps that make 300 rules, each of which holds conntrack, with words that have to be quoted: too many for one
    transaction, whose text is one argument.
    """
    comment = '-m comment --comment "it\'s \\"here\\""'
    rules = "".join(
        f"-A c -d 10.0.0.{one % 256} {comment} -m mark --mark {one} -m state --state NEW\n" for one in range(300)
    )
    return file(f"*filter\n:c - [0:0]\n{rules}COMMIT\n") + steps((f"{backend}-restore", "/root/file"))


def mitigate(guests: Guests, text: str, **chosen: str) -> Ran:
    """Run the first cell of a scenario, and what removes its holders in a second machine."""
    job = replace(guests.jobs(text, **chosen)[0], mitigate=True)
    return asyncio.run(guests.run_async(job))


def quick(text: str) -> str:
    return text.replace("connections = 20000", "connections = 2000")


def told(ran: Ran) -> dict[str, Any]:
    """What came of it, shown by `pytest -rP --log-level=INFO`."""
    found = ran.result["mitigation"]
    assert isinstance(found, dict), ran.result["reason"]
    log.info("%s: %s, %s", ran.result["cell"], ran.result["finding"], ran.result["reason"])
    log.info("%s: %s", found["outcome"], found["reason"])
    for command in found["commands"]:
        log.info("  %s", shlex.join(command))
    return found


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_a_masquerading_rule_is_removed(guests: Guests, shipped: Callable[[str], str], backend: str) -> None:
    ran = mitigate(guests, quick(shipped("nat-present")), iptables=backend)
    found = told(ran)
    assert (ran.result["finding"], found["outcome"], found["finding"]) == ("table-full", "fixes", "untracked")
    assert "all 2000 of 2000 connections were held" in found["reason"]
    again = document(judge_run(ran.run)[0])
    assert again == ran.result


@dataclass(frozen=True)
class State:
    """A state, what it does, how many commands remove what holds conntrack, and what comes of them."""

    text: str
    finding: str
    commands: int | None  # None: as many as there are chains, which depends on the program that made them
    outcome: str
    words: str = ""
    most: int = 100
    nft: tuple[int, int] = (0, 0)  # older ones do not read it


LEGACY, NFT = "iptables-legacy", "iptables-nft"
STATES = {
    "flushed with the other backend": State(
        steps((LEGACY, *MASQUERADE), (NFT, "--flush"), (NFT, "--table", "nat", "--flush"), ("nft", "flush", "ruleset")),
        *("table-full", 1, "fixes"),
    ),
    "two rules alike, legacy": State(
        steps((LEGACY, *MASQUERADE), (LEGACY, *MASQUERADE), (LEGACY, *STATE)), "table-full", 3, "fixes"
    ),
    "two rules alike, nft": State(
        steps((NFT, *MASQUERADE), (NFT, *MASQUERADE), (NFT, *STATE)), "table-full", 3, "fixes"
    ),
    "by number and by words, legacy": State(
        steps((LEGACY, *STATE), (LEGACY, *CONNLIMIT), (LEGACY, *STATE), (LEGACY, *CONNLIMIT)), "table-full", 4, "fixes"
    ),
    "by number and by words, nft": State(
        steps((NFT, *STATE), (NFT, *CONNLIMIT), (NFT, *STATE), (NFT, *CONNLIMIT)), "table-full", 4, "fixes"
    ),
    "by handle": State(ruleset(NFT_COUNTS), *("table-full", 2, "fixes")),
    "a part of a firewall stays": State(
        made_by("nft-inet-stateful"), *("table-full", 0, "unknown", "part of a firewall: removing it cuts")
    ),
    "by handle, in many chains": State(made_by("nft-verdict-maps"), *("table-full", 5, "fixes"), nft=(1, 0)),
    "objects in use": State(made_by("nft-objects-in-maps"), *("table-full", 5, "fixes"), nft=(1, 0)),
    "objects and the rules that name them": State(made_by("nft-objects-used"), *("table-full", 4, "fixes")),
    "a name that nft does not take back": State(
        ruleset(NFT_TABLE_NAMED_AS_A_WORD_OF_NFT),
        *("table-full", 1, "unknown", "nft delete ct helper ip helpers"),
        nft=(1, 0),
    ),
    "always on, with a rule, legacy": State(ALWAYS_ON + steps((LEGACY, *MASQUERADE)), "table-full", 2, "fixes"),
    "always on, with a rule, nft": State(ALWAYS_ON + steps((NFT, *MASQUERADE)), "table-full", None, "fixes"),
    "tracked, and room for all": State(steps((LEGACY, *MASQUERADE)), "tracked", 1, "fixes", most=5000),
    "lost to a rule, too": State(
        steps((LEGACY, *MASQUERADE), (LEGACY, *"--append INPUT --protocol tcp --dport 7778 --jump DROP".split())),
        *("other-loss", 1, "unknown", "another reason than the table", 5000),
    ),
    "a rule that comes with the load shifts the numbers": State(
        steps(
            (LEGACY, *CONNLIMIT),
            in_background(f"until {LISTENING}; do sleep 0.05; done; {LEGACY} -I INPUT -p icmp -j ACCEPT"),
        ),
        *("table-full", 1, "fixes"),
    ),
    "a rule that comes back": State(
        steps(
            in_background(f"while :; do {LEGACY} -C {shlex.join(STATE[1:])} || {LEGACY} {shlex.join(STATE)}; done"),
            UNTIL,
        ),
        *("table-full", 1, "no effect", "came back, held again by `-A INPUT"),
    ),
    "hundreds of rules, legacy": State(many(LEGACY), *("table-full", 2, "fixes")),
    "hundreds of rules, nft": State(many(NFT), *("table-full", 2, "fixes")),
    "hundreds of rules by handle": State(
        ruleset("table ip t {\nchain c {\n" + "".join(f"ct mark {one} accept\n" for one in range(300)) + "}\n}\n"),
        *("table-full", 1, "fixes"),
    ),
    "notrack for another protocol": State(
        steps(
            (LEGACY, *MASQUERADE),
            *((LEGACY, "--table", "raw", *rule[2:4], "--protocol", "udp", *rule[4:]) for rule in NOTRACK),
        ),
        *("table-full", 1, "fixes"),
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_what_the_removal_does_to_a_state(guests: Guests, name: str) -> None:
    state = STATES[name]
    ran = mitigate(guests, HEAD.format(name="state") + state.text + LOAD.format(most=state.most))
    if tuple(map(int, ran.result["versions"]["nft"].split(".")[:2])) < state.nft:
        pytest.skip("this nft does not read the ruleset")
    assert ran.result["finding"] == state.finding, ran.result["reason"]
    found = told(ran)
    assert found["outcome"] == state.outcome, found["reason"]
    assert state.words in found["reason"]
    assert len(found["commands"]) == state.commands or state.commands is None
    if found["commands"]:  # without a second machine only the manifest says that a removal was asked for
        assert document(judge_run(ran.run)[0]) == ran.result


def test_a_part_of_a_firewall_is_no_fix(guests: Guests) -> None:
    """On loopback nothing is missed without it, for what the host sends there is accepted by its interface."""
    rules = (
        ("--append", "INPUT", "--in-interface", "lo", "--jump", "ACCEPT"),
        ("--append", "INPUT", "--match", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "--jump", "ACCEPT"),
        ("--append", "INPUT", "--protocol", "tcp", "--dport", "22", "--jump", "ACCEPT"),
        ("--policy", "INPUT", "DROP"),
    )
    state = steps(*((LEGACY, *rule) for rule in rules))
    ran = mitigate(guests, HEAD.format(name="firewall") + state + LOAD.format(most=100))
    found = told(ran)
    assert found["outcome"] in ("worse", "unknown"), found["reason"]
    if found["outcome"] == "worse":
        ways = {(one["way"], one["port"]): (one["before"], one["after"]) for one in found["peer"]["attempts"]}
        assert ways["in", 22] == (True, True)
        assert ways["in", 80] == (False, False)
        assert ways["out", 443] == (True, False)
        assert "out 443" in found["peer"]["cut"]
    else:
        assert [one["backend"] for one in found["kept"]] == [LEGACY]
        assert (found["commands"], found["finding"]) == ([], None)


def test_a_router_goes_on_forwarding(guests: Guests) -> None:
    state = steps((LEGACY, *CONNLIMIT)) + '[[state]]\nsysctl = { "net.ipv4.ip_forward" = 1 }\n'
    ran = mitigate(guests, HEAD.format(name="router") + state + LOAD.format(most=100))
    found = told(ran)
    assert found["outcome"] == "fixes", found["reason"]
    assert {(one["way"], one["before"], one["after"]) for one in found["peer"]["attempts"]} == {
        (way, True, True) for way in ("in", "out", "forwarded")
    }


@pytest.mark.parametrize("backend", [LEGACY, "nft"])
def test_another_rule_at_the_place_is_left_alone(guests: Guests, backend: str) -> None:
    by_number = ExpectedRule((LEGACY, "-t", "filter", "-S", "INPUT"), "INPUT", 1, None, "-A INPUT -p icmp -j DROP")
    by_handle = ExpectedRule(("nft", "-s", "-a", "list", "chain", "ip", "t", "c"), "c", None, 2, "ct state new")
    made = {
        LEGACY: (steps((LEGACY, *STATE)), RemoveStep((LEGACY, "-D", "INPUT", "1"), (by_number,))),
        "nft": (
            ruleset("table ip t {\nchain c {\nct state invalid counter drop\n}\n}\n"),
            RemoveStep(tuple("nft delete rule ip t c handle 2".split()), (by_handle,)),
        ),
    }
    state, removal = made[backend]
    (job,) = guests.jobs(HEAD.format(name="another") + state + LOAD.format(most=100))
    plan = replace(job.plan, steps=(*job.plan.steps, PlannedStep("mitigation[0]", removal)))
    ran = asyncio.run(guests.run_async(replace(job, plan=plan)))
    assert ran.result["finding"] == "state-refused"
    assert "the rule at that place is another one" in ran.result["reason"]
    assert ran.result["reason"].rstrip().endswith(("RETURN`", "drop`")), "what is there is named"
    assert len(ran.result["holders"]) == 1


@pytest.mark.parametrize("backend", [LEGACY, NFT])
def test_where_notrack_hides_it_there_is_nothing_to_do(guests: Guests, backend: str) -> None:
    rules = steps((backend, *MASQUERADE), *((backend, *rule) for rule in NOTRACK))
    ran = mitigate(guests, HEAD.format(name="notrack") + rules + LOAD.format(most=100))
    assert (ran.result["finding"], ran.result["mitigation"]) == ("untracked", None), ran.result["reason"]
    assert ran.result["proofs"]["notrack"] is True
    assert not (ran.cell / "mitigation").exists()


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_an_always_on_kernel_needs_its_modules_removed(
    guests: Guests, shipped: Callable[[str], str], backend: str
) -> None:
    ran = mitigate(guests, quick(shipped("nat-flushed-always-on")), iptables=backend)
    found = told(ran)
    *chains, unload = found["commands"]
    # iptables 1.8.7 leaves its chains of type nat behind, and those use a module
    assert all(command[:3] == ["nft", "delete", "chain"] for command in chains)
    assert bool(chains) is (backend == "nft" and ran.result["versions"]["iptables"] == "1.8.7")
    assert (ran.result["finding"], unload[:2]) == ("table-full", ["modprobe", "-r"])
    assert found["outcome"] == "fixes", found["reason"]
    assert "nf_conntrack is not loaded" in found["reason"]
