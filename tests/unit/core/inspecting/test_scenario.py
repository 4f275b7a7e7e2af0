"""The scenario of a record: it reads back, and has what the record has."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.core.errors import ScenarioError
from lab.core.inspecting.scenario import Carried, scenario_of
from lab.core.scenario import FileStep, RunStep, Scenario
from lab.host.scenario_files import load_scenario
from tests.unit.core.inspecting.hosts import MASQUERADE, inspected, sysctl

TARGETS = {"debian11": "5.10.0-30-amd64", "debian12": "6.1.0-50-cloud-amd64", "forky": "7.2.1"}
NFT = """\
table ip nat { # handle 1
	chain POSTROUTING { # handle 2
		type nat hook postrouting priority srcnat; policy accept;
		oifname "eth0" masquerade # handle 3
	}
}
table inet firewalld { # handle 2 progname firewalld
	flags owner,persist
	chain in { # handle 1
		iif "wan0" ct state new accept # handle 4
	}
}
"""


def carried(host: dict[str, str] | None = None, own: dict[str, str] | None = None, **others: dict[str, str]) -> Carried:
    return scenario_of(inspected(host, own, **others), "mine", "mine.files", TARGETS)


def read_back(made: Carried, folder: Path) -> Scenario:
    (folder / "mine.files").mkdir()
    for name, text in made.files.items():
        (folder / "mine.files" / name).write_text(text)
    (folder / "mine.toml").write_text(made.toml)
    return load_scenario(folder / "mine.toml")


def test_rules_go_into_files_that_are_restored(tmp_path: Path) -> None:
    made = carried(own={"iptables-legacy-save": MASQUERADE, "sysctl": sysctl(10, 5000)})
    scenario = read_back(made, tmp_path)
    file, restore = scenario.state
    assert isinstance(file, FileStep)
    assert isinstance(restore, RunStep)
    assert (file.text, restore.argv) == (MASQUERADE, ("iptables-legacy-restore", file.path))
    assert "the host's max is 5,000, with 10 entries" in made.toml
    assert "--target debian12" in made.toml


def test_a_host_with_room_has_its_own_table(tmp_path: Path) -> None:
    made = carried(own={"iptables-legacy-save": MASQUERADE, "sysctl": sysctl(10, 5000)})
    scenario = read_back(made, tmp_path)
    assert (scenario.conntrack.max, scenario.conntrack.buckets) == (5000, 512)
    assert (scenario.load.connections, scenario.expectations[0].finding) == (2000, "tracked")
    assert "lab scenario --fill" in made.toml
    assert made.size == "as on the host: the table has room: 0.2% of it is used"


def test_a_full_one_is_made_so_small_that_the_load_fills_it(tmp_path: Path) -> None:
    made = carried(own={"iptables-legacy-save": MASQUERADE, "sysctl": sysctl(4990, 5000)})
    scenario = read_back(made, tmp_path)
    assert (scenario.conntrack.max, scenario.expectations[0].finding) == (1000, "table-full")
    assert "--fill" not in made.toml


def test_a_load_that_is_not_held_is_expected_tracked_where_there_is_room(tmp_path: Path) -> None:
    row = "ipv4 2 tcp 6 117 SYN_SENT src=1.1.1.1 dst=2.2.2.2 sport=1 dport=2 [UNREPLIED] src=2.2.2.2 dst=1.1.1.1\n"
    own = {"iptables-legacy-save": MASQUERADE, "entries": row}
    room = read_back(carried(own={**own, "sysctl": sysctl(1, 5000)}), tmp_path)
    assert (room.load.kind, [one.finding for one in room.expectations]) == ("half-open", ["tracked"])
    assert "[[expect]]" not in carried(own={**own, "sysctl": sysctl(1, 100)}).toml


def test_a_ruleset_of_nft_is_carried_without_what_another_restores_and_without_owners(tmp_path: Path) -> None:
    made = carried({"modules": "nf_tables 1 0 - Live 0x0\n"}, {"ruleset.nft": NFT, "iptables-nft-save": MASQUERADE})
    scenario = read_back(made, tmp_path)
    assert set(made.files) == {"ruleset.nft", "iptables-nft.rules"}
    assert "table ip nat" not in made.files["ruleset.nft"]
    assert "owner" not in made.files["ruleset.nft"]
    runs = [step.argv for step in scenario.state if isinstance(step, RunStep)]
    assert any(argv[:2] == ("sh", "-c") and argv[-1] == "wan0" for argv in runs)
    assert any("owner of table inet firewalld" in one for one in made.missing)
    assert any("wan0" in one for one in made.missing)


def test_options_and_modules_are_carried(tmp_path: Path) -> None:
    host = {
        "modprobe.d": "/etc/modprobe.d/a: options nf_conntrack enable_hooks=1\n/etc/modprobe.d/b: blacklist pcspkr\n",
        "modules": "nf_conntrack 1 0 - Live 0x0\n",
        "cmdline": "quiet nf_conntrack.acct=1\n",
    }
    made = carried(host)
    scenario = read_back(made, tmp_path)
    assert made.files == {"modprobe.conf": "options nf_conntrack enable_hooks=1\n"}
    assert scenario.machine.boot_args == ("nf_conntrack.acct=1",)
    assert scenario.state[-1] == RunStep(("modprobe", "nf_conntrack"))


def test_sets_that_rules_name_are_there(tmp_path: Path) -> None:
    rules = (
        "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m set --match-set banned src -m state --state NEW -j DROP\nCOMMIT\n"
    )
    made = carried(own={"iptables-legacy-save": rules})
    assert (
        RunStep(("ipset", "create", "-exist", "banned", "hash:net", "family", "inet"))
        in read_back(made, tmp_path).state
    )
    assert any("set banned" in one for one in made.missing)


def test_a_recorded_set_has_its_type_and_none_of_its_members(tmp_path: Path) -> None:
    rules = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m set --match-set b src -m state --state NEW -j DROP\nCOMMIT\n"
    sets = "create b hash:ip family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x1\ncreate other hash:mac\n"
    state = read_back(carried(own={"iptables-legacy-save": rules, "ipset": sets}), tmp_path).state
    assert state[0] == RunStep(("ipset", "create", "-exist", "b", "hash:ip", "family", "inet", "maxelem", "65536"))
    assert not any(isinstance(step, RunStep) and "other" in step.argv for step in state)


def test_another_namespace_is_one_of_the_machine(tmp_path: Path) -> None:
    made = carried({}, {"iptables-legacy-save": MASQUERADE}, n5={"iptables-legacy-save": MASQUERADE})
    runs = [step.argv for step in read_back(made, tmp_path).state if isinstance(step, RunStep)]
    assert runs[1] == ("ip", "netns", "add", "record-1")
    assert runs[-1][:5] == ("ip", "netns", "exec", "record-1", "iptables-legacy-restore")


def test_a_namespace_that_alone_tracks_is_the_end_where_the_load_begins(tmp_path: Path) -> None:
    full = {"iptables-legacy-save": MASQUERADE, "sysctl": sysctl(900)}
    made = carried({}, {}, n5={"iptables-legacy-save": MASQUERADE, "sysctl": sysctl(10)}, n6=full)
    scenario = read_back(made, tmp_path)
    inside = [step for step in scenario.state if isinstance(step, RunStep) and step.end == "client"]
    assert [step.argv[0] for step in inside] == ["iptables-legacy-restore"]
    assert scenario.machine.path == "forward"
    assert scenario.expectations[0].finding == "table-full"
    assert "the host's max is 1,000, with 900 entries" in made.toml


def test_where_only_ipv6_is_tracked_the_load_goes_over_it(tmp_path: Path) -> None:
    scenario = read_back(carried(own={"ip6tables-legacy-save": MASQUERADE}), tmp_path)
    assert (scenario.load.family, scenario.expectations[0].finding) == ("ipv6", "table-full")


def test_a_load_that_is_kept_out_is_expected_untracked(tmp_path: Path) -> None:
    rules = "-A PREROUTING -p tcp -j CT --notrack\n-A OUTPUT -p tcp -j CT --notrack\n"
    raw = f"*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{rules}COMMIT\n"
    scenario = read_back(carried(own={"iptables-legacy-save": raw + MASQUERADE}), tmp_path)
    assert scenario.expectations[0].finding == "untracked"


def test_what_tracks_without_hooks_is_said_not_to_be_carried() -> None:
    flower = "filter protocol ip pref 1 flower chain 0 handle 0x1\n\taction order 1: ct commit zone 0 pipe\n"
    made = carried(own={"tc.filters": f"dev lo egress\n{flower}"})
    assert any(one.startswith("what tracks without hooks: ") and "ct commit" in one for one in made.missing)
    assert "[[expect]]" not in made.toml


def test_what_was_not_read_is_said_and_nothing_is_expected_of_it() -> None:
    modules = "xt_MASQUERADE 16384 1 - Live 0x0\nnf_conntrack 188416 1 xt_MASQUERADE, Live 0x0\n"
    made = carried({"modules": modules}, {"iptables-legacy-save.error": "timed out\n", "sysctl": sysctl(1, 5000)})
    assert "what was not read: legacy rules of IPv4: timed out" in made.missing
    assert "[[expect]]" not in made.toml


def test_a_specification_becomes_what_restores(tmp_path: Path) -> None:
    text = "-P INPUT DROP\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n-N mine\n-A INPUT -m state --state NEW -j mine\n"
    made = carried(own={"iptables-legacy-save": text})
    assert made.files["iptables-legacy.rules"] == (
        "*filter\n:FORWARD ACCEPT [0:0]\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:mine - [0:0]\n"
        "-A INPUT -m state --state NEW -j mine\nCOMMIT\n"
    )
    read_back(made, tmp_path)


def test_a_listing_cannot_be_carried() -> None:
    listing = (
        "Chain INPUT (policy ACCEPT)\ntarget prot opt source destination\nACCEPT all -- anywhere anywhere state NEW\n"
    )
    made = carried(own={"iptables-legacy-save": listing})
    assert not made.files
    assert any("iptables -L" in one for one in made.missing)


@pytest.mark.parametrize(
    ("release", "target"), [("4.18.0-553.el8", "debian11"), ("6.5.0", "debian12"), ("9.9", "forky"), ("", "debian11")]
)
def test_the_nearest_kernel_is_named(release: str, target: str) -> None:
    assert f"--target {target}\n" in carried({"uname": f"{release}\n"}).toml


def test_words_of_a_record_stay_words(tmp_path: Path) -> None:
    evil = 'x"\n[machine]\nboot_args = ["evil"]\x1b\x7f{iptables}'
    made = carried({"uname": f"6.1.0 {evil}\n"}, {"iptables-legacy-save": MASQUERADE, "names": evil})
    scenario = read_back(made, tmp_path)
    assert scenario.machine.boot_args == ()
    assert "\x1b" not in made.toml


def test_a_name_that_no_scenario_has_is_refused() -> None:
    with pytest.raises(ScenarioError, match="no scenario's name"):
        scenario_of(inspected(), "Not A Name", "x", TARGETS)
