"""From scenarios to cells, and from a cell to what its guest is told."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.errors import ScenarioError
from lab.core.plan import (
    Cell,
    CellPlan,
    Overrides,
    Variant,
    cells,
    describe,
    describe_load,
    memory_needed_mb,
    open_at_once,
    parse_chosen,
    plan_cell,
    reachable_connections,
    requirement,
    select_variants,
    variants,
)
from lab.core.scenario import LoadSpec, Scenario, parse_scenario, scenario_digest
from lab.core.scenario.condition import Requirement

SCENARIO = """
version = 1
name = "NAME"
summary = "Is it?"
[matrix]
iptables = ["legacy", "nft"]
size = [64, 1000]
[[state]]
run = ["{iptables}", "--comment", "a b", "--flush"]
[[state]]
when = { iptables = "nft" }
run = ["nft", "add table x {{ }}"]
refused = true
[[state]]
file = { path = "/etc/{size}.conf", text = "one {size}\\ntwo\\u001b\\n" }
[[state]]
sysctl = { "net.core.somaxconn" = "{size}" }
[[state]]
unload = ["iptable_nat", "nf_nat"]
[machine]
boot_args = ["lab.size={size}"]
[conntrack]
max = 100
buckets = 64
timeouts = { udp_stream = 5, tcp_established = 54000 }
[load]
connections = 300
"""


def scenario(name: str = "flushed", text: str = SCENARIO) -> Scenario:
    return parse_scenario(text.replace("NAME", name), f"dir/{name}.toml")


def plain(name: str, **changes: object) -> Scenario:
    parsed = parse_scenario(f'version = 1\nname = "{name}"\nsummary = "Is it?"\n', f"dir/{name}.toml")
    return dataclasses.replace(parsed, **changes)  # type: ignore[arg-type]


def plan_of(iptables: str = "nft", **options: object) -> CellPlan:
    (variant,) = variants(scenario(), {"iptables": [iptables], "size": ["64"]})
    return plan_cell(Cell(variant, "debian12"), **options)  # type: ignore[arg-type]


# -- variants


def test_variants_are_all_combinations_in_the_order_of_the_file() -> None:
    assert [variant.name for variant in variants(scenario())] == [
        "flushed,iptables=legacy,size=64",
        "flushed,iptables=legacy,size=1000",
        "flushed,iptables=nft,size=64",
        "flushed,iptables=nft,size=1000",
    ]


def test_a_scenario_without_axes_has_one_variant_of_its_own_name() -> None:
    assert [variant.name for variant in variants(plain("pristine"))] == ["pristine"]


def test_chosen_values_thin_out_variants_and_keep_scenarios_without_the_axis() -> None:
    chosen = parse_chosen(["iptables=nft", "size=64", "size=1000"])
    selected = select_variants([scenario(), plain("pristine")], chosen)
    assert [one.name for one in selected] == [
        "flushed,iptables=nft,size=64",
        "flushed,iptables=nft,size=1000",
        "pristine",
    ]


@pytest.mark.parametrize(
    ("chosen", "message", "hint"),
    [
        (["iptable=nft"], "--set iptable: no scenario asked for has this axis", "did you mean 'iptables'?"),
        (["iptables=ntf"], "--set iptables=ntf: no scenario asked for has this value", "did you mean 'nft'?"),
        (["size=65"], "--set size=65: no scenario asked for has this value", "64"),
    ],
)
def test_axes_and_values_that_nobody_has(chosen: list[str], message: str, hint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        select_variants([scenario(), plain("pristine")], parse_chosen(chosen))
    assert str(caught.value) == message
    assert hint in caught.value.hint


def test_values_that_no_single_variant_has_together() -> None:
    only_nft = plain("one", matrix={"iptables": ("nft",), "size": (1,)})
    only_legacy = plain("two", matrix={"iptables": ("legacy",), "size": (2,)})
    with pytest.raises(ScenarioError, match="no variant has all of these"):
        select_variants([only_nft, only_legacy], parse_chosen(["iptables=nft", "size=2"]))


@pytest.mark.parametrize("text", ["", "iptables", "=nft", "iptables=", "="])
def test_what_is_no_choice(text: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_chosen([text])
    assert "not of the form axis=value" in str(caught.value)
    assert caught.value.hint == "for example --set iptables=nft"


def test_a_value_may_have_an_equals_sign_for_all_the_parser_cares() -> None:
    assert parse_chosen(["a=b=c", "a=d"]) == {"a": ("b=c", "d")}


_values = st.one_of(st.integers(0, 99), st.from_regex(r"[a-z0-9][a-z.-]{0,5}", fullmatch=True))
_axes = st.dictionaries(st.sampled_from(["a", "b", "c"]), _values, max_size=3)
_names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True)


@given(_names, _axes, _names, _axes)
def test_different_variants_have_different_names(
    name: str, axes: dict[str, str | int], other: str, others: dict[str, str | int]
) -> None:
    one, two = Variant(plain(name), axes), Variant(plain(other), others)
    texts = [(name, [(axis, str(value)) for axis, value in axes.items()])]
    same = texts == [(other, [(axis, str(value)) for axis, value in others.items()])]
    assert (one.name == two.name) is same


# -- cells


def test_a_targets_cells_stand_together() -> None:
    names = [cell.name for cell in cells([Variant(plain("a")), Variant(plain("b"))], ["debian12", "debian13"], 2)]
    assert names == [
        "a@debian12",
        "a@debian12-r2",
        "b@debian12",
        "b@debian12-r2",
        "a@debian13",
        "a@debian13-r2",
        "b@debian13",
        "b@debian13-r2",
    ]


@pytest.mark.parametrize("repeat", [0, -1])
def test_no_repeats(repeat: int) -> None:
    with pytest.raises(ScenarioError, match="must be 1 to 10000"):
        cells([Variant(plain("a"))], ["debian12"], repeat)


@given(st.text(max_size=300), st.text(max_size=300), st.integers(1, 99), st.integers(1, 99))
def test_any_target_gives_a_safe_folder_and_each_its_own(one: str, two: str, first: int, second: int) -> None:
    axes = {"a" * 32: "b" * 32, "c" * 15: "d" * 17}
    variant = Variant(plain("n" * 64), axes)
    names = [Cell(variant, target, repeat).name for target, repeat in ((one, first), (two, second))]
    assert all(len(name) <= 200 and re.fullmatch(r"[A-Za-z0-9.,=+_@-]+", name) for name in names)
    assert (names[0] == names[1]) is ((one, first) == (two, second))


def test_a_target_that_looks_like_a_repeat_is_none() -> None:
    variant = Variant(plain("a"))
    assert Cell(variant, "debian12-r2").name != Cell(variant, "debian12", 2).name


def test_a_kernels_path_is_made_fit_for_a_folder() -> None:
    name = Cell(Variant(plain("a")), "debian12+kernel:/boot/vmlinuz-4.10").name
    assert re.fullmatch(r"a@debian12\+kernel_boot_vmlinuz-4\.10-[0-9a-f]{8}", name)


# -- plans


def test_a_plan_has_every_value_filled_in() -> None:
    assert plan_of("nft").to_json() == {
        "schema_version": 1,
        "cell": "flushed,iptables=nft,size=64@debian12",
        "scenario": "flushed",
        "scenario_digest": scenario_digest(scenario()),
        "variant": "flushed,iptables=nft,size=64",
        "axes": {"iptables": "nft", "size": 64},
        "target": "debian12",
        "repeat": 1,
        "machine": {"boot_args": ["lab.size=64"], "memory_mb": 1536, "vcpus": 2, "path": "loopback"},
        "steps": [
            {
                "key": "state[0]",
                "kind": "run",
                "argv": ["iptables-nft", "--comment", "a b", "--flush"],
                "refused": False,
            },
            {"key": "state[1]", "kind": "run", "argv": ["nft", "add table x { }"], "refused": True},
            {"key": "state[2]", "kind": "file", "path": "/etc/64.conf", "text": "one 64\ntwo\x1b\n"},
            {"key": "state[3]", "kind": "sysctl", "values": {"net.core.somaxconn": "64"}},
            {"key": "state[4]", "kind": "unload", "modules": ["iptable_nat", "nf_nat"]},
        ],
        "settings": {
            "/sys/module/nf_conntrack/parameters/hashsize": 64,
            "net.netfilter.nf_conntrack_max": 100,
            "net.netfilter.nf_conntrack_udp_timeout_stream": 5,
            "net.netfilter.nf_conntrack_tcp_timeout_established": 54000,
        },
        "max": 100,
        "load": {"kind": "hold", "connections": 300},
    }


def test_a_plan_goes_through_json_unchanged() -> None:
    plan = plan_of().to_json()
    assert json.loads(json.dumps(plan)) == plan


def test_steps_for_other_values_are_left_out_and_keep_their_places_key() -> None:
    assert [step.key for step in plan_of("legacy").steps] == ["state[0]", "state[2]", "state[3]", "state[4]"]


def test_programs_are_those_that_the_variant_runs() -> None:
    assert plan_of("nft").programs == ("iptables-nft", "nft")
    assert plan_of("legacy").programs == ("iptables-legacy",)


def test_a_table_without_a_size_is_left_as_it_is() -> None:
    plan = plan_cell(Cell(Variant(plain("a")), "debian12"))
    assert plan.settings == {}
    assert plan.to_json()["max"] is None


def test_the_command_line_has_the_last_word() -> None:
    plan = plan_of(overrides=Overrides(connections=7, max=5))
    assert (plan.load.connections, plan.conntrack.max) == (7, 5)
    assert plan.settings["net.netfilter.nf_conntrack_max"] == 5
    assert plan.scenario_digest == scenario_digest(scenario())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (Overrides(connections=0), "--connections: is 0, must be 1 to 2147483647"),
        (Overrides(connections=-5), "--connections: is -5, must be"),
        (Overrides(max=0), "--max: is 0, must be"),
        (Overrides(max=2**31), "--max: is 2147483648, must be"),
    ],
)
def test_overrides_that_are_not_positive(overrides: Overrides, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        plan_of(overrides=overrides)
    assert str(caught.value).startswith(message)
    assert caught.value.hint


LOADS = {
    "hold": (LoadSpec("hold", 20_000), 20_000),
    "churn at a rate": (LoadSpec("churn", 20_000, rate_per_second=500, hold_seconds=0.5), 251),
    "churn of few": (LoadSpec("churn", 20, rate_per_second=500, hold_seconds=0.5), 20),
    "churn as fast as it goes": (LoadSpec("churn", 20_000), 20_000),
    "half-open": (LoadSpec("half-open", 20_000), 0),
    "udp with newcomers": (LoadSpec("udp", 20_000, newcomers=200), 200),
}


@pytest.mark.parametrize("name", LOADS)
def test_how_many_connections_a_load_has_open_at_once(name: str) -> None:
    load, count = LOADS[name]
    assert open_at_once(load) == count


def test_a_flood_needs_no_memory_for_its_connections() -> None:
    assert (
        plan_cell(Cell(Variant(plain("x", load=LoadSpec("udp", 2_000_000))), "debian12")).load.connections == 2_000_000
    )


def test_a_load_in_words() -> None:
    load = LoadSpec("churn", 5000, rate_per_second=500, hold_seconds=0.5, close="vanish")
    assert describe_load(load) == "churn 5000 connections, 500 per second, each for 0.5 s, ended by vanish"
    assert describe_load(LoadSpec("udp", 7, newcomers=2)) == "udp 7 connections, then 2 newcomers over TCP"


@pytest.mark.parametrize(
    ("axes", "stated", "backends"),
    [
        ({}, (), ()),
        ({"iptables": "nft"}, (), ("nft",)),
        ({"iptables": "nft"}, ("nft", "legacy"), ("nft", "legacy")),
        ({"iptables": "legacy"}, ("nft",), ("nft", "legacy")),
    ],
)
def test_the_axis_of_the_backend_requires_it(
    axes: dict[str, str], stated: tuple[str, ...], backends: tuple[str, ...]
) -> None:
    variant = Variant(plain("x", requires=Requirement(modules=("veth",), backends=stated)), axes)
    assert requirement(variant) == Requirement(modules=("veth",), backends=backends)


def test_a_count_that_cannot_be_reached_names_the_one_that_can() -> None:
    reachable = reachable_connections(1536)
    with pytest.raises(ScenarioError) as caught:
        plan_of(overrides=Overrides(connections=2_000_000))
    assert str(caught.value) == (
        f"dir/flushed.toml: --connections: is 2000000, at most {reachable} can be reached in a machine of 1536 MB"
    )
    assert caught.value.hint == (
        f"ask for at most {reachable}, or set machine.memory_mb = {memory_needed_mb(2_000_000)}"
    )
    assert plan_of(overrides=Overrides(connections=reachable)).load.connections == reachable


def test_a_count_of_the_file_itself_names_its_key() -> None:
    text = SCENARIO.replace("connections = 300", "connections = 500000")
    (variant, *_) = variants(scenario(text=text))
    with pytest.raises(ScenarioError, match=r"dir/flushed\.toml: load\.connections: is 500000, at most "):
        plan_cell(Cell(variant, "debian12"))


def test_memory_does_not_help_where_files_are_short() -> None:
    with pytest.raises(ScenarioError) as caught:
        plan_of(max_files=1224, overrides=Overrides(connections=101))
    assert caught.value.hint == "ask for at most 100"


def test_a_machine_too_small_for_anything() -> None:
    text = SCENARIO.replace("[machine]", "[machine]\nmemory_mb = 100")
    (variant, *_) = variants(scenario(text=text))
    with pytest.raises(ScenarioError) as caught:
        plan_cell(Cell(variant, "debian12"))
    assert "at most 0 can be reached in a machine of 100 MB" in str(caught.value)
    assert caught.value.hint == f"set machine.memory_mb = {memory_needed_mb(300)}"


@given(st.integers(0, 10**7))
def test_the_memory_that_is_named_is_the_least_that_is_enough(connections: int) -> None:
    needed = memory_needed_mb(connections)
    assert reachable_connections(needed) >= connections
    assert connections == 0 or reachable_connections(needed - 1) < connections


@given(st.integers(0, 10**6), st.one_of(st.none(), st.integers(0, 10**7)))
def test_what_is_reachable_is_never_negative_and_files_only_lower_it(memory_mb: int, max_files: int | None) -> None:
    assert 0 <= reachable_connections(memory_mb, max_files) <= reachable_connections(memory_mb)


# -- what --dry-run shows


def test_a_plan_is_described_line_by_line() -> None:
    assert describe(plan_of("nft")) == (
        "flushed,iptables=nft,size=64@debian12",
        "  machine: 1536 MB, 2 vCPUs, boot arguments lab.size=64",
        "  state[0]: run iptables-nft --comment 'a b' --flush",
        "  state[1]: run nft 'add table x { }' (must be refused)",
        "  state[2]: write /etc/64.conf",
        "    | one 64",
        r"    | two\x1b",
        "  state[3]: sysctl net.core.somaxconn=64",
        "  state[4]: unload, where loaded: iptable_nat nf_nat",
        "  set, where it exists: /sys/module/nf_conntrack/parameters/hashsize = 64",
        "  set, where it exists: net.netfilter.nf_conntrack_max = 100",
        "  set, where it exists: net.netfilter.nf_conntrack_udp_timeout_stream = 5",
        "  set, where it exists: net.netfilter.nf_conntrack_tcp_timeout_established = 54000",
        "  load: hold 300 connections",
    )


@given(st.text(max_size=30))
def test_nothing_that_a_file_says_steers_the_terminal(text: str) -> None:
    body = "".join(f"\\U{ord(char):08x}" for char in text if char not in "{}\0")
    toml = f'version = 1\nname = "a"\nsummary = "s"\n[[state]]\nrun = ["x", "{body}"]\n'
    plan = plan_cell(Cell(Variant(parse_scenario(toml, "a.toml")), "debian12"))
    assert all(line.isprintable() for line in describe(plan))
