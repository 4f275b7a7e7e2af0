"""What the table holds: old entries, a part of the load, entries that go again."""

from tests.truth.state import NAT, NOTRACK, State

OLD = (
    'modprobe nf_conntrack_netlink; for i in $(seq 1 {number}); do echo "-I -p tcp -s 10.1.$((i/250)).$((i%250+1)) '
    '-d 127.0.0.1 --sport 1000 --dport 7777 -t {seconds} --state ESTABLISHED {more}"; done > /old; '
    "conntrack -R /old > /dev/null"
)
ASSURED = "-u ASSURED,SEEN_REPLY"
HALF = "for d in {}; do iptables-nft -t raw -A OUTPUT $d 127.77.1.0/24 -j CT --notrack; done"

STATES = (
    State(
        "old-to-its-port",
        "the load is untracked: 800 old entries to one of its ports expire meanwhile",
        "untracked",
        steps=(NAT, NOTRACK, OLD.format(number=800, seconds=20, more=ASSURED)),
        seen={"entries": (0, 0), "others": (1, 800)},
        core=True,
    ),
    State(
        "old-go-as-its-own-come",
        "all of the load is tracked: 800 old entries expire while its own come",
        "tracked",
        steps=(NAT, OLD.format(number=800, seconds=20, more=ASSURED)),
        words=("all 600 connections",),
        seen={"entries": (600, 600)},
        load={"connections": 600},
    ),
    State(
        "old-with-its-addresses",
        "the load is untracked, which is not known, as old entries look like its own",
        ("untracked", "inconclusive"),
        steps=(
            NAT,
            NOTRACK,
            'modprobe nf_conntrack_netlink; for i in $(seq 1 200); do echo "-I -p tcp -s 127.77.1.1 -d 127.0.0.1 '
            "--sport $((i+1000)) --dport 7777 -t 600 --state ESTABLISHED " + ASSURED + '"; done > /old; '
            "conntrack -R /old > /dev/null",
        ),
        not_words=("had entries of their own",),
        seen={"established": (1000, 1000)},
    ),
    State(
        "old-are-evicted",
        "all is tracked: entries of somebody else, of 1900 unanswered datagrams, make room for 300 of the load's",
        "evicted",
        steps=(
            NAT,
            "iptables-nft -A INPUT -p udp -j DROP",
            'python3 -c "import socket; s = socket.socket(2, 2); '
            "[s.sendto(b'x', ('127.2.%d.%d' % (i // 250, i % 250 + 1), 9999)) for i in range(1900)]\"",
        ),
        seen={"established": (400, 400), "early_drop": (100, 2000)},
        load={"connections": 400},
        conntrack={"max": 2000, "buckets": 512},
    ),
    State(
        "room-comes-later",
        "a full table dropped the load's first packets; there was room only when the old entries had gone",
        "table-full",
        steps=(NAT, OLD.format(number=600, seconds=600, more=ASSURED)),
        mislead="until(lambda: stat('drop') >= 100); sh('conntrack -D -p tcp --orig-port-src 1000'); time.sleep(30)",
        seen={"drop": (1, 5000)},
        load={"connections": 500},
        conntrack={"max": 600},
    ),
    State(
        "short-lives",
        "the load is tracked: its entries live for a second only, so that the table never holds all of them",
        "tracked",
        steps=(NAT,),
        seen={"entries": (1, 900), "drop": (0, 0)},
        timeouts={"tcp_syn_sent": 1},
        load={"kind": "half-open", "connections": 900, "rate_per_second": 250},
        core=True,
    ),
    State(
        "short-time-wait",
        "the load is tracked: a closed connection's entry is gone after a second",
        "tracked",
        steps=(NAT,),
        seen={"entries": (1, 900), "drop": (0, 0)},
        timeouts={"tcp_time_wait": 1, "tcp_close": 1, "tcp_fin_wait": 1},
        load={"kind": "churn", "connections": 900, "rate_per_second": 300},
    ),
    State(
        "notrack-on-the-way-out",
        "the load is untracked: on loopback a packet that left untracked comes in as it left",
        "untracked",
        steps=(NAT, "iptables-nft -t raw -A OUTPUT -p tcp -j CT --notrack"),
        seen={"entries": (0, 0)},
    ),
    State(
        "notrack-on-the-way-in",
        "the load is tracked: on loopback a packet has its entry before PREROUTING sees it",
        "tracked",
        steps=(NAT, "iptables-nft -t raw -A PREROUTING -p tcp -j CT --notrack"),
        words=("all 1000 connections",),
        seen={"entries": (1000, 1000)},
        core=True,
    ),
    State(
        "notrack-half-the-addresses",
        "half of the load is tracked: what comes from the other half's addresses is not",
        "tracked",
        steps=(NAT, HALF.format("-s -d")),
        words=("500 of 1000 connections had entries",),
        seen={"entries": (500, 500)},
    ),
    State(
        "notrack-syn-only",
        "what the first packet is exempt from, the third makes up for: each connection gets its entry late",
        "tracked",
        steps=(NAT, "iptables-nft -t raw -A OUTPUT -p tcp --syn -j CT --notrack"),
        seen={"entries": (900, 1000)},
    ),
    State(
        "notrack-answers-only",
        "the load is tracked: each connection has an entry, which never saw an answer",
        "tracked",
        steps=(NAT, "iptables-nft -t raw -A OUTPUT -p tcp --sport 7777:7999 -j CT --notrack"),
        words=("all 1000 connections",),
        seen={"entries": (1000, 1000)},
    ),
    State(
        "notrack-every-second",
        "half of the load is tracked: every second SYN is not, and the rest of a connection makes no entry",
        "tracked",
        steps=(
            NAT,
            "sysctl -w net.netfilter.nf_conntrack_tcp_loose=0; iptables-nft -t raw -A OUTPUT -p tcp --syn "
            "-m statistic --mode nth --every 2 --packet 0 -j CT --notrack",
        ),
        words=("500 of 1000 connections had entries",),
        seen={"entries": (500, 500)},
    ),
    State(
        "half-in-a-zone",
        "all of the load is tracked: half of it in another zone",
        "tracked",
        steps=(
            NAT,
            "for d in dport sport; do iptables-nft -t raw -A OUTPUT -p tcp --$d 7777:7780 -j CT --zone 7; done",
        ),
        words=("all 1000 connections",),
        seen={"entries": (1000, 1000)},
    ),
    State(
        "snat-of-the-load",
        "all of the load is tracked, under another source towards its listeners",
        "tracked",
        steps=("iptables-nft -t nat -A POSTROUTING -s 127.77.0.0/16 -p tcp -j SNAT --to-source 127.0.0.9",),
        words=("all 800 connections",),
        seen={"entries": (800, 800), "established": (800, 800)},
        load={"connections": 800},
    ),
    State(
        "dnat-of-the-load",
        "all of the load is tracked; what goes to one listener reaches another",
        "tracked",
        steps=("iptables-nft -t nat -A OUTPUT -p tcp --dport 7784 -j REDIRECT --to-ports 7783",),
        words=("all 800 connections",),
        seen={"entries": (800, 800), "established": (800, 800)},
        load={"connections": 800},
    ),
)
