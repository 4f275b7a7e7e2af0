"""States that were reported to mislead an earlier lab, made again."""

from tests.truth.state import NAT, NOTRACK, State

RULE = "iptables-nft -vxnL INPUT | awk '$3 == \"DROP\" {s += $1} END {print s + 0}'"
CLASH = """
taken = listen(9999, 50)
made = connects(4, 9999)
time.sleep(30)
"""
SNAT_CLASH = "iptables-nft -t nat -A POSTROUTING -p tcp --dport 9999 -j SNAT --to-source 127.0.0.1:5000"

STATES = (
    State(
        "expiring-udp",
        "the load is tracked: 3,000 old entries of UDP expire while its own come, so the count never rises",
        "tracked",
        steps=(
            NAT,
            "echo 1 > /proc/sys/net/netfilter/nf_conntrack_udp_timeout",
            'python3 -c "import socket; s = socket.socket(2, 2); '
            "[s.sendto(b'x', ('127.2.%d.%d' % (i // 250, i % 250 + 1), 9999)) for i in range(3000)]\"",
        ),
        seen={"entries": (500, 500), "drop": (0, 0)},
        load={"connections": 500},
        conntrack={"buckets": 1024},
        core=True,
    ),
    State(
        "stray-udp",
        "the load is untracked: the 40 entries are datagrams of another process",
        "untracked",
        steps=(NAT, NOTRACK),
        mislead="datagrams(40); time.sleep(30)",
        seen={"entries": (0, 0), "others": (40, 60)},
        core=True,
    ),
    State(
        "stray-single",
        "the load is untracked: now and then one datagram of something else gets an entry",
        "untracked",
        steps=("iptables-legacy -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT", NOTRACK),
        mislead="for n in range(60): datagrams(1, n); time.sleep(.1)",
        seen={"entries": (0, 0), "others": (1, 80)},
        conntrack={"max": 100},
        load={"connections": 1500},
    ),
    State(
        "notrack-half-the-ports",
        "half of the load is tracked: what goes to the first four of its ports is not",
        "tracked",
        steps=(
            NAT,
            "for c in OUTPUT PREROUTING; do for d in dport sport; do "
            "iptables-nft -t raw -A $c -p tcp --$d 7777:7780 -j CT --notrack; done; done",
        ),
        words=("500 of 1000 connections had entries", "50%"),
        seen={"entries": (500, 500)},
        core=True,
    ),
    State(
        "clash-at-the-max",
        "all is held and tracked: drop rose by another process's clash in NAT, and the table only touched its max",
        "tracked",
        steps=(SNAT_CLASH,),
        mislead=CLASH,
        not_words=("packets, the first after",),
        seen={"established": (1000, 1000)},
        conntrack={"max": 1010},
    ),
    State(
        "clash-and-a-rule",
        "750 are lost to the rule that drops; what drop rose by is another process's clash",
        "other-loss",
        steps=(SNAT_CLASH, "iptables-nft -A INPUT -p tcp --syn --dport 7779:7784 -j DROP"),
        mislead=CLASH,
        probe=RULE,
        cause="a rule",
        seen={"established": (250, 250), "probe": (750, 10**6)},
    ),
    State(
        "max-lowered-20-ms",
        "a rule drops what goes to one port; the max was lowered for 20 ms, which may have delayed connections that "
        "are held all the same, or nothing",
        ("other-loss", "table-full"),
        steps=(NAT, "iptables-nft -A INPUT -p tcp --syn --dport 7784 -j DROP"),
        mislead="until(lambda: count() >= 400); setmax(200); time.sleep(.02); setmax(100000)",
        probe=RULE,
        words=("a rule",),
        seen={"probe": (187, 10**6)},
        load={"connections": 1500},
    ),
    State(
        "full-and-a-rule",
        "the table is full and loses connections, and most of what is lost goes to a rule's drops, 750",
        "table-full",
        steps=(NAT, "iptables-nft -t raw -A OUTPUT -p tcp --syn --dport 7779:7784 -j DROP"),
        probe="iptables-nft -t raw -vxnL OUTPUT | awk '$3 == \"DROP\" {s += $1} END {print s + 0}'",
        words=("750: a rule",),
        seen={"entries": (190, 200), "probe": (750, 10**6), "drop": (1, 2000)},
        conntrack={"max": 200},
        core=True,
    ),
    State(
        "few-reset-many-dropped",
        "750 are lost to the rule that drops, 5 to the one that resets",
        "other-loss",
        steps=(
            "iptables-nft -A INPUT -p tcp --syn --dport 7777:7778 -m statistic --mode nth --every 50 --packet 0 "
            "-j REJECT --reject-with tcp-reset",
            "iptables-nft -A INPUT -p tcp --syn --dport 7779:7784 -j DROP",
        ),
        probe=RULE,
        cause="a rule",
        words=("750: a rule", "5: refused"),
        seen={"probe": (750, 10**6)},
    ),
    State(
        "third-ack-dropped",
        "750 are lost to a rule that drops the handshake's last packet; no queue overflowed",
        "other-loss",
        steps=("iptables-nft -A INPUT -p tcp --tcp-flags SYN,ACK,FIN,RST ACK --dport 7779:7784 -j DROP",),
        probe=RULE,
        cause="a rule",
        seen={"overflows": (0, 0), "probe": (750, 10**6)},
    ),
    State(
        "somaxconn-in-a-namespace",
        "connections are lost to the accept queues, in the listeners' own namespace",
        "other-loss",
        steps=(NAT, "ip netns exec lab-server sysctl -w net.core.somaxconn=1"),
        cause="accept backlog",
        seen={"overflows": (100, 20000), "drop": (0, 0)},
        topology="netns",
        core=True,
    ),
    State(
        "answers-under-way",
        "nothing is lost: each answer is seven seconds under way",
        ("untracked", "inconclusive"),
        steps=("modprobe sch_netem", "tc qdisc add dev lo root netem delay 3500ms limit 100000"),
        not_words=("unknown",),
        load={"connections": 600},
    ),
    State(
        "comment-says-notrack",
        "the load is tracked: --notrack is the comment's text, the rule puts packets into a zone",
        "table-full",
        steps=("iptables-legacy -t raw -A OUTPUT -p icmp -m comment --comment --notrack -j CT --zone 1",),
        seen={"entries": (90, 100), "drop": (1, 3000)},
        load={"connections": 500},
        conntrack={"max": 100},
    ),
    State(
        "chain-named-at",
        "the table is full: a rule in a chain that INPUT jumps to holds conntrack",
        "table-full",
        steps=(
            "iptables-legacy -N @x",
            "iptables-legacy -A @x -p tcp -m state --state NEW -j ACCEPT",
            "iptables-legacy -A INPUT -j @x",
        ),
        seen={"entries": (90, 100), "drop": (1, 3000)},
        load={"connections": 500},
        conntrack={"max": 100},
    ),
    State(
        "rule-before-the-holder",
        "the table is full, and somebody inserts a rule before the one that holds conntrack",
        "table-full",
        steps=(
            "iptables-legacy -A INPUT -p tcp -m connlimit --connlimit-above 100000 -j DROP",
            "iptables-legacy -A INPUT -s 192.0.2.0/24 -j DROP",
        ),
        mislead="time.sleep(.1); sh('iptables-legacy -I INPUT -p icmp -j ACCEPT')",
        seen={"entries": (90, 100), "drop": (1, 3000)},
        conntrack={"max": 100},
    ),
    State(
        "many-old-and-a-rule",
        "the load is tracked, and a rule drops what goes to one port",
        "other-loss",
        steps=(
            "modprobe nf_conntrack; iptables-nft -A INPUT -p tcp --syn --dport 7784 -m conntrack --ctstate NEW -j DROP",
            'for i in $(seq 1 3000); do echo "-I -p udp -s 10.1.$((i/250)).$((i%250+1)) -d 10.9.9.9 --sport 1000 '
            '--dport 2000 -t 1"; done > /old; conntrack -R /old >/dev/null 2>&1 || true',
        ),
        probe=RULE,
        cause="a rule",
        seen={"entries": (430, 500), "probe": (60, 10**6)},
        load={"connections": 500},
        conntrack={"buckets": 1024},
    ),
    State(
        "policy-drop-and-full",
        "the table is full and loses connections; the policy would drop what no rule accepts",
        "table-full",
        steps=(
            "iptables-nft -A INPUT -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
            "iptables-nft -A INPUT -s 192.0.2.9 -m state --state NEW -j ACCEPT",
            "iptables-nft -P INPUT DROP",
        ),
        seen={"entries": (90, 100), "drop": (1, 3000)},
        load={"connections": 500},
        conntrack={"max": 100},
    ),
    State(
        "old-message",
        "the table is full now; the message in the log is of another time, and the kernel may write none now",
        "table-full",
        steps=(
            NAT,
            "echo 5 > /proc/sys/net/netfilter/nf_conntrack_max",
            'python3 -c "import socket; s = socket.socket(2, 2)\nfor i in range(60):\n'
            "  try: s.sendto(b'x', ('127.2.0.%d' % (i + 1), 9999))\n  except OSError: pass\"; conntrack -F || true",
            "echo 0 > /proc/sys/net/core/message_burst",
        ),
        words=("not logged during the load, but before it",),
        seen={"entries": (90, 100), "drop": (1, 3000)},
        load={"connections": 500},
        conntrack={"max": 100},
    ),
    State(
        "newcomers-lost",
        "every datagram was sent, and a rule drops all 50 newcomers",
        "other-loss",
        steps=("iptables-nft -I INPUT -i lo -p tcp --syn -d 127.0.0.1 -j DROP",),
        probe=RULE,
        cause="a rule",
        words=("of 50 newcomers 0 got through",),
        seen={"probe": (50, 10**6)},
        load={"kind": "udp", "connections": 500, "newcomers": 50},
        core=True,
    ),
)
