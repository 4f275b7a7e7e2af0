"""Parsers of what kernels and programs print: from any text comes a value, or a ValueError that says what is wrong."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core import evidence, sums
from lab.core.errors import ScenarioError
from lab.core.facts import parse_config
from lab.core.holders.find import holders
from lab.core.holders.groups import groups
from lab.core.holders.model import Recorded
from lab.core.kernel import conntrack, hooks, kmsg
from lab.core.kernel.version import parse_release, parse_version_spec
from lab.core.scenario import parse_scenario
from lab.core.scenario.condition import parse_config_spec
from tests.fuzz.bounds import bounded
from tests.fuzz.edits import any_of, edited, several_edits
from tests.recordings import GOLDEN

KERNEL = (6, 1, 0)
MOST_TEXTS = 6


def _named(text: str) -> str:
    found = re.search(r'^name = "([a-z0-9-]+)"$', text, re.MULTILINE)
    return found[1] if found else "x"


def held(**texts: str) -> object:
    """The holders of a machine with these texts, as they are stored and shown."""
    return groups(holders(Recorded(KERNEL, **texts)))


# the name of recorded files -> what reads them
PARSERS: Mapping[str, Callable[[str], object]] = {
    "kmsg.log": lambda text: kmsg.table_full(kmsg.records(text)),
    "console.log": kmsg.console_troubles,
    "samples.jsonl": lambda text: evidence.parse_samples(text.splitlines()),
    "modules.txt": conntrack.modules,
    "stat_nf_conntrack.txt": conntrack.stat_totals,
    "nf_conntrack.txt": conntrack.entries,
    "netstat.txt": conntrack.mib,
    "slabinfo.txt": conntrack.slab,
    "hooks.nft.txt": hooks.hooks,
    "ruleset.json.txt": lambda text: held(nft_json=text),
    "ruleset.nft.txt": lambda text: held(nft_text=text),
    "iptables-nft-save.txt": lambda text: held(iptables_nft=text),
    "iptables-legacy-save.txt": lambda text: held(iptables_legacy=text),
    "modprobe.d.txt": lambda text: held(modprobe_conf=text, modules="", known_modules=""),
    "SHA256SUMS": sums.parse_sums,
    "scenario.toml": lambda text: parse_scenario(text, f"{_named(text)}.toml"),
}
TC = """dev eth0 ingress
filter protocol ip pref 49152 flower chain 0
filter protocol ip pref 49152 flower chain 0 handle 0x1
\taction order 1: ct commit zone 0 pipe
"""
# without a recorded file
WRITTEN: Mapping[str, tuple[Callable[[str], object], Sequence[str]]] = {
    "kernel config": (parse_config, ("CONFIG_NF_CONNTRACK=m\n# CONFIG_NF_CONNTRACK_PROCFS is not set\n",)),
    "config of a condition": (parse_config_spec, ("NF_NAT=m", "CONFIG_NF_NAT=y|m", "NF_NAT=n")),
    "versions of a condition": (parse_version_spec, (">=4.14 <6.17", "==5.10", ">=4.14,<6.17")),
    "release": (parse_release, ("6.1.0-50-cloud-amd64", "7.3-rc2", "4.14.336")),
    "tc filters": (lambda text: held(tc_filters=text), (TC,)),
    "IPVS": (lambda text: held(ip_vs=text), ("IP Virtual Server version 1.2.1 (size=4096)\nTCP 0A000001:0050 rr\n",)),
}


def recorded(name: str) -> list[str]:
    """Texts of that name, of as many machines as there are, the shorter ones."""
    paths = sorted(GOLDEN.rglob(name), key=lambda path: (path.stat().st_size, path))
    paths = [path for path in paths if path.stat().st_size] or paths
    assert paths, f"nothing of that name was recorded: {name}"
    return [path.read_bytes().decode() for path in paths[:: max(1, len(paths) // MOST_TEXTS)]]


READERS = {**{name: (parse, recorded(name)) for name, parse in PARSERS.items()}, **WRITTEN}


@pytest.mark.parametrize("name", READERS)
@bounded(40)
@given(data=st.data())
def test_a_parser_raises_nothing_but_value_errors(name: str, data: st.DataObject) -> None:
    parse, texts = READERS[name]
    text = data.draw(st.builds(edited, any_of(texts), several_edits) | st.text(max_size=200))
    with contextlib.suppress(ValueError, ScenarioError):
        parse(text)


@pytest.mark.parametrize("name", READERS)
def test_what_is_changed_can_be_read_as_it_is(name: str) -> None:
    parse, texts = READERS[name]
    assert any(is_read(parse, text) for text in texts)


def is_read(parse: Callable[[str], object], text: str) -> bool:
    """Whether a parser takes a text; one that was cut in the guest has no whole last line."""
    try:
        parse(text)
    except (ValueError, ScenarioError):
        return False
    return True
