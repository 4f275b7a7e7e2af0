"""The way that packets take: a slow or lossy loopback, and a router between two namespaces."""

from tests.truth.state import NAT, NOTRACK, State

NETEM = "modprobe sch_netem; tc qdisc add dev lo root netem limit 100000 {}"
ROUTED_NOTRACK = "iptables-nft -t raw -A PREROUTING -p tcp -j CT --notrack"
FORWARD = "iptables-nft -vxnL FORWARD | awk '$3 == \"DROP\" {s += $1} END {print s + 0}'"

STATES = (
    State(
        "lossy",
        "the table has room and drops nothing: what is lost, is lost on the way",
        ("tracked", "other-loss"),
        steps=(NAT, NETEM.format("loss 5%")),
        not_words=("full table",),
        seen={"drop": (0, 0)},
        load={"connections": 500},
    ),
    State(
        "lossy-and-full-of-others",
        "the load is untracked, and loses packets on the way only; the table drops what is somebody else's",
        ("untracked", "other-loss", "inconclusive"),
        steps=(NAT, NOTRACK, NETEM.format("loss 5%")),
        mislead="for n in range(8): datagrams(400, n * 400); time.sleep(.3)",
        seen={"entries": (0, 0), "drop": (100, 9000)},
        load={"connections": 500},
        conntrack={"max": 100},
    ),
    State(
        "reordered-and-doubled",
        "the load is tracked and held: packets come late, twice and in another order",
        "tracked",
        steps=(NAT, NETEM.format("delay 20ms 10ms reorder 25% duplicate 20%")),
        words=("all 500 connections",),
        seen={"entries": (500, 500)},
        load={"connections": 500},
        core=True,
    ),
    State(
        "slow-and-untracked",
        "the load is untracked: its answers come after a second, and somebody else has entries",
        "untracked",
        steps=(NAT, NOTRACK, NETEM.format("delay 400ms")),
        mislead="datagrams(200); time.sleep(30)",
        seen={"entries": (0, 0), "others": (200, 400)},
        load={"connections": 500},
    ),
    State(
        "routed-notrack",
        "what the router forwards is untracked; its own traffic has entries",
        "untracked",
        steps=(NAT, ROUTED_NOTRACK),
        mislead="datagrams(200); time.sleep(30)",
        seen={"entries": (0, 0), "others": (200, 400)},
        topology="netns",
    ),
    State(
        "routed-half-notrack",
        "half of what the router forwards is tracked",
        "tracked",
        steps=(
            NAT,
            "for d in dport sport; do iptables-nft -t raw -A PREROUTING -p tcp --$d 7777:7780 -j CT --notrack; done",
        ),
        words=("500 of 1000 connections had entries",),
        seen={"entries": (500, 500)},
        topology="netns",
    ),
    State(
        "routed-one-way-notrack",
        "the router tracks the load: only the answers are exempt",
        "tracked",
        steps=(
            "iptables-nft -A FORWARD -m conntrack --ctstate NEW -j ACCEPT",
            "iptables-nft -t raw -A PREROUTING -p tcp --sport 7777:7999 -j CT --notrack",
        ),
        words=("all 1000 connections",),
        seen={"entries": (1000, 1000)},
        topology="netns",
    ),
    State(
        "routed-full-of-others",
        "what the router forwards is untracked and arrives; the full table drops its own traffic",
        "untracked",
        steps=(NAT, ROUTED_NOTRACK),
        mislead="for n in range(8): datagrams(400, n * 400); time.sleep(.3)",
        seen={"entries": (0, 0), "drop": (1, 9000)},
        conntrack={"max": 100},
        topology="netns",
    ),
    State(
        "routed-drop",
        "125 are lost to a rule of the router, which tracks with room",
        "other-loss",
        steps=(NAT, "iptables-nft -A FORWARD -p tcp --syn --dport 7784 -j DROP"),
        probe=FORWARD,
        cause="a rule",
        seen={"drop": (0, 0), "probe": (125, 10**6)},
        topology="netns",
    ),
    State(
        "routed-drop-at-the-end",
        "125 are lost to a rule in the listeners' namespace, whose counters nobody reads",
        "other-loss",
        steps=(NAT, "ip netns exec lab-server iptables-legacy -A INPUT -p tcp --syn --dport 7784 -j DROP"),
        cause=("unknown", "a filter of ports"),
        seen={"drop": (0, 0)},
        topology="netns",
    ),
    State(
        "routed-full",
        "the router's table is full, and loses connections of the load",
        "table-full",
        steps=(NAT,),
        mislead="datagrams(30); time.sleep(30)",
        seen={"entries": (60, 100), "drop": (1, 9000)},
        load={"connections": 500},
        conntrack={"max": 100},
        topology="netns",
    ),
    State(
        "routed-backlog-of-somebody-else",
        "nothing of the load is lost: the queue that overflows is another listener's, in the same namespace",
        "tracked",
        steps=(
            NAT,
            'setsid ip netns exec lab-server python3 -c "import socket, time; s = socket.socket(); '
            "s.bind(('127.0.0.1', 5555)); s.listen(1); c = [socket.socket() for _ in range(300)]\n"
            "time.sleep(4)\n[(x.setblocking(False), x.connect_ex(('127.0.0.1', 5555))) for x in c]\ntime.sleep(60)\" "
            "> /dev/null 2>&1 < /dev/null &",
        ),
        words=("all 1000 connections",),
        seen={"entries": (1000, 1000)},
        topology="netns",
    ),
)
