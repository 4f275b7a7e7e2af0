"""The parsers of /proc text, over captures of real kernels (tests/golden/procfs) and texts of older ones."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.kernel import conntrack
from lab.core.kernel.conntrack import Entry, Flow, Module, Slab
from tests.recordings import GOLDEN

PROCFS = GOLDEN / "procfs"


def golden(path: str) -> str:
    return (PROCFS / path).read_text()


# (file, CPUs, some of the totals): the numbers were added up by hand from the file
STAT_TOTALS: list[tuple[str, dict[str, int], tuple[str, ...]]] = [
    ("handwritten/net_stat_nf_conntrack.2.6.32", {"entries": 100, "searched": 9134, "drop": 19540, "early_drop": 4},
     ("search_restart", "clashres", "chainlength")),
    ("handwritten/net_stat_nf_conntrack.3.10", {"entries": 100, "searched": 1203, "drop": 200, "search_restart": 4},
     ("clashres", "chainlength")),
    ("handwritten/net_stat_nf_conntrack.4.4", {"entries": 65536, "drop": 0x100000001, "search_restart": 4},
     ("clashres",)),
    ("handwritten/net_stat_nf_conntrack.4.10.17", {"entries": 100, "drop": 199, "ignore": 12, "early_drop": 0}, ()),
    ("handwritten/net_stat_nf_conntrack.4.19", {"drop": 201, "early_drop": 11, "insert_failed": 3, "ignore": 1189}, ()),
    ("handwritten/net_stat_nf_conntrack.5.15", {"drop": 201, "clashres": 5, "chainlength": 1},
     ("searched", "delete_list")),
    ("5.10-debian11/full/net_stat_nf_conntrack", {"entries": 100, "drop": 0xA2 + 0x49}, ("searched", "chainlength")),
    ("6.1-debian12/full/net_stat_nf_conntrack", {"entries": 100, "drop": 0x1E + 0xCD}, ("searched", "delete_list")),
    ("6.12-debian13/full/net_stat_nf_conntrack", {"entries": 100, "drop": 0x63 + 0x150}, ("searched",)),
    ("6.18-host/net_stat_nf_conntrack", {"entries": 0, "drop": 0, "search_restart": 0}, ("searched",)),
    ("7.2-forky/full/net_stat_nf_conntrack", {"entries": 100, "drop": 0x121 + 0x92}, ("searched",)),
]  # fmt: skip


@pytest.mark.parametrize(("path", "expected", "absent"), STAT_TOTALS, ids=[row[0] for row in STAT_TOTALS])
def test_stat_totals_of_every_header_generation(path: str, expected: dict[str, int], absent: tuple[str, ...]) -> None:
    totals = conntrack.stat_totals(golden(path))
    assert {name: totals[name] for name in expected} == expected
    assert not set(absent) & set(totals)


HEADER = "entries searched found drop early_drop"
BAD_STAT = {
    "empty": ("", "empty"),
    "header only": (f"{HEADER}\n", "no row"),
    "no header": ("00000000 00000001\n00000000 00000001\n", "not a column name"),
    "short row": (f"{HEADER}\n00000001 00000002\n", "line 2: 2 fields under 5 names"),
    "long row": (f"{HEADER}\n1 2 3 4 5\n1 2 3 4 5 6\n", "line 3: 6 fields"),
    "not hexadecimal": (f"{HEADER}\n1 2 3 0x4 5\n", "line 2: '0x4'"),
    "negative": (f"{HEADER}\n1 2 3 -4 5\n", "'-4'"),
    "underscore": (f"{HEADER}\n1 2 3 4_0 5\n", "'4_0'"),
    "repeated name": ("entries drop drop\n1 2 3\n", "twice"),
    "an error message": ("cat: no such file\n", "not a column name"),
}


@pytest.mark.parametrize(("text", "complaint"), BAD_STAT.values(), ids=BAD_STAT)
def test_stat_totals_refuses(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        conntrack.stat_totals(text)


names = st.lists(
    st.sampled_from(["entries", "drop", "early_drop", "found", "new", "insert", "clashres", "chainlength"]),
    min_size=1,
    unique=True,
)


@given(names=names, data=st.data(), cpus=st.integers(1, 5))
def test_the_order_of_columns_never_matters(names: list[str], data: st.DataObject, cpus: int) -> None:
    number = st.integers(0, 2**32 - 1)
    rows = [{name: data.draw(number) for name in names} for _ in range(cpus)]
    shuffled = data.draw(st.permutations(names))

    def text(order: list[str]) -> str:
        return "\n".join([" ".join(order), *(" ".join(f"{row[name]:08x}" for name in order) for row in rows)])

    totals = conntrack.stat_totals(text(names))
    assert totals == conntrack.stat_totals(text(shuffled))
    assert totals == {name: sum(row[name] for row in rows) if name != "entries" else rows[-1][name] for name in names}


@given(st.text(max_size=300))
def test_stat_totals_reads_or_refuses_any_text(text: str) -> None:
    try:
        totals = conntrack.stat_totals(text)
    except ValueError:
        return
    assert all(value >= 0 for value in totals.values())


def test_counter_delta_wraps_at_32_bits_and_is_unknown_without_both_sides() -> None:
    assert conntrack.counter_delta({"drop": 5}, {"drop": 12}, "drop") == 7
    assert conntrack.counter_delta({"drop": 0xFFFFFFF0}, {"drop": 0x10}, "drop") == 0x20
    assert conntrack.counter_delta({"drop": 0x1FFFFFFF0}, {"drop": 0x10}, "drop") == 0x20  # two CPUs, one wrapped
    assert conntrack.counter_delta({"drop": 5}, {"drop": 5}, "drop") == 0
    assert conntrack.counter_delta({}, {"drop": 5}, "drop") is None
    assert conntrack.counter_delta({"drop": 5}, {}, "drop") is None
    assert conntrack.counter_delta({"drop": 5}, {"drop": 0}, "drop") is None, "the module was loaded anew"
    with pytest.raises(ValueError, match="not a counter"):
        conntrack.counter_delta({"entries": 5}, {"entries": 0}, "entries")


@given(
    start=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8),
    rises=st.lists(st.integers(0, 2**27), min_size=8, max_size=8),
)
def test_counter_delta_is_right_whichever_cpus_wrap(start: list[int], rises: list[int]) -> None:
    after = [(value + rise) % 2**32 for value, rise in zip(start, rises, strict=False)]
    delta = conntrack.counter_delta({"drop": sum(start)}, {"drop": sum(after)}, "drop")
    assert delta == sum(rises[: len(start)])


KERNELS = ("5.10-debian11", "6.1-debian12", "6.12-debian13", "7.2-forky")


@pytest.mark.parametrize("kernel", KERNELS)
def test_mib_of_real_kernels(kernel: str) -> None:
    snmp = conntrack.mib(golden(f"{kernel}/full/net_snmp"))
    assert snmp["Tcp.ActiveOpens"] == 150
    assert snmp["Tcp.MaxConn"] == -1
    assert snmp["Ip.OutDiscards"] == 35, "the UDP datagrams that got EPERM"
    netstat = conntrack.mib(golden(f"{kernel}/full/net_netstat"))
    assert netstat["TcpExt.ListenOverflows"] == 0
    assert netstat["TcpExt.TCPRetransFail"] > 0, "SYNs that the full table dropped"
    assert "TcpExt.NoSuchCounter" not in netstat


BAD_MIB = {
    "empty": ("", "empty"),
    "cut after the header": ("TcpExt: A B\n", "header without values"),
    "too few values": ("TcpExt: A B\nTcpExt: 1\n", "line 1: 2 names of TcpExt over 1 values of TcpExt"),
    "other group": ("TcpExt: A\nIpExt: 1\n", "IpExt"),
    "not a number": ("TcpExt: A\nTcpExt: x\n", "line 2: TcpExt.A: 'x'"),
    "twice": ("TcpExt: A\nTcpExt: 1\nTcpExt: A\nTcpExt: 2\n", "twice"),
    "no group": ("1 2 3\n4 5 6\n", "group"),
}


@pytest.mark.parametrize(("text", "complaint"), BAD_MIB.values(), ids=BAD_MIB)
def test_mib_refuses(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        conntrack.mib(text)


def test_integer() -> None:
    assert conntrack.integer("65536\n") == 65536
    assert conntrack.integer("-1\n") == -1
    for text in ("", "4096 87380 6291456\n", "0x10", "1_0", "٣", "N\n"):
        with pytest.raises(ValueError, match="not an integer"):
            conntrack.integer(text)


def test_modules() -> None:
    loaded = {module.name: module for module in conntrack.modules(golden("handwritten/modules.3.10"))}
    assert loaded["nf_nat"] == Module("nf_nat", 25178, 3, ("ipt_MASQUERADE", "iptable_nat", "nf_nat_ipv4"), "Live")
    assert loaded["nf_conntrack_ipv4"] == Module("nf_conntrack_ipv4", 18499, 1, (), "Live")
    assert loaded["legacy_drv"].permanent
    assert loaded["legacy_drv"].users == ()
    assert loaded["going_away"].use_count is None
    assert loaded["going_away"].state == "Unloading"
    assert [m.use_count for m in conntrack.modules(golden("handwritten/modules.no-unload"))] == [None, None]
    assert conntrack.modules("") == ()
    for text in ("nf_nat 25178\n", "nf_nat x 0 - Live 0x0\n", "nf_nat 1 0 - Dead 0x0\n", "a 1 x - Live 0x0\n"):
        with pytest.raises(ValueError, match="modules line 1"):
            conntrack.modules(text)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_the_starting_state_loaded(kernel: str) -> None:
    def tracking(state: str) -> set[str]:
        loaded = conntrack.modules(golden(f"{kernel}/{state}/modules"))
        return {module.name for module in conntrack.conntrack_modules(loaded)}

    assert tracking("pristine") == set()
    assert {"nf_conntrack", "nf_nat", "iptable_nat", "xt_conntrack", "xt_MASQUERADE"} <= tracking("attached")
    assert tracking("flushed") == tracking("attached"), "flushing rules unloads nothing"
    assert {"nft_ct", "nf_conntrack_bridge", "nf_flow_table"} <= tracking("nft")


def test_module_facts() -> None:
    roles = {"core", "l3", "defrag", "protocol", "nat", "match", "target", "nft", "netlink", "helper", "user"}
    assert {fact.role for fact in conntrack.CONNTRACK_MODULES.values()} <= roles
    ftp = conntrack.conntrack_module("nf_conntrack_ftp")
    assert ftp is not None and ftp.role == "helper"
    for name in ("ext4", "nf_tables", "ip_tables", "iptable_filter", "x_tables", "xt_tcpudp", "nft_chain_route"):
        assert conntrack.conntrack_module(name) is None


def test_objects_of_another_cache() -> None:
    text = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\nnet_namespace 3 7 4224\nnet_x 9 9 9\n"
    assert conntrack.cache_objects(text, "net_namespace") == 3
    assert conntrack.cache_objects(text, "net") is None
    with pytest.raises(ValueError, match="no line that names"):
        conntrack.cache_objects("net_namespace 3 7 4224\n", "net_namespace")


def test_slab() -> None:
    text = golden("handwritten/slabinfo.2.6.32")
    assert conntrack.slab(text) == Slab(108, 130, 304, 39520), "one cache per network namespace, added up"
    assert conntrack.slab(golden("6.12-debian13/full/slabinfo")) == Slab(128, 128, 256, 32768)
    assert conntrack.slab(golden("7.2-forky/full/slabinfo")) == Slab(140, 144, 256, 36864)
    without = "\n".join(line for line in text.splitlines() if not line.startswith("nf_conntrack_ffff"))
    assert conntrack.slab(without) is None, "unknown, not zero"
    for bad in ("", "nf_conntrack 1 2 3\n", "# name <active_objs>\n", without + "\nnf_conntrack 1\n"):
        with pytest.raises(ValueError, match="slabinfo"):
            conntrack.slab(bad)


TCP = "tcp"
ENTRIES_3_10 = (
    Entry("ipv4", TCP, 6, 119, "SYN_SENT", Flow("10.0.0.2", "192.0.2.1", 40001, 80),
          Flow("192.0.2.1", "10.0.0.2", 80, 40001), False, True, False, 0),
    Entry("ipv4", TCP, 6, 431999, "ESTABLISHED", Flow("127.0.0.1", "127.0.0.1", 40000, 9),
          Flow("127.0.0.1", "127.0.0.1", 9, 40000), True, False, False, 7),
    Entry("ipv4", "udp", 17, 29, None, Flow("10.0.0.2", "10.0.0.3", 53124, 53),
          Flow("10.0.0.3", "10.0.0.2", 53, 53124), False, True, False, 0),
    Entry("ipv4", "icmp", 1, 12, None, Flow("10.0.0.2", "10.0.0.3"), Flow("10.0.0.3", "10.0.0.2"),
          False, False, False, 0),
    Entry("ipv6", TCP, 6, 58, "TIME_WAIT",
          Flow("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:0db8:0000:0000:0000:0000:0000:0002", 34567, 443),
          Flow("2001:0db8:0000:0000:0000:0000:0000:0002", "2001:0db8:0000:0000:0000:0000:0000:0001", 443, 34567),
          True, False, False, 0),
    Entry("ipv4", "unknown", 2, 593, None, Flow("10.0.0.2", "224.0.0.22"), Flow("224.0.0.22", "10.0.0.2"),
          False, True, False, 0),
)  # fmt: skip


def test_entries() -> None:
    assert conntrack.entries(golden("handwritten/net_nf_conntrack.3.10")) == ENTRIES_3_10
    offloaded = conntrack.entries(golden("handwritten/net_nf_conntrack.offload"))
    assert [(entry.offloaded, entry.expires_seconds, entry.state) for entry in offloaded] == [(True, None, None)] * 2
    (old,) = conntrack.entries(golden("handwritten/net_ip_conntrack.2.6"))
    assert (old.family, old.protocol, old.state, old.assured) == (None, "tcp", "ESTABLISHED", True)
    assert conntrack.entries("") == ()


@pytest.mark.parametrize("kernel", KERNELS)
def test_entries_of_a_full_table(kernel: str) -> None:
    rows = conntrack.entries(golden(f"{kernel}/full/net_nf_conntrack"))
    assert len(rows) == conntrack.integer(golden(f"{kernel}/full/sys_net_netfilter_nf_conntrack_count")) == 100
    held = [row for row in rows if row.original.destination_port == 5001]
    assert len(held) == 100
    assert all(row.assured and row.state == "ESTABLISHED" and not row.unreplied for row in held)


BAD_ENTRIES = {
    "cut": "ipv4     2 tcp",
    "no reply": "ipv4 2 tcp 6 10 SYN_SENT src=1.2.3.4 dst=1.2.3.5 sport=1 dport=2\n",
    "no number": "ipv4 2 tcp six 10 src=1.2.3.4 dst=1.2.3.5 src=1.2.3.5 dst=1.2.3.4\n",
    "a port in words": "tcp 6 1 src=1.2.3.4 dst=1.2.3.5 sport=http dport=2 src=1.2.3.5 dst=1.2.3.4\n",
    "an error": "cat: /proc/net/nf_conntrack: Permission denied\n",
}


@pytest.mark.parametrize("text", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_entries_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="nf_conntrack line 1"):
        conntrack.entries(text)


PARSERS: tuple[Callable[[str], object], ...] = (
    conntrack.mib,
    conntrack.integer,
    conntrack.modules,
    conntrack.slab,
    conntrack.entries,
)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)
@given(text=st.text(alphabet="abc012 :=-[]\n\t#<>_,\x00٣", max_size=120))
def test_any_text_is_read_or_refused(parser: Callable[[str], object], text: str) -> None:
    try:
        parser(text)
    except ValueError:
        pass
