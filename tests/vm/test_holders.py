"""What holds conntrack beside plain rules, in real guests: each is found, and what is said to remove it does."""

from __future__ import annotations

from typing import Any

from tests.vm.conftest import Guests
from tests.vm.test_mitigations import HEAD, LOAD, file, mitigate, steps, told

LEGACY = "iptables-legacy"

OWNED = """
table inet fw {
    flags owner
    chain in {
        type filter hook input priority 10; policy accept;
        ct state { established, related } accept
        iifname "lo" accept
        ct state invalid drop
    }
}
"""
# nft -i keeps its socket, and so its table, for as long as it can read
OWN = """
(echo 'include "/root/fw.nft"'; sleep 100000) | nft -i > /dev/null 2>&1 &
for i in 1 2 3 4 5 6 7 8 9 10; do
    nft list table inet fw > /dev/null 2>&1 && exit 0
    sleep 0.5
done
exit 1
"""
# IP_VS_SO_SET_ADD and IP_VS_SO_SET_ADDDEST with struct ip_vs_service_user and ip_vs_dest_user of linux/ip_vs.h
FTP_SERVICE = """
import socket, struct
control = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
address, port = socket.inet_aton("192.0.2.1"), struct.pack("!H", 21)
everybody = socket.inet_aton("255.255.255.255")
service = struct.pack("=H2x4s2s2xI16sII4s", 6, address, port, 0, b"rr", 0, 0, everybody)
control.setsockopt(0, 1154, service)
masquerading = struct.pack("=4s2s2xIiII", socket.inet_aton("192.0.2.2"), port, 0, 1, 0, 0)
control.setsockopt(0, 1159, service + masquerading)
"""
TC = ("tc", "filter", "add", "dev", "lo", "egress", "protocol", "ip", "prio", "1", "flower", "ip_proto", "tcp")


def scenario(name: str, state: str) -> str:
    return HEAD.format(name=name) + state + LOAD.format(most=100)


def written(path: str, text: str) -> str:
    return file(text).replace("/root/file", path)


def only(result: dict[str, Any]) -> dict[str, Any]:
    assert len(result["holders"]) == 1, result["holders"]
    holder = result["holders"][0]
    assert isinstance(holder, dict)
    return holder


def test_a_chain_whose_name_looks_like_a_set_is_a_chain(guests: Guests) -> None:
    rule = (LEGACY, *"-A @x -p tcp -m state --state NEW -j ACCEPT".split())
    ran = mitigate(guests, scenario("at", steps((LEGACY, "-N", "@x"), rule, (LEGACY, "-A", "INPUT", "-j", "@x"))))
    holder = only(ran.result)
    assert (ran.result["finding"], holder["chain"], holder["reachable"]) == ("table-full", "@x", True)
    assert told(ran)["outcome"] == "fixes"


def test_a_comment_that_reads_as_an_option_is_a_comment(guests: Guests) -> None:
    rule = (LEGACY, *"-t raw -A OUTPUT -p icmp -m comment --comment --notrack -j CT --zone 1".split())
    ran = mitigate(guests, scenario("comment", steps(rule)))
    holder = only(ran.result)
    assert (ran.result["finding"], *holder["depends_on"]) == ("table-full", "-j CT")
    assert (ran.result["proofs"]["holders"], ran.result["proofs"]["notrack"]) == (True, False)
    assert told(ran)["outcome"] == "fixes"


def test_a_table_with_an_owner_names_it(guests: Guests) -> None:
    state = written("/root/fw.nft", OWNED) + written("/root/own", OWN) + steps(("sh", "/root/own"))
    ran = guests.run(scenario("owner", state))
    assert ran.result["finding"] == "table-full"
    assert [one["owner"] for one in ran.result["holders"]] == ["nft", "nft"]
    assert not any(one["remove"] for one in ran.result["holders"])
    assert [one["part_of_firewall"] for one in ran.result["holders"]] == [True, False]
    assert "stop nft" in ran.result["holders"][0]["advice"]


def test_open_vswitch_holds_by_being_loaded_before_6_12(guests: Guests) -> None:
    ran = mitigate(guests, scenario("ovs", steps(("modprobe", "openvswitch"))))
    if tuple(map(int, ran.result["kernel_release"].split(".")[:2])) < (6, 12):
        holder = only(ran.result)
        assert (ran.result["finding"], holder["rule"]) == ("table-full", "openvswitch")
        assert " ".join(holder["remove"]) == "modprobe -r openvswitch"
        assert told(ran)["outcome"] == "fixes"
    else:
        assert (ran.result["finding"], ran.result["holders"]) == ("untracked", [])
        assert ran.result["proofs"]["holders"] is False


def test_a_filter_of_tc_tracks_without_hooks(guests: Guests) -> None:
    state = steps(("tc", "qdisc", "add", "dev", "lo", "clsact"), (*TC, "ct_state", "-trk", "action", "ct", "commit"))
    ran = mitigate(guests, scenario("tc", state))
    holder = only(ran.result)
    assert (holder["backend"], holder["table"], holder["chain"]) == ("tc", "lo", "egress")
    assert (holder["hooks"], " ".join(holder["remove"])[:13]) == (False, "tc filter del")
    assert ran.result["proofs"]["disagreement"] is None
    found = told(ran)
    assert found["finding"] == "untracked"


def test_a_service_of_ipvs_for_ftp_with_nat_holds(guests: Guests) -> None:
    modules = steps(("modprobe", "ip_vs"), ("modprobe", "ip_vs_rr"))
    state = modules + written("/root/ftp.py", FTP_SERVICE) + steps(("python3", "/root/ftp.py"))
    ran = guests.run(scenario("ipvs", state))
    holder = only(ran.result)
    assert (ran.result["finding"], holder["backend"], holder["rule"]) == ("table-full", "ipvs", "TCP 192.0.2.1:21")
    assert (ran.result["proofs"]["holders"], ran.result["proofs"]["disagreement"]) == (True, None)
