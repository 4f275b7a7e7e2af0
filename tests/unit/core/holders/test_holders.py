"""Who holds conntrack, over recorded rulesets: a person named the holders before the code was asked.

Each folder of tests/golden/rulesets has what the programs printed and expected.toml, whose lines read
`backend family table chain number-or-handle: what needs conntrack[ (unreachable)]`; an object is in chain `-`.
Folders recorded on a kernel that lists hooks have that list, too: the kernel's own word on which families are held.
"""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.core.holders.find import held_families, holders
from lab.core.holders.model import Holder, Recorded
from lab.core.kernel import conntrack, hooks
from tests.recordings import GOLDEN

RULESETS = sorted(path.parent for path in (GOLDEN / "rulesets").glob("*/expected.toml"))

FILES = {
    "iptables_legacy": "iptables-legacy-save",
    "ip6tables_legacy": "ip6tables-legacy-save",
    "iptables_nft": "iptables-nft-save",
    "ip6tables_nft": "ip6tables-nft-save",
    "nft_json": "nft.json",
    "nft_text": "nft.txt",
}


def recorded(folder: Path) -> Recorded:
    kernel = tuple(tomllib.loads((folder / "expected.toml").read_text())["kernel"])
    texts = {field: (folder / name).read_text() for field, name in FILES.items() if (folder / name).exists()}
    return Recorded(kernel=kernel, **texts)


def shown(holder: Holder) -> str:
    place = holder.handle if holder.number is None else holder.number
    unreachable = " (unreachable)" if holder.reachable is False else ""
    where = f"{holder.backend} {holder.family} {holder.table} {holder.chain or '-'} {place}"
    return f"{where}: {', '.join(holder.depends_on)}{unreachable}"


def by_name(path: Path) -> str:
    return path.name


def test_there_are_enough_rulesets() -> None:
    assert len(RULESETS) >= 60


@pytest.mark.parametrize("folder", RULESETS, ids=by_name)
def test_holders_are_those_that_a_person_named(folder: Path) -> None:
    expected = tomllib.loads((folder / "expected.toml").read_text())["holders"]
    found = holders(recorded(folder))
    assert sorted(map(shown, found)) == sorted(expected)


@pytest.mark.parametrize("folder", [path for path in RULESETS if (path / "nft_list_hooks").exists()], ids=by_name)
def test_the_kernel_agrees_on_the_families(folder: Path) -> None:
    held = held_families(holders(recorded(folder)))
    assert hooks.tracked_families(hooks.hooks((folder / "nft_list_hooks").read_text())) == held


@pytest.mark.parametrize("folder", [path for path in RULESETS if path.name.startswith("nft-")], ids=by_name)
def test_plain_text_alone_gives_the_same_as_json(folder: Path) -> None:
    both = recorded(folder)
    native = holders(replace(both, iptables_nft=None, ip6tables_nft=None))
    from_text = holders(Recorded(kernel=both.kernel, nft_text=both.nft_text))

    def told(found: tuple[Holder, ...]) -> set[tuple[object, ...]]:
        return {
            (one.family, one.table, one.chain, one.handle, one.reachable, one.families, one.depends_on) for one in found
        }

    if "iptables-table" not in folder.name:  # JSON has the name of an xtables extension, the text what it means
        assert told(from_text) == told(native)
    assert [one.handle for one in from_text] == [one.handle for one in native]


@pytest.mark.parametrize("folder", RULESETS, ids=by_name)
def test_every_rule_has_words_and_a_way_to_remove_it(folder: Path) -> None:
    for one in holders(recorded(folder)):
        assert one.rule
        assert one.families
        assert one.remove[0] in {"nft", "iptables-legacy", "ip6tables-legacy", "iptables-nft", "ip6tables-nft"}
        assert (one.remove[0] == "nft") == (one.number is None)
        assert ("--to-source" in one.remove) == ("--to-source" in one.rule)


def only(found: tuple[Holder, ...]) -> Holder:
    assert len(found) == 1
    return found[0]


def saved(*rules: str, table: str = "filter") -> str:
    return "\n".join((f"*{table}", ":INPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", *rules, "COMMIT", ""))


def test_a_rule_of_iptables_is_removed_by_its_own_words() -> None:
    text = saved('[7:420] -A INPUT -m comment --comment "say \\"-j SNAT\\" and it\\\'s" -m state --state NEW -j ACCEPT')
    one = only(holders(Recorded((6, 1), ip6tables_legacy=text)))
    comment = 'say "-j SNAT" and it\'s'
    spec = ("-m", "comment", "--comment", comment, "-m", "state", "--state", "NEW", "-j", "ACCEPT")
    assert one.remove == ("ip6tables-legacy", "-t", "filter", "-D", "INPUT", *spec)
    assert one.depends_on == ("-m state",)
    assert one.families == ("ip6",)


def test_what_iptables_cannot_find_by_words_goes_first_by_number() -> None:
    limit = "-A INPUT -p tcp -m connlimit --connlimit-above {} -j DROP"
    text = saved("-A INPUT -m state --state NEW -j ACCEPT", limit.format(1), "-A INPUT -j ACCEPT", limit.format(2))
    found = holders(Recorded((6, 1), iptables_legacy=text))
    assert [one.remove[5:] for one in found] == [("4",), ("2",), ("-m", "state", "--state", "NEW", "-j", "ACCEPT")]


def test_a_set_is_removed_with_the_rules_that_use_it() -> None:
    one = only(holders(recorded(GOLDEN / "rulesets" / "nft-set-counts")))
    rule = ("delete", "rule", "ip", "limits", "in", "handle", "3", ";")
    assert one.remove == ("nft", *rule, "delete", "set", "ip", "limits", "counted")


def test_what_uses_an_object_goes_with_the_first_that_needs_it_gone() -> None:
    """One rule uses both sets, and one map names both objects: none of them can be deleted twice."""
    state = recorded(GOLDEN / "rulesets" / "nft-objects-in-maps")
    for view in (state, replace(state, nft_json=None)):
        assert [" ".join(one.remove) for one in holders(view)] == [
            "nft delete rule ip shield input handle 9",
            "nft delete map ip shield by_port ; delete synproxy ip shield strict",
            "nft delete synproxy ip shield plain",
            "nft delete rule ip shield input handle 7 ; delete set ip shield sources",
            "nft delete set ip shield targets",
        ]


def test_a_set_whose_rule_has_no_handle_cannot_be_removed() -> None:
    text = (GOLDEN / "rulesets" / "nft-set-counts" / "nft.txt").read_text()
    without = re.sub(r" # handle \d+", "", text)
    assert only(holders(Recorded((6, 12), nft_text=without))).remove == ()


def test_a_rule_of_nft_is_removed_by_its_handle() -> None:
    folder = GOLDEN / "rulesets" / "nft-synproxy"
    rule, named, named6 = holders(recorded(folder))
    assert rule.remove == ("nft", "delete", "rule", "ip", "shield", "in", "handle", "3")
    assert rule.rule == "tcp dport 80 synproxy mss 1460 wscale 7 timestamp sack-perm"
    assert named.remove == ("nft", "delete", "synproxy", "ip", "shield", "named")
    assert (named.kind, named.reachable, named6.families) == ("object", None, ("ip6",))
    without_text = holders(replace(recorded(folder), nft_text=None))
    assert '"synproxy"' in without_text[0].rule


def test_without_handles_nothing_can_be_removed() -> None:
    text = "table ip t {\n\tchain c {\n\t\tct state new accept\n\t}\n}\n"
    one = only(holders(Recorded((6, 1), nft_text=text)))
    assert (one.handle, one.remove, one.reachable) == (None, (), False)


def test_a_ruleset_that_nft_prints_badly_still_has_its_holders() -> None:
    folder = GOLDEN / "rulesets" / "iptables-nft-masquerade"
    broken = replace(recorded(folder), nft_text='table ip nat {\n\tchain C {\n\t\tcomment "a " {" accept\n')
    assert [shown(one) for one in holders(broken)] == ["iptables-nft ip nat POSTROUTING 1: -j MASQUERADE"]


def test_rules_that_iptables_save_leaves_out_are_not_lost() -> None:
    """iptables-nft-save of some versions skips what it cannot express; nft sees it."""
    folder = GOLDEN / "rulesets" / "nft-in-iptables-table"
    partial = replace(recorded(folder), iptables_nft=saved("-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"))
    assert [one.handle for one in holders(partial)] == [2, 3]


BAD: dict[str, Recorded] = {
    "an error message": Recorded((6, 1), iptables_legacy="iptables-save: Permission denied\n"),
    "a table without COMMIT": Recorded((6, 1), iptables_nft="*nat\n:INPUT ACCEPT [0:0]\n"),
    "a rule before its table": Recorded((6, 1), iptables_nft="-A INPUT -j ACCEPT\n"),
    "not JSON": Recorded((6, 1), nft_json="Error: No such file\n"),
    "cut JSON": Recorded((6, 1), nft_json='{"nftables": [{"table": {"family": "ip"'),
    "other JSON": Recorded((6, 1), nft_json="[]"),
    "JSON of numbers": Recorded((6, 1), nft_json='{"nftables": [1, 2]}'),
    "a table without a name": Recorded((6, 1), nft_json='{"nftables": [{"table": {"family": "ip"}}]}'),
    "odd flags and names": Recorded(
        (6, 1), nft_json='{"nftables": [{"table": {"family": [], "name": {}, "flags": 1}}]}'
    ),
    "deep JSON": Recorded((6, 1), nft_json="[" * 100_000),
    "a cut list": Recorded((6, 1), nft_text="table ip t {\n\tchain c {\n"),
    "a cut rule": Recorded((6, 1), nft_text="table ip t {\n\tchain c {\n\t\ttcp dport { 1,\n"),
    "not a list": Recorded((6, 1), nft_text="Error: syntax error\n"),
    "modules": Recorded((6, 1), modules="nf_conntrack 1\n"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_text_of_no_such_program_is_refused(bad: Recorded) -> None:
    with pytest.raises(ValueError):
        holders(bad)


LOADED = (
    "nf_nat 57344 0 - Live 0x0\nnf_conntrack 204800 1 nf_nat, Live 0x0\nnf_defrag_ipv4 1 1 nf_conntrack, Live 0x0\n"
)
CONF = "# comment\noptions nf_conntrack hashsize=1024 enable_hooks=1\n"


def test_the_module_option() -> None:
    one = only(holders(Recorded((5, 10, 0), modprobe_conf=CONF, modules=LOADED)))
    assert (one.kind, one.backend) == ("option", "kernel")
    assert one.rule == "options nf_conntrack hashsize=1024 enable_hooks=1"
    assert one.families == ("ip", "ip6")
    assert one.remove == ("modprobe", "-r", "nf_nat", "nf_conntrack", "nf_defrag_ipv4")


@pytest.mark.parametrize(
    ("conf", "command_line", "holds"),
    [
        (CONF, None, True),
        ("options nf-conntrack \\\n  enable_hooks=Y\n", None, True),
        ("options nf_conntrack enable_hooks\n", None, True),
        ("options nf_conntrack enable_hooks=0\n", None, False),
        ("options nf_conntrack enable_hooks=1\noptions nf_conntrack enable_hooks=n\n", None, False),
        ("#options nf_conntrack enable_hooks=1\n", None, False),
        ("options nf_conntrack_ftp enable_hooks=1\nalias nf_conntrack off\n", None, False),
        (None, "quiet nf_conntrack.enable_hooks=1 panic=-1\n", True),
        (None, "nf-conntrack.enable_hooks=1", True),
        (None, "nf_conntrack.enable_hooks=0", False),
        ("options nf_conntrack enable_hooks=0\n", "nf_conntrack.enable_hooks=1", False),
        (None, None, False),
        ("", "", False),
    ],
)
def test_what_sets_the_option(conf: str | None, command_line: str | None, holds: bool) -> None:
    state = Recorded((6, 12), modprobe_conf=conf, kernel_command_line=command_line, modules=LOADED)
    assert bool(holders(state)) is holds


def test_the_option_counts_where_it_exists_and_the_module_is_loaded() -> None:
    state = Recorded((6, 12), modprobe_conf=CONF, modules=LOADED)
    assert holders(replace(state, kernel=(5, 0, 21))) == ()
    assert len(holders(replace(state, kernel=(5, 1)))) == 1
    assert holders(replace(state, modules="ext4 1 0 - Live 0x0\n")) == ()
    assert only(holders(replace(state, modules=None))).remove == (), "not recorded: cannot say what to unload"


MODULES_3_10 = (GOLDEN / "procfs" / "handwritten" / "modules.3.10").read_text()


def test_before_4_14_the_module_itself_holds() -> None:
    state = Recorded((3, 10, 0), modules=MODULES_3_10)
    one = only(holders(state))
    assert (one.kind, one.rule, one.families, one.reachable) == ("module", "nf_conntrack_ipv4", ("ip",), None)
    assert one.remove == (
        "modprobe", "-r", "ipt_MASQUERADE", "iptable_nat", "nf_nat_ipv4", "nf_nat", "nf_conntrack_ipv4", "nf_conntrack",
        "nf_defrag_ipv4",
    )  # fmt: skip
    assert len(holders(replace(state, kernel=(4, 13, 16)))) == 1
    assert holders(replace(state, kernel=(4, 14))) == ()
    assert holders(replace(state, modules="nf_conntrack 1 0 - Live 0x0\n")) == (), "the core attaches nothing"


def test_before_4_14_rules_come_first_for_they_hold_the_modules() -> None:
    state = Recorded((3, 10), iptables_legacy=saved("-A INPUT -m state --state NEW -j ACCEPT"), modules=MODULES_3_10)
    assert [one.kind for one in holders(state)] == ["rule", "module"]


def test_the_oldest_module_loaded_first_is_unloaded_last() -> None:
    """nf_conntrack_ipv4 is requested while iptable_nat is still loading, so the list alone would have it first."""
    text = "\n".join(
        f"{name} 1 {uses} {users} Live 0x0"
        for name, uses, users in (
            ("nf_conntrack_ipv4", 1, "-"),
            ("iptable_nat", 0, "-"),
            ("nf_nat_ipv4", 1, "iptable_nat,"),
            ("nf_nat", 1, "nf_nat_ipv4,"),
            ("nf_conntrack", 3, "nf_conntrack_ipv4,nf_nat_ipv4,nf_nat,"),
            ("my_own_tracker", 0, "-"),
            ("nf_defrag_ipv4", 2, "nf_conntrack_ipv4,my_own_tracker,"),
        )
    )
    one = only(holders(Recorded((3, 10), modules=text + "\n")))
    assert one.remove[2:] == (
        "my_own_tracker", "iptable_nat", "nf_nat_ipv4", "nf_nat", "nf_conntrack_ipv4", "nf_conntrack", "nf_defrag_ipv4",
    )  # fmt: skip


@pytest.mark.parametrize("kernel", ["5.10-debian11", "6.1-debian12", "6.12-debian13", "7.2-forky"])
@pytest.mark.parametrize("state", ["attached", "nft"])
def test_unloading_never_comes_before_a_user(kernel: str, state: str) -> None:
    text = (GOLDEN / "procfs" / kernel / state / "modules").read_text()
    order = only(holders(Recorded((6, 1), modprobe_conf=CONF, modules=text))).remove[2:]
    users = {module.name: module.users for module in conntrack.modules(text)}
    for place, name in enumerate(order):
        assert not set(users[name]) & set(order[place:])
        assert set(users[name]) <= set(order)


def test_where_modules_hold_the_chains_of_type_nat_go_first() -> None:
    """They keep nft_chain_nat in use, whoever made them; rules that need no conntrack go with their chain."""
    state = recorded(GOLDEN / "rulesets" / "iptables-nft-masquerade")
    body = "\t\ttype nat hook prerouting priority 0; policy accept;\n\t\taccept # handle 2\n"
    text = f"table ip mine {{\n\tchain pre {{\n{body}\t}}\n}}\n"
    views = (
        replace(state, modprobe_conf=CONF, modules=LOADED),
        replace(state, modprobe_conf=CONF, modules=LOADED, nft_json=None),
        Recorded((6, 12), nft_text=text, modprobe_conf=CONF, modules=LOADED),
        Recorded((3, 18), nft_text=text, modules="nf_conntrack_ipv4 1 0 - Live 0x0\n"),
    )
    chain = "nft delete chain ip nat POSTROUTING"
    mine = "nft flush chain ip mine pre ; delete chain ip mine pre"
    for view, expected in zip(views, (chain, chain, mine, mine), strict=True):
        *_, found, last = holders(view)
        assert (found.kind, found.depends_on, found.families) == ("object", ("type nat",), ())
        assert " ".join(found.remove) == expected
        assert last.remove[:2] == ("modprobe", "-r")
        assert held_families((found,)) == frozenset()
    assert holders(Recorded((6, 12), nft_text=text, modules=LOADED)) == (), "where rules hold, they hold nothing"


@pytest.mark.parametrize(
    "row", ["nf_conntrack 1 0 [permanent], Live 0x0", "nf_conntrack 1 - - Live 0x0", "user 1 0 [permanent], Live 0x0"]
)
def test_what_cannot_be_unloaded_has_no_command(row: str) -> None:
    """A module without an exit function, or a kernel that unloads none, or such a user of one of conntrack's."""
    names = {"nf_conntrack_ipv4", "nf_conntrack", "user"} - {row.split()[0]}
    text = "".join(f"{name} 1 0 - Live 0x0\n" for name in sorted(names))
    text = text.replace("nf_conntrack_ipv4 1 0 -", "nf_conntrack_ipv4 1 1 user,") + f"{row}\n"
    assert only(holders(Recorded((3, 10), modules=text))).remove == ()
    assert only(holders(Recorded((3, 10), modules=text.replace(row, row.split()[0] + " 1 0 - Live 0x0")))).remove


def test_nothing_recorded_holds_nothing() -> None:
    assert holders(Recorded((6, 12))) == ()
    assert held_families(()) == frozenset()


chain_names = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=2, max_size=5, unique=True)


@settings(deadline=None)
@given(names=chain_names, data=st.data())
def test_a_rule_holds_whether_it_is_reachable_or_not(names: list[str], data: st.DataObject) -> None:
    """Whatever jumps to whatever: the holder is there, and its chain is reachable when a path of jumps leads to it."""
    jumps = data.draw(st.lists(st.tuples(st.sampled_from(["INPUT", *names]), st.sampled_from(names)), max_size=8))
    target = names[0]
    lines = [f":{name} - [0:0]" for name in names]
    lines += [f"-A {source} -j {destination}" for source, destination in jumps]
    text = saved(*lines, f"-A {target} -m conntrack --ctstate NEW -j ACCEPT")
    reached = {"INPUT", "OUTPUT"}
    for _ in range(len(names) + 1):
        reached |= {destination for source, destination in jumps if source in reached}
    one = only(holders(Recorded((6, 1), iptables_legacy=text)))
    assert one.reachable is (target in reached)


@pytest.mark.parametrize("brackets", ["}", "}}", "}}}}}"])
def test_more_brackets_closed_than_opened_are_named_with_their_line(brackets: str) -> None:
    text = f"table ip nat {{ # handle 2\n\tchain {brackets}POSTROUTING {{ # handle 1\n\t}}\n}}\n}}\n"
    with pytest.raises(ValueError, match=r"nft line [2-5]: "):
        holders(Recorded((6, 1), nft_text=text))


@settings(deadline=None)
@given(st.sampled_from([path for path in RULESETS if path.name.startswith("nft-")]), st.data())
def test_a_cut_text_is_refused_or_read_but_never_invents(folder: Path, data: st.DataObject) -> None:
    state = recorded(folder)
    whole = {shown(one) for one in holders(Recorded(state.kernel, nft_text=state.nft_text))}
    text = state.nft_text or ""
    cut = data.draw(st.integers(0, len(text)))
    try:
        part = holders(Recorded(state.kernel, nft_text=text[:cut]))
    except ValueError:
        return
    # a chain's jumps may be missing, never a rule be added
    assert {re.sub(r" \(unreachable\)$", "", shown(one)) for one in part} <= {
        re.sub(r" \(unreachable\)$", "", name) for name in whole
    }


def test_a_tracker_that_is_built_in_holds_before_4_14_and_nothing_removes_it() -> None:
    texts = {"modules": "ext4 1 0 - Live 0x0\n", "known_modules": "nf_conntrack\nnf_conntrack_ipv4\n"}
    (one,) = holders(Recorded((4, 9), **texts))
    assert (one.rule, one.families, one.remove) == ("nf_conntrack_ipv4", ("ip",), ())
    assert "built into the kernel" in one.advice
    assert holders(Recorded((4, 14), **texts)) == ()
    assert holders(Recorded((4, 9), known_modules="nf_conntrack_ipv4\n")) == (), "loaded or not"
    loaded = {**texts, "modules": "nf_conntrack_ipv4 1 0 - Live 0x0\n"}
    assert len(holders(Recorded((4, 9), **loaded))) == 1
