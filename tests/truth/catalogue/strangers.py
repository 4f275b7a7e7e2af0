"""Somebody else's traffic: it has entries, fills the table, or comes to the load's own listeners."""

from tests.truth.state import NAT, NOTRACK, State

OWN_NOTRACK = (
    "iptables-nft -t raw -A OUTPUT -s 127.77.0.0/16 -j CT --notrack; "
    "iptables-nft -t raw -A OUTPUT -d 127.77.0.0/16 -j CT --notrack"
)
ONLY_ITS_PORTS = "for d in dport sport; do iptables-nft -t raw -A OUTPUT -p tcp --$d 7777:7999 -j CT --notrack; done"
TO_LOAD = "made = connects({}, 7777); time.sleep(30)"

STATES = (
    State(
        "other-icmp",
        "the load is untracked: the entries are of echo requests",
        "untracked",
        steps=(NAT, NOTRACK),
        mislead="""
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
for n in range(80):
    number, checksum = n.to_bytes(2, "big"), (0xF7FF - n).to_bytes(2, "big")
    raw.sendto(b"\\x08\\x00" + checksum + number + b"\\0\\0", ("127.2.0.%d" % (n + 1), 0))
time.sleep(30)
""",
        seen={"entries": (0, 0), "others": (40, 120)},
    ),
    State(
        "other-ipv6",
        "the load is untracked: only IPv6 is tracked, and has 200 entries",
        "untracked",
        steps=("ip6tables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE",),
        mislead="""
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for n in range(200):
    try: s.sendto(b"x", ("::1", 20000 + n))
    except OSError: pass
time.sleep(30)
""",
        words=("IPv6 is tracked",),
        seen={"entries": (0, 0), "others": (200, 400)},
        core=True,
    ),
    State(
        "other-tcp",
        "the load is untracked: the rules exempt its ports only, and 300 connections of somebody else have entries",
        "untracked",
        steps=(NAT, ONLY_ITS_PORTS),
        mislead="there = listen(5555); made = connects(300, 5555); time.sleep(30)",
        seen={"entries": (0, 0), "others": (300, 300)},
    ),
    State(
        "other-namespace",
        "the load is untracked: the 300 entries are in another namespace, where a rule holds conntrack",
        "untracked",
        steps=(
            "ip netns add other; ip -n other link set lo up; ip netns exec other " + NAT,
            'ip netns exec other python3 -c "import socket; s = socket.socket(2, 2); '
            "[s.sendto(b'x', ('127.2.%d.%d' % (i // 250, i % 250 + 1), 9999)) for i in range(300)]\"",
        ),
        seen={"entries": (0, 0)},
    ),
    State(
        "stranger-at-its-listener",
        "the load is untracked: 100 connections of somebody else to one of its own listeners have entries",
        "untracked",
        steps=(NAT, OWN_NOTRACK),
        mislead=TO_LOAD.format(100),
        seen={"entries": (0, 0), "others": (100, 100), "established": (1000, 1000)},
    ),
    State(
        "strangers-accepted-instead",
        "100 connections were never accepted, as their last packet was dropped; as many of somebody else were",
        ("other-loss", "inconclusive"),
        steps=(
            "iptables-legacy -A INPUT -s 127.77.0.0/16 -p tcp --tcp-flags SYN,ACK,FIN,RST ACK --dport 7784 -j DROP",
        ),
        mislead=TO_LOAD.format(150),
        probe="iptables-legacy -vxnL INPUT | awk '$3 == \"DROP\" {s += $1} END {print s + 0}'",
        seen={"probe": (125, 10**6)},
        core=True,
    ),
    State(
        "others-fill-the-table",
        "the load is untracked and loses nothing: what a full table drops is somebody else's",
        "untracked",
        steps=(NAT, NOTRACK),
        mislead="datagrams(400); time.sleep(30)",
        words=("not the load's",),
        seen={"entries": (0, 0), "drop": (1, 600)},
        conntrack={"max": 100},
        core=True,
    ),
    State(
        "others-fill-and-a-rule",
        "a rule drops 125; the table is full and drops, but the load has no entry in it",
        "other-loss",
        steps=(NAT, NOTRACK, "iptables-legacy -A INPUT -p tcp --syn --dport 7784 -j DROP"),
        mislead="for n in range(8): datagrams(400, n * 400); time.sleep(.3)",
        probe="iptables-legacy -vxnL INPUT | awk '$3 == \"DROP\" {s += $1} END {print s + 0}'",
        cause="a rule",
        seen={"entries": (0, 0), "drop": (100, 9000), "probe": (125, 10**6)},
        conntrack={"max": 100},
    ),
    State(
        "others-fill-uncounted-loss",
        "a rule without a counter drops 125; a full table drops other packets, the load has no entry in it",
        ("other-loss", "inconclusive"),
        steps=(
            NAT,
            NOTRACK,
            "nft 'add table ip t; add chain ip t c { type filter hook input priority 0; }; "
            "add rule ip t c tcp dport 7784 tcp flags & (syn|ack) == syn drop'",
        ),
        mislead="for n in range(8): datagrams(400, n * 400); time.sleep(.3)",
        cause=("unknown", "a filter of ports"),
        seen={"entries": (0, 0), "drop": (100, 9000)},
        conntrack={"max": 100},
    ),
    State(
        "others-took-the-room",
        "the load is tracked and loses connections: somebody else filled most of the table before it",
        "table-full",
        steps=(
            NAT,
            'python3 -c "import socket; s = socket.socket(2, 2); '
            "[s.sendto(b'x', ('127.2.%d.%d' % (i // 250, i % 250 + 1), 9999)) for i in range(700)]\"",
            'for i in $(seq 1 700); do echo "-I -p tcp -s 10.1.$((i/250)).$((i%250+1)) -d 10.9.9.9 --sport 1000 '
            '--dport 2000 -t 600 --state ESTABLISHED -u ASSURED,SEEN_REPLY"; done > /old; conntrack -F; '
            "conntrack -R /old > /dev/null",
        ),
        seen={"entries": (200, 300), "others": (690, 800), "drop": (1, 3000)},
        conntrack={"max": 1000},
    ),
    State(
        "to-the-loads-addresses",
        "the load is untracked: somebody else sends to the addresses that it comes from",
        "untracked",
        steps=(NAT, NOTRACK),
        mislead="""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(200):
    try: s.sendto(b"x", ("127.77.1.%d" % (n + 1), 9999))
    except OSError: pass
time.sleep(30)
""",
        seen={"entries": (0, 0), "others": (200, 400)},
    ),
    State(
        "masked-as-the-load",
        "the load is untracked: somebody else's connections are given its addresses by SNAT",
        "untracked",
        steps=(
            "iptables-nft -t nat -A POSTROUTING -p tcp --dport 5555 -j SNAT --to-source 127.77.9.9",
            ONLY_ITS_PORTS,
        ),
        mislead="there = listen(5555); made = connects(200, 5555); time.sleep(30)",
        seen={"entries": (0, 0), "others": (150, 250)},
        core=True,
    ),
    State(
        "half-open-beside-others",
        "the half-open load is untracked: the entries are of somebody else's datagrams",
        "untracked",
        steps=(NAT, NOTRACK),
        mislead="datagrams(300); time.sleep(30)",
        seen={"entries": (0, 0), "others": (300, 700)},
        load={"kind": "half-open", "connections": 800, "rate_per_second": 400},
    ),
    State(
        "udp-beside-others",
        "the load of datagrams is untracked: the entries are of connections of somebody else",
        "untracked",
        steps=(
            NAT,
            "for d in sport dport; do iptables-nft -t raw -A OUTPUT -p udp --$d 7777:7999 -j CT --notrack; done",
        ),
        mislead="there = listen(5555); made = connects(300, 5555); time.sleep(30)",
        seen={"entries": (0, 0), "others": (300, 320)},
        load={"kind": "udp", "connections": 800, "rate_per_second": 400},
    ),
    State(
        "churn-beside-others",
        "the load is untracked: datagrams of somebody else come and go all the time",
        "untracked",
        steps=(NAT, NOTRACK),
        mislead="for n in range(20): datagrams(50, n * 50); time.sleep(.2)",
        seen={"entries": (0, 0), "others": (50, 2000)},
        timeouts={"udp": 1},
        load={"kind": "churn", "connections": 600, "rate_per_second": 300},
    ),
)
