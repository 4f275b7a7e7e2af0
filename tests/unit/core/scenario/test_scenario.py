"""Scenario files: what a good one means, and what a bad one is told."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core import scenario as module
from lab.core.errors import ScenarioError
from lab.core.kernel.version import parse_version_spec
from lab.core.scenario import (
    LOAD_KINDS,
    TIMEOUT_SYSCTLS,
    ConntrackSpec,
    FileStep,
    LoadSpec,
    MachineSpec,
    RunStep,
    Scenario,
    SysctlStep,
    UnloadStep,
    did_you_mean,
    parse_scenario,
    placeholder_values,
    scenario_digest,
    with_sources,
)
from lab.core.scenario.condition import Condition, ConfigSpec, Requirement
from lab.core.scenario.expectation import FINDINGS, Expectation
from lab.core.scenario.template import substitute, verbatim
from lab.host.scenario_files import find_scenarios, load_scenario, load_scenarios, scenario_directories, scenarios_in
from tests import ROOT

HEAD = 'version = 1\nname = "x"\nsummary = "Is it?"\n'
SCHEMA = json.loads((ROOT / "lab/schemas/scenario.schema.json").read_text(encoding="utf-8"))

FULL = (
    HEAD
    + """
[matrix]
iptables = ["legacy", "nft"]
size = [64, 1000]
[[state]]
run = ["{ip6tables}", "--flush"]
[[state]]
run = ["modprobe", "-r", "x"]
refused = true
when = { iptables = "nft", size = 64 }
[[state]]
file = { path = "/etc/{iptables}-{size}.conf", text = "table {{ }}\\n" }
[[state]]
sysctl = { "net.ipv4.tcp_syncookies" = 0, "net.core.somaxconn" = "{size}" }
[[state]]
unload = ["iptable_nat", "nf_nat"]
[machine]
boot_args = ["module_blacklist=nf_conntrack", "size={size}"]
memory_mb = 2048
vcpus = 4
topology = "netns"
[conntrack]
max = 100
buckets = 64
timeouts = { tcp_established = 54000, udp = 10 }
[load]
kind = "churn"
connections = 7
rate_per_second = 500
hold_seconds = 0.5
close = "vanish"
[requires]
kernel = ">=3.18"
config = ["NF_CONNTRACK=m"]
modules = ["veth", "nft-chain-nat"]
loadable = ["nf_conntrack"]
backends = ["legacy"]
[[expect]]
kernel = ">=5.1,<6.2"
target = "debian*"
iptables_version = ">=1.8.8"
nft_version = "<2.0"
config = ["CONFIG_NF_TABLES=m|y", "NF_NAT=n"]
iptables = "nft"
size = 64
finding = "evicted"
because = "so it is"
[[expect]]
finding = "untracked"
"""
)


def parse(text: str) -> Scenario:
    return parse_scenario(text, "dir/x.toml")


def test_everything_a_file_can_say() -> None:
    assert parse(FULL) == Scenario(
        path="dir/x.toml",
        name="x",
        summary="Is it?",
        version=1,
        matrix={"iptables": ("legacy", "nft"), "size": (64, 1000)},
        state=(
            RunStep(("{ip6tables}", "--flush")),
            RunStep(("modprobe", "-r", "x"), refused=True, when={"iptables": "nft", "size": 64}),
            FileStep("/etc/{iptables}-{size}.conf", "table {{ }}\n"),
            SysctlStep((("net.ipv4.tcp_syncookies", "0"), ("net.core.somaxconn", "{size}"))),
            UnloadStep(("iptable_nat", "nf_nat")),
        ),
        machine=MachineSpec(("module_blacklist=nf_conntrack", "size={size}"), memory_mb=2048, vcpus=4, path="forward"),
        conntrack=ConntrackSpec(max=100, buckets=64, timeouts={"tcp_established": 54000, "udp": 10}),
        load=LoadSpec("churn", 7, rate_per_second=500, hold_seconds=0.5, close="vanish"),
        requires=Requirement(
            Condition(kernel=parse_version_spec(">=3.18"), config=(ConfigSpec("NF_CONNTRACK", ("m",)),)),
            modules=("veth", "nft_chain_nat"),
            loadable=("nf_conntrack",),
            backends=("legacy",),
        ),
        expectations=(
            Expectation(
                "evicted",
                "so it is",
                Condition(
                    kernel=parse_version_spec(">=5.1,<6.2"),
                    target="debian*",
                    iptables_version=parse_version_spec(">=1.8.8"),
                    nft_version=parse_version_spec("<2.0"),
                    config=(ConfigSpec("NF_TABLES", ("m", "y")), ConfigSpec("NF_NAT", ("n",))),
                ),
                {"iptables": "nft", "size": 64},
            ),
            Expectation("untracked"),
        ),
    )


def test_what_a_file_leaves_out() -> None:
    scenario = parse(HEAD)
    assert scenario.machine == MachineSpec((), memory_mb=1536, vcpus=2)
    assert scenario.conntrack == ConntrackSpec(max=None, buckets=None, timeouts={})
    assert scenario.load == LoadSpec("hold", 20_000)
    assert (scenario.matrix, scenario.state, scenario.expectations) == ({}, (), ())


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm() -> None:
    assert parse("\ufeff" + HEAD.replace("\n", "\r\n")) == parse(HEAD)


def test_scenarios_can_be_keys() -> None:
    assert len({parse(FULL), parse(FULL), parse(HEAD)}) == 2


STATE = "[[state]]\n"
MATRIX = '[matrix]\niptables = ["legacy", "nft"]\nsize = [64, 1000]\n'

# text after HEAD; the key in the message; parts of the message; parts of the hint
BAD = {
    "unknown key at the top": ("sumary = 1", "sumary", "unknown key", "did you mean 'summary'?"),
    "unknown key far from any": ("[zzzzzz]", "zzzzzz", "unknown key", "known are: version"),
    "unknown key in a table": ("[load]\nconections = 5", "load.conections", "unknown key", "'connections'"),
    "unknown key in a step": (STATE + "rum = ['true']", "state[0].rum", "unknown key", "'run'"),
    "unknown key in a file": (
        STATE + "file = { path = '/x', text = '', mode = 1 }",
        "state[0].file.mode",
        "unknown key",
        "known are: path, source, text",
    ),
    "unknown key that is no bare key": ('"a\\nb" = 1', '"a\\nb"', "unknown key", "known are"),
    "unknown timeout": (
        "[conntrack]\ntimeouts = { tcp_etablished = 1 }",
        "conntrack.timeouts.tcp_etablished",
        "unknown timeout",
        "'tcp_established'",
    ),
    "a load's key that another kind has": (
        "[load]\nkind = 'hold'\nrate_per_second = 5",
        "load.rate_per_second",
        "means nothing to a load of the kind 'hold'",
        '"churn"',
    ),
    "an end that no connection has": ("[load]\nkind = 'churn'\nclose = 'rst'", "load.close", "must be one of", "reset"),
    "a time below zero": (
        "[load]\nkind = 'churn'\nhold_seconds = -1",
        "load.hold_seconds",
        "must be 0 to 3600",
        "3600",
    ),
    "a time that is no number": (
        "[load]\nkind = 'churn'\nhold_seconds = true",
        "load.hold_seconds",
        "a number of seconds",
        "0.5",
    ),
    "a topology that there is not": ("[machine]\ntopology = 'ring'", "machine.topology", "must be one of", "netns"),
    "an option without a value": (
        "[requires]\nconfig = ['NF_NAT']",
        "requires.config[0]",
        "no option with a value",
        "=m",
    ),
    "a module that is none": ("[requires]\nmodules = ['a b']", "requires.modules[0]", "no name of a module", "letters"),
    "a backend that there is not": ("[requires]\nbackends = ['ipfw']", "requires.backends", "must be of", "legacy"),
    "a version that is none": ("[requires]\nnft_version = 'new'", "requires.nft_version", "no comparison", "<4.14"),
    "unknown key in requires": ("[requires]\nmodule = ['x']", "requires.module", "unknown key", "'modules'"),
    "unknown axis in when": (
        MATRIX + STATE + "run = ['true']\nwhen = { iptable = 'nft' }",
        "state[0].when.iptable",
        "unknown axis",
        "'iptables'",
    ),
    "axis in when without a matrix": (
        STATE + "run = ['true']\nwhen = { iptables = 'nft' }",
        "state[0].when.iptables",
        "unknown axis",
        "none are known",
    ),
    "unknown axis in expect": (
        MATRIX + "[[expect]]\niptable = 'nft'\nfinding = 'tracked'",
        "expect[0].iptable",
        "unknown key or axis",
        "'iptables'",
    ),
    "value that the axis lacks": (
        MATRIX + "[[expect]]\niptables = 'ntf'\nfinding = 'tracked'",
        "expect[0].iptables",
        'is the text "ntf", must be one of "legacy", "nft"',
        "'nft'",
    ),
    "number axis given as text": (
        MATRIX + STATE + "run = ['true']\nwhen = { size = '64' }",
        "state[0].when.size",
        'is the text "64", must be one of 64, 1000',
        "64",
    ),
    "true for the number 1": (
        "[matrix]\nsize = [1]\n[[expect]]\nsize = true\nfinding = 'tracked'",
        "expect[0].size",
        "is true, must be one of 1",
        "1",
    ),
    "text for a number": (
        "[load]\nconnections = '5'",
        "load.connections",
        'is the text "5", must be a whole',
        "= 20000",
    ),
    "fraction for a number": ("[conntrack]\nmax = 1.5", "conntrack.max", "a number with a fraction", "max = 100"),
    "bool for a number": ("[conntrack]\nmax = true", "conntrack.max", "is true, must be a whole number", "max = 100"),
    "date for a number": ("[conntrack]\nmax = 2026-11-20", "conntrack.max", "a date or time", "max = 100"),
    "number for a text": ("[load]\nkind = 5", "load.kind", "is the number 5, must be text", 'kind = "..."'),
    "table for a list": ("[matrix]\nsize = {}", "matrix.size", "is a table, must be a list", "size = [...]"),
    "text for a list": (STATE + "run = 'true'", "state[0].run", 'is the text "true", must be a list', "run = [...]"),
    "number in argv": (STATE + "run = ['sleep', 5]", "state[0].run[1]", "is the number 5, must be text", "quotes"),
    "text for a table": ("machine = 'big'", "machine", "must be a table", "[machine]"),
    "list for a table": (STATE + "file = []", "state[0].file", "is a list, must be a table", "file = {"),
    "table for a list of tables": (
        "[state]\nrun = ['true']",
        "state",
        "is a table, must be a list of tables",
        "[[state]]",
    ),
    "text for a step": ("state = ['true']", "state[0]", 'is the text "true", must be a table', "[[state]]"),
    "text for a flag": (
        STATE + "run = ['true']\nrefused = 'yes'",
        "state[0].refused",
        "true or false",
        "refused = true",
    ),
    "zero": ("[load]\nconnections = 0", "load.connections", "is the number 0, must be 1 to", "1 to 2147483647"),
    "negative": ("[conntrack]\nmax = -1", "conntrack.max", "is the number -1, must be 1 to", "1 to 2147483647"),
    "negative timeout": ("[conntrack]\ntimeouts.udp = -1", "conntrack.timeouts.udp", "must be 1 to", "1 to"),
    "zero buckets": ("[conntrack]\nbuckets = 0", "conntrack.buckets", "must be 1 to", "1 to"),
    "zero memory": ("[machine]\nmemory_mb = 0", "machine.memory_mb", "must be 1 to 1048576", "1 to"),
    "too many processors": ("[machine]\nvcpus = 65", "machine.vcpus", "must be 1 to 64", "1 to 64"),
    "more than the kernel's int": ("[conntrack]\nmax = 2147483648", "conntrack.max", "must be 1 to", "2147483647"),
    "hex number without end": (f"[conntrack]\nmax = 0x{'f' * 9000}", "conntrack.max", "an enormous number", "1 to"),
    "boot argument with a space": ("[machine]\nboot_args = ['a b']", "machine.boot_args[0]", '"a b"', "of its own"),
    "empty boot argument": ("[machine]\nboot_args = ['']", "machine.boot_args[0]", '""', "of its own"),
    "unknown kind of load": ("[load]\nkind = 'hodl'", "load.kind", '"hodl"', "'hold'"),
    "unknown finding": ("[[expect]]\nfinding = 'table_full'", "expect[0].finding", "no finding", "'table-full'"),
    "no finding": ("[[expect]]\nkernel = '<4.14'", "expect[0].finding", "is missing", "add: finding"),
    "bad kernel spec": (
        "[[expect]]\nkernel = '4.14'\nfinding = 'tracked'",
        "expect[0].kernel",
        "no comparison stands before '4.14'",
        "'<4.14'",
    ),
    "empty kernel spec": (
        "[[expect]]\nkernel = ''\nfinding = 'tracked'",
        "expect[0].kernel",
        "no comparison",
        "'<4.14'",
    ),
    "kernel as a number": (
        "[[expect]]\nkernel = 4.14\nfinding = 'tracked'",
        "expect[0].kernel",
        "a number with a fraction, must be text",
        "kernel =",
    ),
    "empty target": ("[[expect]]\ntarget = ''\nfinding = 'tracked'", "expect[0].target", "is empty", "one plain line"),
    "two lines of reason": (
        "[[expect]]\nfinding = 'tracked'\nbecause = \"a\\nb\"",
        "expect[0].because",
        "control character",
        "one plain line",
    ),
    "expectation that is never reached": (
        "[[expect]]\nfinding = 'tracked'\n[[expect]]\nkernel = '<4.14'\nfinding = 'tracked'",
        "expect[1]",
        "never reached",
        "move it up",
    ),
    "two kinds in one step": (
        STATE + "run = ['true']\nunload = ['x']",
        "state[0]",
        "several steps at once: run, unload",
        "[[state]] of its own",
    ),
    "step that does nothing": (STATE + "refused = true", "state[0]", "does nothing", "run, file, sysctl, unload"),
    "step without a key": (STATE, "state[0]", "does nothing", "run, file, sysctl, unload"),
    "refused file": (
        STATE + "file = { path = '/x', text = '' }\nrefused = true",
        "state[0].refused",
        "belongs to a step with run",
        "remove it",
    ),
    "empty argv": (STATE + "run = []", "state[0].run", "is an empty list", "program"),
    "empty program": (STATE + "run = ['', 'x']", "state[0].run[0]", "is empty", "name the program"),
    "nothing to unload": (STATE + "unload = []", "state[0].unload", "is an empty list", "modules"),
    "bad module": (STATE + "unload = ['a b']", "state[0].unload[0]", "no name of a module", "letters"),
    "no sysctls": (STATE + "sysctl = {}", "state[0].sysctl", "is empty", "net.ipv4.tcp_syncookies"),
    "sysctl without quotes": (STATE + "sysctl = { net.ipv4.x = 0 }", "state[0].sysctl.net", "is a table", "quote"),
    "sysctl with a bool": (STATE + "sysctl = { 'net.x' = true }", 'state[0].sysctl."net.x"', "is true", '"net.x" = 0'),
    "sysctl that is a path": (
        STATE + "sysctl = { '../x' = 1 }",
        'state[0].sysctl."../x"',
        "no name of a sysctl",
        "sysctl(8)",
    ),
    "sysctl beyond 64 bits": (
        STATE + f"sysctl = {{ 'net.x' = 0x{'f' * 9000} }}",
        'state[0].sysctl."net.x"',
        "an enormous number",
        "at most",
    ),
    "file without a text": (STATE + "file = { path = '/x' }", "state[0].file.text", "is missing", "add: text"),
    "file without a path": (STATE + "file = { text = '' }", "state[0].file.path", "is missing", "add: path"),
    "relative file": (STATE + "file = { path = 'x', text = '' }", "state[0].file.path", '"x"', "absolute path"),
    "file that climbs": (STATE + "file = { path = '/a/../b', text = '' }", "state[0].file.path", "..", "absolute"),
    "file that is a folder": (STATE + "file = { path = '/a/', text = '' }", "state[0].file.path", "/a/", "absolute"),
    "NUL in a file": (STATE + 'file = { path = "/x", text = "a\\u0000" }', "state[0].file.text", "NUL", "remove"),
    "NUL in argv": (STATE + 'run = ["a", "b\\u0000"]', "state[0].run[1]", "NUL", "remove"),
    "unknown placeholder": (
        MATRIX + STATE + "run = ['{iptable}']",
        "state[0].run[0]",
        "names {iptable}, which no axis of [matrix] gives",
        "did you mean 'iptables'?",
    ),
    "placeholder without a matrix": (
        STATE + "run = ['{iptables}']",
        "state[0].run[0]",
        "names {iptables}",
        "write {{iptables}}",
    ),
    "placeholder in a path": (STATE + "file = { path = '/{x}', text = '' }", "state[0].file.path", "{x}", "{{x}}"),
    "placeholder in a text": (STATE + "file = { path = '/x', text = '{z}' }", "state[0].file.text", "{z}", "{{z}}"),
    "text and source": (
        STATE + "file = { path = '/x', text = '', source = './x' }",
        "state[0].file.text",
        "stands beside source",
        "keep one",
    ),
    "source elsewhere": (STATE + "file = { path = '/x', source = '/y' }", "state[0].file.source", "/y", "beside"),
    "source above": (STATE + "file = { path = '/x', source = '../x' }", "state[0].file.source", "../x", "beside"),
    "no source": (STATE + "file = { path = '/x', source = '' }", "state[0].file.source", '""', "beside"),
    "placeholder in a sysctl": (STATE + "sysctl = { 'net.x' = '{y}' }", 'state[0].sysctl."net.x"', "{y}", "{{y}}"),
    "placeholder in boot args": ("[machine]\nboot_args = ['{y}']", "machine.boot_args[0]", "{y}", "{{y}}"),
    "empty axis": ("[matrix]\nsize = []", "matrix.size", "is an empty list", "give it values"),
    "value twice": ("[matrix]\nsize = [1, 2, 1]", "matrix.size[2]", "1 stands there twice", "remove one"),
    "value twice in other types": (
        "[matrix]\nsize = [1, '1']",
        "matrix.size[1]",
        "'1' stands there twice",
        "remove one",
    ),
    "bool in an axis": ("[matrix]\nsize = [true]", "matrix.size[0]", "is true, must be text or a whole", "size = ["),
    "negative in an axis": ("[matrix]\nsize = [-1]", "matrix.size[0]", "is the number -1", "use 0 to"),
    "slash in an axis": ("[matrix]\nsize = ['../x']", "matrix.size[0]", "folder names", "letters, digits"),
    "unknown backend": ("[matrix]\niptables = ['ntf']", "matrix.iptables[0]", '"legacy", "nft"', "'nft'"),
    "backend as a number": ("[matrix]\niptables = [5]", "matrix.iptables[0]", "is the number 5", "legacy, nft"),
    "axis with a bad name": ("[matrix]\nSize = [1]", "matrix.Size", "cannot be the name of an axis", "small letters"),
    "axis that is a key of expect": ("[matrix]\nkernel = ['a']", "matrix.kernel", "cannot be the name", "another"),
    "axis that is a placeholder": ("[matrix]\nip6tables = ['a']", "matrix.ip6tables", "cannot be the name", "another"),
    "too many variants": (
        "[matrix]\n" + "".join(f"a{n} = [1, 2]\n" for n in range(9)),
        "matrix",
        "more than 256 variants",
        "take values away",
    ),
    "names too long": (
        "[matrix]\n" + "".join(f"{'a' * 20}{n} = ['{'b' * 20}']\n" for n in range(3)),
        "matrix",
        "too long for folders",
        "shorten",
    ),
}


@pytest.mark.parametrize(("text", "key", "what", "hint"), BAD.values(), ids=BAD)
def test_bad_input_is_told_what_is_wrong_and_how_to_mend_it(text: str, key: str, what: str, hint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(HEAD + text)
    message = str(caught.value)
    assert "\n" not in message, "one mistake, one problem"
    assert message.startswith(f"dir/x.toml: {key}: ")
    assert what in message
    assert hint in caught.value.hint
    assert len(message) < 400


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "dir/x.toml: the file is empty", "version = 1"),
        (" \n\n", "dir/x.toml: the file is empty", "version = 1"),
        ('name = "x"\nsummary = "s"', "dir/x.toml: version: is missing", "add: version = 1"),
        ('version = "1"\nname = "x"\nsummary = "s"', 'version: is the text "1", must be a whole', "version = 1"),
        ('version = true\nname = "x"\nsummary = "s"', "version: is true, must be a whole", "version = 1"),
        ('version = 0\nname = "x"\nsummary = "s"', "version: is the number 0, must be 1", "1"),
        ('version = 2\nname = "x"\n[new]\nkeys = 1', "version: is 2, this lab knows up to 1", "newer lab"),
        ('version = 1\nsummary = "s"', "name: is missing", "name ="),
        ('version = 1\nname = "y"\nsummary = "s"', "name: is 'y', but the file is called 'x'", "same name"),
        ('version = 1\nname = "../x"\nsummary = "s"', "folder names", "small letters"),
        ('version = 1\nname = "-x"\nsummary = "s"', "folder names", "not '-' first"),
        (f'version = 1\nname = "{"x" * 65}"\nsummary = "s"', "folder names", "up to 64"),
        ('version = 1\nname = "x"', "summary: is missing", "summary ="),
        ('version = 1\nname = "x"\nsummary = " "', "summary: is empty", "one plain line"),
        ('version = 1\nname = "x"\nsummary = "\\u001b[2J"', "summary: has a line break or another control", "plain"),
        ("version = 1\nname = x", "not TOML: Invalid value (at line 2, column 8)", "toml.io"),
        ("version = 1\nversion = 1", "not TOML: Cannot overwrite a value (at ", "toml.io"),
        ("x = " + "[" * 5000, "not TOML: nested too deeply", ""),
        ("x = " + "1" * 5000, "not TOML: Exceeds the limit", ""),
        ("\0", "not TOML", ""),
    ],
)
def test_files_that_are_wrong_from_the_start(text: str, message: str, hint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hint in caught.value.hint


def test_all_problems_are_told_at_once_each_with_its_mend() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse('version = 1\nname = "y"\nsumary = "s"\n[load]\nconnections = 0\n[conntrack]\nmax = true\n')
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["name", "summary", "conntrack.max", "load.connections", "sumary"]
    assert all(line.startswith("dir/x.toml: ") and "; " in line for line in lines)


def test_a_flood_of_problems_is_cut() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(HEAD + "".join(f"k{number} = 1\n" for number in range(1000)))
    assert len(str(caught.value).splitlines()) == 20
    assert caught.value.hint == "each line ends with its hint; 980 more problems are not shown"


@given(st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
def test_any_text_is_a_scenario_or_a_scenario_error(text: str) -> None:
    with pytest.raises(ScenarioError):
        parse(text)


_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just({})),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["path", "udp", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)
_keys = [
    "run",
    "file",
    "sysctl",
    "unload",
    "when",
    "refused",
    "finding",
    "kernel",
    "max",
    "timeouts",
    "kind",
    "iptables",
]


@given(
    st.dictionaries(
        st.sampled_from(["version", "name", "matrix", "state", "machine", "conntrack", "load", "expect", "odd"]),
        st.one_of(
            _values,
            st.dictionaries(st.sampled_from(_keys), _values, max_size=3),
            st.lists(st.dictionaries(st.sampled_from(_keys), _values, max_size=3), max_size=3),
        ),
    )
)
def test_any_shape_is_a_scenario_or_a_scenario_error(shape: dict[str, Any]) -> None:
    document = {"version": 1, "name": "x", "summary": "s"} | shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomllib.loads", lambda _text: document)
        try:
            parse("anything")
        except ScenarioError as error:
            assert str(error).startswith("dir/x.toml: ")


# -- placeholders


_names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)


@given(st.text(), st.dictionaries(_names, st.text(), max_size=3))
def test_doubled_braces_come_back_as_they_were(text: str, values: dict[str, str]) -> None:
    assert substitute(text.replace("{", "{{").replace("}", "}}"), values) == text


@given(st.lists(st.one_of(st.sampled_from(["{a}", "{b}", "{{", "}}"]), st.text(string.ascii_letters + " $%"))))
def test_each_placeholder_is_replaced_once(parts: list[str]) -> None:
    values = {"a": "{b}", "b": "}{"}
    meanings = {"{a}": "{b}", "{b}": "}{", "{{": "{", "}}": "}"}
    assert substitute("".join(parts), values) == "".join(meanings.get(part, part) for part in parts)


PLAIN = ("{", "}", "{a", "a}", "{}", "{ a }", "{a!r}", "{a.b}", "{a[0]}", "{a:>9}", "{A}", "{22}")
PASTED = (
    "table ip x { chain y { type filter hook input priority 0; }}",
    '{"nftables": [{"flush": {"ruleset": {}}}]}',
    "add rule ip x y tcp dport {22, 80} accept",
)
ESCAPED = {
    "{{a}": "{a}",
    "table x {{ chain y {{ }}}}": "table x { chain y { }}",
    "{{a}} {{": "{a} {",
    "{ {{a}} {a} }}": "{ {a} 1 }}",
}


@pytest.mark.parametrize(("text", "means"), [*((text, text) for text in (*PLAIN, *PASTED)), *ESCAPED.items()])
def test_braces_that_are_text(text: str, means: str) -> None:
    assert substitute(text, {"a": "1"}) == means


@pytest.mark.parametrize("name", ["b", "a-b", "a_b", "a1"])
def test_what_looks_like_a_placeholder_must_be_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"names {{{name}}}, which no axis"):
        substitute(f"x {{{name}}} y", {"a": "1"})


@given(st.text())
def test_a_verbatim_text_comes_back(text: str) -> None:
    assert substitute(verbatim(text), {"a": "1"}) == text


@given(st.text(string.printable, max_size=60))
def test_a_text_without_braces_is_left_alone(text: str) -> None:
    plain = re.sub(r"[{}]", "", text)
    assert substitute(plain, {}) == plain


def test_the_backend_axis_names_programs_and_others_their_value() -> None:
    assert placeholder_values({"iptables": "nft", "size": 64}) == {
        "iptables": "iptables-nft",
        "ip6tables": "ip6tables-nft",
        "size": "64",
    }


# -- digest

BASE = HEAD + '[matrix]\niptables = ["legacy", "nft"]\n[[state]]\nrun = ["{iptables}", "-L"]\n[conntrack]\nmax = 100\n'
EXPECT = '[[expect]]\nkernel = "<4.14"\nfinding = "tracked"\nbecause = "so"\n'


@pytest.mark.parametrize(
    "same",
    [
        "# a comment\n" + BASE + EXPECT,
        BASE.replace("= ", "=    ") + EXPECT,
        BASE.replace("Is it?", "Or is it not?") + EXPECT,
        BASE + EXPECT.replace('"so"', '"of another reason"'),
        BASE + EXPECT.replace('"<4.14"', '" < 4.14 "'),
        BASE + '[load]\nkind = "hold"\nconnections = 20_000\n' + EXPECT,
        BASE.replace('"-L"]', '"-L"]\nrefused = false') + EXPECT,
    ],
)
def test_the_digest_is_of_the_meaning(same: str) -> None:
    assert scenario_digest(parse(same)) == scenario_digest(parse(BASE + EXPECT))


@pytest.mark.parametrize(
    "other",
    [
        BASE,
        BASE.replace("-L", "-F") + EXPECT,
        BASE.replace("100", "101") + EXPECT,
        BASE.replace('["legacy", "nft"]', '["nft"]') + EXPECT,
        BASE.replace('"-L"]', '"-L"]\nrefused = true') + EXPECT,
        BASE.replace('"-L"]', '"-L"]\nwhen = { iptables = "nft" }') + EXPECT,
        BASE.replace("run =", "unload =").replace('"{iptables}", "-L"', '"x"') + EXPECT,
        BASE + "[load]\nconnections = 5\n" + EXPECT,
        BASE + "[machine]\nvcpus = 1\n" + EXPECT,
        BASE + EXPECT.replace("tracked", "untracked"),
        BASE + EXPECT.replace("<4.14", "<4.15"),
        BASE + EXPECT.replace("because", "iptables = 'nft'\nbecause"),
    ],
)
def test_another_meaning_has_another_digest(other: str) -> None:
    assert scenario_digest(parse(other)) != scenario_digest(parse(BASE + EXPECT))


def test_steps_of_other_kinds_with_the_same_words_differ() -> None:
    run, unload = (parse(f'{HEAD}[[state]]\n{kind} = ["x"]\n') for kind in ("run", "unload"))
    assert scenario_digest(run) != scenario_digest(unload)


def test_digests_stay_what_they_were() -> None:
    """Old results name their scenario by digest: a change here makes every one of them incomparable."""
    first_version = re.sub(rf"^(?:{LATER_KEYS}) = .*\n", "", FULL, flags=re.MULTILINE).replace("[requires]\n", "")
    assert scenario_digest(parse(first_version.replace(LATER_CONDITION, ""))) == DIGEST_OF_FULL
    assert scenario_digest(parse(HEAD)) == DIGEST_OF_HEAD


LATER_KEYS = (
    "topology|path|rate_per_second|hold_seconds|close|config|modules|loadable|backends|iptables_version|nft_version"
)
LATER_CONDITION = 'kernel = ">=3.18"\n'
DIGEST_OF_FULL = "a074ca37917569deaa0e01e872a4b7e436bb35403fceec964a7f8e646f758e27"
DIGEST_OF_HEAD = "b19f939a8034130f9d09f6f20a13802396357fda7fb8c60c8b5f4ef785da90ec"


# -- the JSON Schema, which editors use: it must know the same keys as the parser


def test_the_schema_names_what_the_code_names() -> None:
    properties = SCHEMA["properties"]
    assert properties["version"]["maximum"] == module.SCENARIO_VERSION
    assert properties["expect"]["items"]["properties"]["finding"]["enum"] == list(FINDINGS)
    assert properties["load"]["properties"]["kind"]["enum"] == list(LOAD_KINDS)
    assert set(properties["conntrack"]["properties"]["timeouts"]["propertyNames"]["enum"]) == set(TIMEOUT_SYSCTLS)


@pytest.mark.parametrize("place", ["", "machine", "conntrack", "load", "state", "expect"])
def test_the_schema_has_the_keys_of_the_parser(place: str) -> None:
    """The parser lists the keys it knows when it meets one that is near to none."""
    header = {"": "", "state": "[[state]]\n", "expect": '[[expect]]\nfinding = "tracked"\n'}.get(place, f"[{place}]\n")
    with pytest.raises(ScenarioError) as caught:
        parse(HEAD + header + "qqqqqqqqqqqqqqqqqq = 1\n")
    known = caught.value.hint.removeprefix("known are: ").split(", ")
    schema = SCHEMA["properties"].get(place, SCHEMA)
    schema = SCHEMA["$defs"]["step"] if place == "state" else schema.get("items", schema)
    assert set(known) == set(schema["properties"])


# -- files


def write(folder: Path, name: str, text: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text or HEAD.replace('"x"', f'"{name}"'), encoding="utf-8")
    return path


def test_names_globs_and_paths_find_files_once_and_in_the_order_asked(tmp_path: Path) -> None:
    paths = {name: write(tmp_path, name) for name in ("nat-a", "nat-b", "pristine")}
    found = find_scenarios(["pristine", "nat-*", str(paths["nat-b"])], [tmp_path])
    assert found == (paths["pristine"], paths["nat-a"], paths["nat-b"])
    assert find_scenarios([f"{tmp_path}/nat-*.toml"], []) == (paths["nat-a"], paths["nat-b"])


def test_the_first_folder_wins(tmp_path: Path) -> None:
    own, packaged = write(tmp_path / "own", "a"), write(tmp_path / "packaged", "a")
    other = write(tmp_path / "packaged", "b")
    assert scenarios_in([own.parent, packaged.parent]) == {"a": own, "b": other}


def test_the_working_directory_comes_before_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    directories = scenario_directories(tmp_path)
    assert directories[0] == tmp_path / "scenarios"
    assert ROOT / "scenarios" in directories


def test_the_same_folder_is_looked_at_once() -> None:
    directories = scenario_directories(ROOT)
    assert len({path.resolve() for path in directories}) == len(directories)


@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("nat-fushed", "nat-fushed: no such scenario", "did you mean 'nat-flushed'?"),
        ("zzz", "zzz: no such scenario", "known are: nat-flushed, pristine"),
        ("zzz*", "zzz*: no scenario matches", "known are: nat-flushed, pristine"),
        ("", ": no such scenario", "known are"),
        ("/nowhere/*.toml", "/nowhere/*.toml: no file matches", "lab list scenarios"),
    ],
)
def test_words_that_mean_no_scenario(tmp_path: Path, pattern: str, message: str, hint: str) -> None:
    for name in ("nat-flushed", "pristine"):
        write(tmp_path, name)
    with pytest.raises(ScenarioError) as caught:
        find_scenarios([pattern], [tmp_path])
    assert str(caught.value) == message
    assert hint in caught.value.hint


def test_no_scenarios_at_all(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no scenarios found in"):
        find_scenarios(["nat-flushed"], [tmp_path])
    with pytest.raises(ScenarioError, match="cannot be read"):
        find_scenarios(["nat-flushed"], [tmp_path / "gone"])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    (tmp_path / "latin.toml").write_bytes(b'version = 1\nname = "\xe9"\n')
    (tmp_path / "huge.toml").write_bytes(b"#" * (256 * 1024 + 1))
    for name, message in {
        "gone": "cannot be read: No such file",
        "folder": "is a folder",
        "loop": "cannot be read: Too many levels",
        "n" * 300: "cannot be read: File name too long",
        "latin": "not UTF-8: byte 0xe9 in line 2",
        "huge": "is larger than 256 KiB",
    }.items():
        path = tmp_path / f"{name}.toml"
        with pytest.raises(ScenarioError) as caught:
            load_scenario(find_scenarios([str(path)], [])[0])
        assert str(caught.value).startswith(f"{path}: {message}")
        assert caught.value.hint


def test_a_pipe_is_not_waited_for() -> None:
    with pytest.raises(ScenarioError, match="no ordinary file"):
        load_scenario(Path("/dev/null"))


def test_the_problems_of_several_files_are_told_together(tmp_path: Path) -> None:
    write(tmp_path, "a", "version = 1\n")
    write(tmp_path, "b", HEAD.replace('"x"', '"b"') + "odd = 1\n")
    write(tmp_path, "c")
    with pytest.raises(ScenarioError) as caught:
        load_scenarios(["*"], [tmp_path])
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["name", "summary", "odd"]
    assert [scenario.name for scenario in load_scenarios(["c"], [tmp_path])] == ["c"]


def test_two_scenarios_of_one_name_cannot_be_in_one_run(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", "a"), write(tmp_path / "other", "a")
    with pytest.raises(ScenarioError, match="'a' is there twice"):
        load_scenarios([str(one), str(other)], [])


def test_did_you_mean() -> None:
    known: Mapping[str, None] = dict.fromkeys(["run", "file"])
    assert did_you_mean("rum", known) == "did you mean 'run'?"
    assert did_you_mean("zzzz", known) == "known are: run, file"
    assert did_you_mean(5, known) == "known are: run, file"
    assert did_you_mean("x", []) == "none are known here"


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('[[state]]\nin = "client"\nrun = ["true"]', "state[0].in", "no such end"),
        ('[machine]\npath = "local"\n[[state]]\nin = "server"\nrun = ["true"]', "state[0].in", "no such end"),
        ('[machine]\npath = "local"\n[[state]]\nin = "client"\nunload = ["x"]', "state[0].in", "run or sysctl"),
        ('[machine]\npath = "bridge"\ntopology = "netns"', "machine.topology", "stands beside path"),
        ('[load]\nkind = "udp"\n[[during]]\nrun = ["true"]', "during", "holds its connections"),
        ('[load]\nkind = "hold"\nanswered = true', "load.answered", "means nothing"),
        ('[load]\nkind = "churn"\ndata = true', "load.data", "means nothing"),
        ('[load]\nfamily = "both"\nconnections = 1', "load.connections", "less than one of each"),
        ('[load]\nfamily = "ipx"', "load.family", "must be one of"),
        ('[load]\nkind = "udp"\nanswered = true\nconnections = 200000', "load.connections", "has a socket"),
    ],
)
def test_what_does_not_go_together_is_refused_when_the_file_is_read(text: str, key: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(HEAD + text)
    assert f"{key}: " in str(caught.value)
    assert words in str(caught.value)


def test_topology_is_what_older_files_call_a_path() -> None:
    old, new = (parse(f"{HEAD}[machine]\n{line}") for line in ('topology = "netns"', 'path = "forward"'))
    assert old == new
    assert scenario_digest(old) == scenario_digest(new)
    assert scenario_digest(new) != scenario_digest(parse(f'{HEAD}[machine]\npath = "bridge"'))


@pytest.mark.parametrize("part", ["a", '"a"', "'a'", '""'])
def test_a_key_of_many_parts_is_refused_at_once(part: str) -> None:
    with pytest.raises(ScenarioError, match="a key of more than 32 parts"):
        parse_scenario(f"{'.'.join([part] * 60_000)} = 1\n", "x.toml")
    with pytest.raises(ScenarioError, match="a key of more than 32 parts"):
        parse_scenario(f"x = {{ {'.'.join([part] * 60_000)} = 1 }}\n", "x.toml")


def test_dots_in_texts_and_comments_part_no_key() -> None:
    dots = "." * 200
    text = (
        f'# {dots} "\nversion = 1 # {dots}\nname = "x"\nsummary = "a {dots} \\" {dots}"\n'
        f"[[state]]\nfile = {{ path = '/x{dots}', text = '''\n{dots}\"\n''' }}\n"
        f'[[state]]\nfile = {{ path = "/y", text = """{dots}\n"quoted" {dots}""" }}\n'
    )
    assert len(parse_scenario(text, "x.toml").state) == 2


# -- files beside a scenario


SOURCE = HEAD + STATE + 'file = { path = "/etc/nftables.conf", source = "./rules.nft" }'
INLINE = STATE + 'file = { path = "/etc/nftables.conf", text = "table ip x {{\\n}}\\n" }'


def beside(folder: Path, text: str, rules: str | bytes = "table ip x {\n}\n") -> Path:
    (folder / "rules.nft").write_bytes(rules.encode() if isinstance(rules, str) else rules)
    (folder / "x.toml").write_text(text)
    return folder / "x.toml"


def test_a_source_means_what_its_text_means(tmp_path: Path) -> None:
    scenario = load_scenario(beside(tmp_path, SOURCE))
    inline = parse_scenario(HEAD + INLINE, scenario.path)
    assert scenario == inline
    assert scenario_digest(scenario) == scenario_digest(inline)
    other = load_scenario(beside(tmp_path, SOURCE, "table ip y {\n}\n"))
    assert scenario_digest(other) != scenario_digest(scenario), "what is in the file is part of the digest"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_stored_text_needs_no_file_beside_it(rules: str) -> None:
    scenario = parse_scenario(SOURCE, "dir/x.toml", lambda source: rules)
    stored = with_sources(SOURCE, scenario)
    again = parse_scenario(stored, "x.toml")
    assert (again.state, scenario_digest(again)) == (scenario.state, scenario_digest(scenario))
    assert with_sources(stored, again) == stored


@pytest.mark.parametrize(
    ("rules", "message"),
    [(b"\xff", "not UTF-8"), (b"a\0b", "NUL"), (b"x" * (16 * 2**20 + 1), "larger than 16384 KiB")],
    ids=["bytes", "nul", "large"],
)
def test_sources_that_cannot_be_used(tmp_path: Path, rules: bytes, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        load_scenario(beside(tmp_path, SOURCE, rules))


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(SOURCE)
    with pytest.raises(ScenarioError, match=r"state\[0\]\.file\.source: .*rules.nft: cannot be read: No such file"):
        load_scenario(tmp_path / "x.toml")


@pytest.mark.parametrize("word", ["./rules.nft", "../rules.nft", "~/rules.nft", "rules.nft", "HOME/rules.nft"])
def test_a_step_that_names_a_file_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    word = word.replace("HOME", str(tmp_path))
    with pytest.raises(ScenarioError, match=r"state\[0\]\.run\[2\]: names .*a file of this host") as refused:
        load_scenario(beside(tmp_path, f'{HEAD}{STATE}run = ["nft", "-f", "{word}"]'))
    assert 'source = "./rules.nft"' in refused.value.hint


@pytest.mark.parametrize("word", ["/etc/hosts", "other.nft", "add table ip x", "./a b", "1.5", "ip.x"])
def test_words_that_are_no_files_of_this_host(tmp_path: Path, word: str) -> None:
    load_scenario(beside(tmp_path, f'{HEAD}{STATE}run = ["nft", "-f", "{word}"]'))


def test_a_file_that_a_step_writes_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "rules.nft"
    text = f'{HEAD}{STATE}file = {{ path = "{path}", source = "rules.nft" }}\n{STATE}run = ["nft", "-f", "{path}"]'
    load_scenario(beside(tmp_path, text))
