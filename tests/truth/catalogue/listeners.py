"""Queues that overflow: the load's own, and those of somebody else."""

from tests.truth.state import State

OVERFLOW = "there = listen(5555, 1); made = connects(600, 5555); time.sleep(30)"
ACK_UNCOUNTED = (
    "nft 'add table ip t; add chain ip t c { type filter hook input priority 0; }; "
    "add rule ip t c tcp dport 7784 tcp flags & (syn|ack|fin|rst) == ack drop'"
)

STATES = (
    State(
        "backlog-of-somebody-else",
        "nothing of the load is lost: the queue that overflows is another listener's",
        "untracked",
        mislead=OVERFLOW,
        seen={"entries": (0, 0), "established": (1000, 1000), "overflows": (1, 20000)},
        core=True,
    ),
    State(
        "backlog-of-somebody-else-and-a-rule",
        "a rule without a counter drops the last packet of 125; the queue that overflows is another listener's",
        "other-loss",
        steps=(ACK_UNCOUNTED,),
        mislead=OVERFLOW,
        cause=("unknown", "a filter of ports"),
        seen={"overflows": (1, 20000)},
    ),
    State(
        "backlog-and-a-decoy",
        "connections are lost to the load's own queues; the counted rule takes traffic of somebody else",
        "other-loss",
        steps=("sysctl -w net.core.somaxconn=1", "iptables-legacy -A INPUT -p udp -j DROP"),
        mislead="for n in range(20): datagrams(200, n * 200); time.sleep(.1)",
        cause="accept backlog",
        seen={"entries": (0, 0), "overflows": (100, 20000)},
    ),
)
