"""States of which the lab still says something false: a decision is needed first. They are run by hand only."""

from tests.truth.state import NAT, NOTRACK, State

OTHERS_DROPPED = """
until(lambda: established() >= {})
for n in range(8):
    setmax(max(1, count() - 20)); datagrams(60, n * 60); setmax(100000); time.sleep(.4)
"""

STATES = (
    State(
        "undecided-full-of-others-and-a-loss",
        "a rule without a counter drops what goes to one port; what a full table drops is somebody else's. The lab "
        "says table-full: the counters fit, only that all that is lost goes to one port does not",
        "other-loss",
        steps=(
            NAT,
            "nft 'add table ip t; add chain ip t c { type filter hook prerouting priority -400; }; "
            "add rule ip t c tcp dport 7784 tcp flags & (syn|ack) == syn drop'",
        ),
        mislead=OTHERS_DROPPED.format(850),
        cause=("unknown", "a filter of ports"),
        seen={"established": (875, 875), "drop": (100, 9000)},
    ),
    State(
        "undecided-lossy-and-full-of-others",
        "packets are lost on the way and sent again, so all is held; what a full table drops is somebody else's. The "
        "lab says table-full, as a held connection had to send its SYN again",
        "tracked",
        steps=(NAT, "modprobe sch_netem; tc qdisc add dev lo root netem limit 100000 loss 5%"),
        mislead=OTHERS_DROPPED.format(400),
        seen={"drop": (100, 9000)},
        load={"connections": 500},
    ),
    State(
        "undecided-forged-entries",
        "the load is untracked: somebody makes entries that have the addresses that it comes from",
        ("untracked", "inconclusive"),
        steps=(NAT, NOTRACK, "modprobe nf_conntrack_netlink"),
        mislead="""
with open("/forged", "w") as file:
    for n in range(300):
        file.write("-I -p tcp -s 127.77.9.9 -d 127.0.0.1 --sport %d --dport 7777 -t 600 --state ESTABLISHED "
                   "-u ASSURED,SEEN_REPLY\\n" % (1000 + n))
sh("conntrack -R /forged"); time.sleep(30)
""",
        not_words=("had entries of their own",),
        load={"connections": 1500},
    ),
)
