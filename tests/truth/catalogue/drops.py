"""Rules that drop or reject, with a counter and without one, and rules that only look as if."""

from tests.truth.state import NAT, NFT, NOTRACK, SYN, State

LEGACY = "iptables-legacy -vxnL {} | awk '$3 == \"DROP\" {{s += $1}} END {{print s + 0}}'"
LOST_125 = {"entries": (0, 0), "established": (875, 875)}


def reject(kind: str, cause: str) -> State:
    """A rule of that kind for one of the load's ports."""
    return State(
        f"reject-{kind}",
        f"125 are rejected with {kind}",
        "other-loss",
        steps=(f"iptables-legacy -A INPUT -p tcp --syn --dport 7784 -j REJECT --reject-with {kind}",),
        cause=cause,
        words=("125: ",),
        seen=LOST_125,
    )


STATES = (
    State(
        "drop-in-raw",
        "125 are lost to a rule in raw; nothing is tracked",
        "other-loss",
        steps=("iptables-legacy -t raw -A PREROUTING -p tcp --syn --dport 7784 -j DROP",),
        probe=LEGACY.format("PREROUTING -t raw"),
        cause="a rule",
        words=("125: a rule",),
        seen=LOST_125 | {"probe": (125, 10**6)},
    ),
    State(
        "drop-in-mangle-and-nat",
        "the load is tracked, with room, and a rule in mangle drops 125",
        "other-loss",
        steps=(NAT, "iptables-nft -t mangle -A OUTPUT -p tcp --syn --dport 7784 -j DROP"),
        probe="iptables-nft -t mangle -vxnL OUTPUT | awk '$3 == \"DROP\" {s += $1} END {print s + 0}'",
        cause="a rule",
        seen={"entries": (875, 1000), "probe": (125, 10**6), "drop": (0, 0)},
    ),
    State(
        "drop-of-nft-with-counter",
        "125 are lost to a rule of nft that counts",
        "other-loss",
        steps=(NFT.format(hook="input", priority=0, policy="", rule=f"tcp dport 7784 {SYN} counter drop"),),
        cause="a rule",
        seen=LOST_125,
    ),
    State(
        "drop-of-nft-without-counter",
        "125 are lost to a rule of nft that counts nothing, so that nothing says to what",
        "other-loss",
        steps=(NFT.format(hook="input", priority=0, policy="", rule=f"tcp dport 7784 {SYN} drop"),),
        cause=("unknown", "a filter of ports"),
        seen=LOST_125,
        core=True,
    ),
    State(
        "policy-of-nft",
        "500 are lost to a chain's policy, which counts nothing",
        "other-loss",
        steps=(
            NFT.format(
                hook="input", priority=0, policy="policy drop;", rule="tcp dport != 7777-7780 tcp dport < 7800 continue"
            ),
            "nft add rule ip t c tcp dport 7777-7780 accept; nft add rule ip t c tcp sport 7777-7784 accept",
        ),
        cause=("unknown", "a filter of ports"),
        seen={"entries": (0, 0), "established": (500, 500)},
    ),
    State(
        "policy-of-iptables",
        "500 are lost to the policy of INPUT",
        "other-loss",
        steps=(
            "iptables-legacy -A INPUT -p tcp --dport 7777:7780 -j ACCEPT; "
            "iptables-legacy -A INPUT -p tcp --sport 7777:7784 -j ACCEPT; iptables-legacy -P INPUT DROP",
        ),
        cause="a rule",
        words=("500: a rule",),
        seen={"entries": (0, 0), "established": (500, 500)},
    ),
    State(
        "uncounted-drop-beside-a-decoy",
        "125 are lost to a rule of nft that counts nothing; the counted rule takes only SYNs of somebody else",
        "other-loss",
        steps=(
            NFT.format(hook="prerouting", priority=-400, policy="", rule=f"tcp dport 7784 {SYN} drop"),
            "iptables-legacy -A INPUT -s 127.0.0.1 -p tcp --syn -j DROP",
        ),
        mislead="there = listen(5555); made = connects(400, 5555); time.sleep(30)",
        probe=LEGACY.format("INPUT"),
        cause=("unknown", "a filter of ports"),
        seen=LOST_125 | {"probe": (400, 10**6)},
        core=True,
    ),
    State(
        "decoy-by-destination",
        "125 are lost to a rule of nft that counts nothing; the counted rule takes what goes to other addresses",
        "other-loss",
        steps=(
            NFT.format(hook="prerouting", priority=-400, policy="", rule=f"tcp dport 7784 {SYN} drop"),
            "iptables-legacy -A INPUT -d 127.2.0.0/16 -j DROP",
        ),
        mislead="for n in range(10): datagrams(100, n * 100); time.sleep(.2)",
        probe=LEGACY.format("INPUT"),
        cause=("unknown", "a filter of ports"),
        seen=LOST_125 | {"probe": (100, 10**6)},
    ),
    State(
        "decoy-of-nft",
        "125 are lost to a rule of nft that counts nothing; its neighbour counts datagrams of somebody else",
        "other-loss",
        steps=(
            NFT.format(hook="input", priority=0, policy="", rule=f"tcp dport 7784 {SYN} drop"),
            "nft add rule ip t c udp dport 9999 counter drop",
        ),
        mislead="for n in range(10): datagrams(100, n * 100); time.sleep(.2)",
        cause=("unknown", "a filter of ports"),
        seen=LOST_125,
        core=True,
    ),
    State(
        "counted-rule-accepts",
        "nothing is lost: the rule that drops takes traffic of somebody else",
        "untracked",
        steps=("iptables-legacy -A INPUT -p udp -j DROP",),
        mislead="for n in range(10): datagrams(100, n * 100); time.sleep(.2)",
        probe=LEGACY.format("INPUT"),
        seen={"entries": (0, 0), "established": (1000, 1000), "probe": (100, 10**6)},
    ),
    State(
        "hashlimit",
        "what exceeds 50 SYNs in a second is lost to a rule",
        "other-loss",
        steps=(
            "iptables-legacy -A INPUT -p tcp --syn -m hashlimit --hashlimit-above 10/sec --hashlimit-burst 50 "
            "--hashlimit-name h -j DROP",
        ),
        probe=LEGACY.format("INPUT"),
        cause="a rule",
        seen={"entries": (0, 0), "established": (50, 500), "probe": (500, 10**6)},
    ),
    State(
        "every-tenth",
        "a rule drops every tenth SYN, and the fourth try gets through at the latest: nothing is lost",
        "untracked",
        # of 1000 it takes 100, of these again 10, of these 1 (the 1106th packet), and not the one after it
        steps=("iptables-legacy -A INPUT -p tcp --syn -m statistic --mode nth --every 10 --packet 5 -j DROP",),
        probe=LEGACY.format("INPUT"),
        seen={"entries": (0, 0), "established": (1000, 1000), "probe": (90, 10**6)},
    ),
    State(
        "connlimit",
        "a rule drops what exceeds 300 connections; the load is tracked, and the table has room",
        "other-loss",
        steps=("iptables-legacy -A INPUT -p tcp --syn -m connlimit --connlimit-above 300 --connlimit-mask 0 -j DROP",),
        probe=LEGACY.format("INPUT"),
        cause="a rule",
        seen={"established": (250, 310), "drop": (0, 0), "probe": (600, 10**6)},
    ),
    State(
        "quota",
        "once the quota is used up the policy drops",
        "other-loss",
        steps=("iptables-legacy -A INPUT -m quota --quota 60000 -j ACCEPT; iptables-legacy -P INPUT DROP",),
        cause="a rule",
        seen={"entries": (0, 0), "established": (10, 900)},
    ),
    State(
        "queue-without-a-listener",
        "125 go to a queue that no program reads",
        "other-loss",
        steps=("iptables-legacy -A INPUT -p tcp --syn --dport 7784 -j NFQUEUE --queue-num 5",),
        probe=LEGACY.format("INPUT").replace("DROP", "NFQUEUE"),
        cause="a rule",
        seen=LOST_125 | {"probe": (125, 10**6)},
    ),
    State(
        "answers-dropped",
        "125 are lost to a rule that drops the listeners' answers",
        "other-loss",
        steps=("iptables-legacy -A INPUT -p tcp --sport 7784 --tcp-flags SYN,ACK SYN,ACK -j DROP",),
        probe=LEGACY.format("INPUT"),
        cause="a rule",
        seen=LOST_125 | {"probe": (125, 10**6), "overflows": (0, 0)},
    ),
    State(
        "answers-dropped-with-nat",
        "125 are lost to a rule that drops the listeners' answers; each has an entry all the same",
        "other-loss",
        steps=(NAT, "iptables-nft -t raw -A OUTPUT -p tcp --sport 7784 --tcp-flags SYN,ACK SYN,ACK -j DROP"),
        cause="a rule",
        seen={"entries": (1000, 1000), "drop": (0, 0), "overflows": (0, 0)},
    ),
    State(
        "drop-and-notrack",
        "125 are lost to a rule that the exempt packets pass; nothing is tracked",
        "other-loss",
        steps=(
            NAT,
            NOTRACK,
            "iptables-nft -A INPUT -p tcp --syn --dport 7784 -m conntrack --ctstate UNTRACKED -j DROP",
        ),
        cause="a rule",
        seen=LOST_125,
    ),
    reject("tcp-reset", "refused"),
    reject("icmp-port-unreachable", "refused"),
    reject("icmp-host-prohibited", "unreachable"),
    reject("icmp-net-unreachable", "unreachable"),
    State(
        "newcomers-lost-uncounted",
        "the datagrams are tracked, with room; the newcomers are lost to a rule of nft that counts nothing",
        "other-loss",
        steps=(NAT, NFT.format(hook="input", priority=0, policy="", rule=f"{SYN} drop")),
        cause=("unknown", "a filter of ports"),
        words=("of 50 newcomers 0 got through",),
        seen={"drop": (0, 0)},
        load={"kind": "udp", "connections": 500, "newcomers": 50},
    ),
)
