"""The table's max and its counters: changed, changed back, begun again; and the log that speaks of them."""

from tests.truth.state import NAT, NFT, NOTRACK, SYN, State

FULL_BEFORE = (
    "iptables-legacy -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
    "echo 5 > /proc/sys/net/netfilter/nf_conntrack_max",
    'python3 -c "import socket; s = socket.socket(2, 2)\nfor i in range(200):\n'
    "  try: s.sendto(b'x', ('127.2.0.%d' % (i + 1), 9999))\n  except OSError: pass\"",
    "iptables-legacy -t nat -F; echo 100000 > /proc/sys/net/netfilter/nf_conntrack_max",
)
# what goes on beside it is over before it is
SLOW: dict[str, int | float | str] = {"kind": "churn", "connections": 1500, "rate_per_second": 150}
RELOAD = """
for _ in range({}):
    sh("for m in iptable_nat xt_MASQUERADE nf_conntrack_netlink nf_nat nf_conntrack; do modprobe -r $m; done")
    sh("modprobe nf_conntrack")
    time.sleep(.2)
"""
UNCOUNTED = NFT.format(hook="prerouting", priority=-400, policy="", rule=f"tcp dport 7784 {SYN} drop")

STATES = (
    State(
        "max-lowered-200-ms",
        "the load is tracked and held; where packets of it were dropped while the max was low, the table was full",
        ("tracked", "table-full"),
        steps=(NAT,),
        mislead="until(lambda: count() >= 300); setmax(100); time.sleep(.2); setmax(100000)",
        seen={"entries": (1, 1500)},
        load={"connections": 1500},
    ),
    State(
        "max-lowered-often",
        "the load is untracked: the max went up and down, and dropped datagrams of somebody else",
        "untracked",
        steps=(NAT, NOTRACK),
        mislead="""
for n in range(20):
    setmax(5); datagrams(30, n * 30); setmax(100000); time.sleep(.1)
""",
        seen={"entries": (0, 0), "drop": (1, 2000)},
    ),
    State(
        "max-lowered-nothing-dropped",
        "the load is untracked: the max was below the count for a while, and nothing wanted an entry",
        "untracked",
        steps=(NAT, NOTRACK),
        mislead="datagrams(60); setmax(20); time.sleep(30)",
        seen={"entries": (0, 0), "drop": (0, 0)},
    ),
    State(
        "max-lowered-after-it-came",
        "the load is tracked: the max was lowered below the count, and drops the datagrams of somebody else only",
        "tracked",
        steps=(NAT, "modprobe sch_netem; tc qdisc add dev lo root netem delay 5ms limit 100000"),
        mislead="until(lambda: established() >= 500); setmax(100); datagrams(50); setmax(100000); time.sleep(30)",
        seen={"entries": (500, 500)},
        load={"connections": 500},
    ),
    State(
        "max-is-no-bound",
        "the load is tracked: a max of 0 is no bound",
        "tracked",
        steps=(NAT, "echo 0 > /proc/sys/net/netfilter/nf_conntrack_max"),
        words=("all 1000 connections",),
        seen={"entries": (1000, 1000), "drop": (0, 0)},
        conntrack={},
    ),
    State(
        "reloaded",
        "the load is untracked: the module is loaded and unloaded meanwhile, and no rule needs it",
        "untracked",
        steps=("modprobe nf_conntrack",),
        mislead=RELOAD.format(2),
        seen={"entries": (0, 0)},
        conntrack={},
        load=SLOW,
    ),
    State(
        "reloaded-after-drops",
        "the load is untracked: drops of before it are gone from the counters, as the module was loaded again",
        "untracked",
        steps=FULL_BEFORE,
        mislead=RELOAD.format(2),
        seen={"entries": (0, 0)},
        conntrack={},
        load=SLOW,
    ),
    State(
        "reloaded-and-a-rule",
        "a rule drops 125; the module was loaded again meanwhile, which has nothing to do with it",
        "other-loss",
        steps=(*FULL_BEFORE, "iptables-legacy -A INPUT -p tcp --syn --dport 7784 -j DROP"),
        mislead=RELOAD.format(2),
        probe="iptables-legacy -vxnL INPUT | awk '$3 == \"DROP\" {s += $1} END {print s + 0}'",
        cause="a rule",
        seen={"entries": (0, 0), "probe": (125, 10**6)},
        conntrack={},
    ),
    State(
        "old-message-and-a-loss",
        "a rule without a counter drops 125; the message in the log, and the drops, are of before the load",
        "other-loss",
        steps=(*FULL_BEFORE, NAT, UNCOUNTED),
        cause=("unknown", "a filter of ports"),
        not_words=("message was logged",),
    ),
    State(
        "message-of-a-namespace",
        "the load is untracked: it is another namespace's table that is full, and says so",
        "untracked",
        steps=("ip netns add other; ip -n other link set lo up; ip netns exec other " + NAT,),
        mislead="""
setmax(20)
sh('''ip netns exec other python3 -c "import socket; s = socket.socket(2, 2)
for i in range(100):
  try: s.sendto(b'x', ('127.2.0.%d' % (i + 1), 9999))
  except OSError: pass"''')
""",
        seen={"entries": (0, 0)},
        load={"connections": 1500},
    ),
    State(
        "message-of-a-namespace-and-a-loss",
        "a rule without a counter drops 125; another namespace's table is full, and says so",
        "other-loss",
        steps=("ip netns add other; ip -n other link set lo up; ip netns exec other " + NAT, UNCOUNTED),
        mislead="""
setmax(20)
sh('''ip netns exec other python3 -c "import socket; s = socket.socket(2, 2)
for i in range(100):
  try: s.sendto(b'x', ('127.2.0.%d' % (i + 1), 9999))
  except OSError: pass"''')
""",
        cause=("unknown", "a filter of ports"),
        seen={"entries": (0, 0)},
    ),
    State(
        "forged-message",
        "the load is tracked and held: a program wrote the kernel's words into the log",
        "tracked",
        steps=(NAT,),
        mislead="""
with open("/dev/kmsg", "w") as log:
    log.write("<4>nf_conntrack: nf_conntrack: table full, dropping packet\\n")
""",
        words=("all 600 connections",),
        not_words=("message",),
        seen={"entries": (600, 600), "drop": (0, 0)},
        load={"connections": 600},
        core=True,
    ),
)
