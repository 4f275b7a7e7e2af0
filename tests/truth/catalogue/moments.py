"""What comes or goes while the load is under way: rules, entries, whole tables."""

from tests.truth.state import NAT, NFT, NOTRACK, State

READY = "modprobe nf_conntrack; modprobe nft_chain_nat; modprobe xt_MASQUERADE; modprobe nft_compat"
UNCOUNTED = NFT.format(hook="input", priority=0, policy="", rule="tcp dport 7784 drop")
CHURN: dict[str, int | float | str] = {"kind": "churn", "connections": 900, "rate_per_second": 250}

STATES = (
    State(
        "flushed-once",
        "the load is tracked: its first entries were deleted meanwhile",
        "tracked",
        steps=(NAT, "modprobe nf_conntrack_netlink"),
        mislead="until(lambda: count() >= 300); sh('conntrack -F'); time.sleep(30)",
        seen={"entries": (1, 900)},
        load=CHURN,
    ),
    State(
        "flushed-all-the-time",
        "the load is tracked, although its entries are deleted again and again: it must not pass for untracked",
        ("tracked", "inconclusive"),
        steps=(NAT, "modprobe nf_conntrack_netlink"),
        mislead="for _ in range(150): sh('conntrack -F'); time.sleep(.01)",
        load=CHURN,
    ),
    State(
        "deleted-by-port",
        "all of the load was tracked, and the entries to one of its ports are deleted again and again",
        "tracked",
        steps=(NAT, "modprobe nf_conntrack_netlink"),
        mislead="for _ in range(60): sh('conntrack -D -p tcp --dport 7777'); time.sleep(.05)",
        seen={"entries": (1, 1000), "established": (1000, 1000)},
    ),
    State(
        "full-and-flushed",
        "the table was full and dropped packets of the load, and is emptied again and again",
        "table-full",
        steps=(NAT, "modprobe nf_conntrack_netlink"),
        mislead="until(lambda: stat('drop') >= 100); time.sleep(.3); sh('conntrack -F'); time.sleep(30)",
        seen={"drop": (100, 9000)},
        conntrack={"max": 300},
    ),
    State(
        "holder-comes",
        "a part of the load is tracked: the rule that holds conntrack came when much of it had ended",
        "tracked",
        steps=(READY,),
        mislead=f"time.sleep(1); sh({NAT!r})",
        seen={"entries": (1, 890)},
        load=CHURN,
        core=True,
    ),
    State(
        "holder-goes",
        "a part of the load is tracked: the rule that holds conntrack went when much of it was to come",
        "tracked",
        steps=(NAT,),
        mislead="until(lambda: count() >= 200, 10); sh('iptables-nft -t nat -F')",
        seen={"entries": (1, 890)},
        load=CHURN,
    ),
    State(
        "notrack-comes",
        "a part of the load is tracked: it was exempt when much of it had ended",
        "tracked",
        steps=(NAT,),
        mislead=f"until(lambda: count() >= 200, 10); sh({NOTRACK!r})",
        seen={"entries": (1, 890)},
        load=CHURN,
    ),
    State(
        "drop-comes-and-goes",
        "nothing is lost: a rule dropped for a moment, and what it took was sent again",
        "untracked",
        steps=("iptables-legacy -A INPUT -p tcp --syn --dport 7784 -j DROP",),
        mislead="time.sleep(.4); sh('iptables-legacy -F INPUT'); time.sleep(30)",
        seen={"entries": (0, 0), "established": (1000, 1000)},
    ),
    State(
        "drop-gone-before-the-end",
        "125 are lost to a rule that is gone before anybody reads its counter: one that counts nothing takes its place",
        "other-loss",
        steps=("iptables-legacy -A INPUT -p tcp --syn --dport 7784 -j DROP", "modprobe nf_tables"),
        mislead=f"until(lambda: sockets('02') >= 120); sh({UNCOUNTED!r}); sh('iptables-legacy -F INPUT')",
        cause=("unknown", "a filter of ports"),
        seen={"entries": (0, 0)},
    ),
    State(
        "counters-zeroed",
        "125 are lost to a rule whose counter somebody sets back",
        "other-loss",
        steps=("iptables-legacy -A INPUT -p tcp --syn --dport 7784 -j DROP",),
        mislead="until(lambda: sockets('02') >= 120); time.sleep(.3); sh('iptables-legacy -Z'); time.sleep(30)",
        cause=("unknown", "a rule"),
        seen={"entries": (0, 0)},
    ),
)
