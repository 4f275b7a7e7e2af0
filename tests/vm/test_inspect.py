"""`lab inspect` of real guests: at a scenario's state it says what the lab finds when it drives a load there, by the
recorder, which loads no module and writes no setting; and the scenario of that record gives the same finding.

LAB_TEST_INSPECT=all runs it for every variant of every shipped scenario (half an hour, emulated).
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.core.inspecting.attached import Attached
from lab.core.inspecting.inspection import Inspection, inspect
from lab.core.plan import variants
from lab.core.scenario import with_sources
from lab.host.inspecting.reading import read_record
from lab.host.inspecting.recorder import recorder_script, recorder_zipapp
from lab.host.inspecting.scenario_file import write_scenario
from lab.host.scenario_files import load_scenario
from tests import ROOT
from tests.vm.conftest import Guests, Ran

log = logging.getLogger(__name__)

TRACKED = {"untracked": False, "tracked": True, "table-full": True, "evicted": True}
PROTOCOLS = {"udp": "udp", "dns": "udp"}  # of the kinds of load that are not tcp
QUICK = {
    "pristine": {},
    "nat-present": {"iptables": "nft"},
    "wrong-backend-flushed": {"iptables": "legacy"},
    "nat-notrack": {"iptables": "legacy"},
    "unhooked-chain": {},
    "nat-flushed-always-on": {"iptables": "legacy"},
}
# whose last step is refused on every kernel of the targets: the machine is then as that has left it
REFUSED = ("modules-blocked", "modules-blacklisted-cmdline")
LAST_RUN = re.compile(r"(^\[\[state\]\]\nrun = \[.*\]\n)(?!(?s:.*)^\[\[state)", re.MULTILINE)
# records between two looks at what must not change, which are printed where they differ
SCRIPT = """
state() {{
    cut -d' ' -f1 /proc/modules | sort
    sysctl -a 2> /dev/null | grep -v -e nf_conntrack_count -e random -e dentry -e inode -e file-nr -e last_pid -e pty.nr
}}
base64 -d /root/recorder.b64 > /root/recorder
state > /root/before
{command} /root/out.tgz > /root/said 2>&1 || cat /root/said >&2
state > /root/after
diff /root/before /root/after >&2
base64 -w0 /root/out.tgz
"""
STEPS = """
[[state]]
file = {{ path = "/root/recorder.b64", text = "{data}" }}
[[state]]
file = {{ path = "/root/record", text = '''{script}''' }}
[[state]]
run = ["sh", "/root/record"]
"""
NFT_NOTRACK = """
version = 1
name = "nft-notrack"
summary = "Chains of nft keep every packet out before conntrack, and a rule needs it. Is it tracked?"
[[state]]
file = { path = "/root/rules.nft", text = '''
table inet kept {
    chain before { type filter hook prerouting priority -300; notrack; }
    chain sent { type filter hook output priority raw + 5; counter notrack; }
    ct helper file { type "ftp" protocol tcp; }
    chain later {
        type filter hook input priority filter
        ct state established accept
        tcp dport 21 ct helper set "file"
    }
}
''' }
[[state]]
run = ["nft", "-f", "/root/rules.nft"]
[conntrack]
max = 100
[load]
connections = 300
"""
PROGRAMS: dict[str, tuple[Callable[[], bytes], str]] = {
    "zipapp": (recorder_zipapp, "python3 /root/recorder"),
    "script": (recorder_script, "sh /root/recorder"),
}


def shipped_variants() -> list[tuple[str, dict[str, Any]]]:
    """The scenarios to look at, each with its axes."""
    if os.environ.get("LAB_TEST_INSPECT") != "all":
        return [(name, dict(axes)) for name, axes in QUICK.items()]
    paths = sorted((ROOT / "scenarios").glob("*.toml"))
    return [(path.stem, dict(variant.axes)) for path in paths for variant in variants(load_scenario(path))]


def recording(text: str, program: str) -> str:
    """A scenario that records the machine at the end of its state, with a load that is soon done."""
    made, command = PROGRAMS[program]
    text = re.sub(r"^connections = \d+", "connections = 300", text, flags=re.MULTILINE)
    if any(f'name = "{name}"' in text for name in REFUSED):
        text = LAST_RUN.sub(r"\1refused = true\n", text)
    data = base64.b64encode(made()).decode("ascii")
    return text + STEPS.format(data=data, script=SCRIPT.format(command=command))


def recorded(ran: Ran, folder: Path) -> tuple[Inspection, Path]:
    """What the recorder saw, and that it changed nothing."""
    steps = json.loads((ran.cell / "evidence" / "steps.json").read_text())
    last = (steps if isinstance(steps, list) else steps["steps"])[-1]
    if last.get("argv") != ["sh", "/root/record"]:
        pytest.skip(f"the state was not reached: {ran.result['reason'][:200]}")
    assert last["stderr"] == "", "it failed, or changed modules or settings"
    assert last["stdout"].startswith("H4sI"), "it wrote no archive"
    record = folder / "record.tar.gz"
    record.write_bytes(base64.b64decode(last["stdout"]))
    return inspect(read_record(str(record))), record


@pytest.mark.parametrize(("name", "axes"), shipped_variants(), ids=str)
def test_it_says_what_the_lab_finds(
    guests: Guests, shipped: Callable[[str], str], tmp_path: Path, name: str, axes: dict[str, Any]
) -> None:
    job = guests.jobs(recording(shipped(name), "zipapp"), **{key: str(value) for key, value in axes.items()})[0]
    ran = asyncio.run(guests.run_async(job))
    inspection, record = recorded(ran, tmp_path)
    attached, answer = said_of_load(inspection, job.plan.machine.path, PROTOCOLS.get(job.plan.load.kind, "tcp"))
    again = made_again(guests, inspection, tmp_path)
    held = [places(result["holders"] or []) for result in (ran.result, again.result)]
    row = (name, axes, ran.result["finding"], attached.word, again.result["finding"], held[0] == held[1])
    log.info("%s %s: %s, inspect says %s, and its scenario gives %s, same holders %s", *row)
    if job.plan.during:
        return  # it is recorded before the load, whose finding is of what is done during it
    if answer is None and not all(holder.hooks for holder in attached.holders):
        return  # a filter or flow tracks what passes it: whether that is all, nobody can see; and it is not carried
    assert answer is TRACKED[ran.result["finding"]], [str(proof) for proof in attached.proofs]
    if any(proof.source == "bridge" for proof in attached.proofs):
        return  # the scenario of a record has no bridge for its load to cross
    assert TRACKED[again.result["finding"]] is answer, again.result["reason"]
    assert held[1] == held[0]
    assert record.stat().st_size < 100_000


def said_of_load(inspection: Inspection, path: str | None, protocol: str) -> tuple[Attached, bool | None]:
    """What it says of the namespaces that the load passes: of the host's own, unless an end tracks; and whether the
    load is tracked then: not where it crosses a bridge whose frames pass by the hooks, or is of a protocol kept out."""
    looks = inspection.looks if path else inspection.looks[:1]
    attached = next((look.attached for look in looks if look.attached.answer), looks[0].attached)
    passed_by = any(proof.source == "bridge" for proof in attached.proofs)
    return attached, False if passed_by or protocol in attached.kept_out else attached.answer


def made_again(guests: Guests, inspection: Inspection, folder: Path) -> Ran:
    """The scenario of a record, run."""
    path = folder / "again.toml"
    write_scenario(inspection, path)
    text = with_sources(path.read_text(), load_scenario(path))
    return guests.run(text.replace("connections = 2000", "connections = 300").replace("max = 1000", "max = 100"))


def places(holders: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Where holders are, and what they need; a rule's words differ with its counters."""
    return sorted((one["backend"], one["family"], one["table"], one["chain"], *one["depends_on"]) for one in holders)


def test_the_script_sees_what_the_zipapp_sees(guests: Guests, shipped: Callable[[str], str], tmp_path: Path) -> None:
    ran = guests.run(recording(shipped("nat-present"), "script"), iptables="nft")
    inspection, _ = recorded(ran, tmp_path)
    assert inspection.looks[0].attached.answer is True
    (holder,) = inspection.looks[0].attached.holders
    assert (holder.backend, holder.depends_on) == ("iptables-nft", ("-j MASQUERADE",))
    assert inspection.looks[0].table.table_max


def test_chains_of_nft_before_conntrack_keep_all_out(guests: Guests, tmp_path: Path) -> None:
    ran = guests.run(recording(NFT_NOTRACK, "zipapp"))
    inspection, _ = recorded(ran, tmp_path)
    assert ran.result["finding"] == "untracked"
    assert inspection.looks[0].attached.answer is False
    # four: both of notrack, the match, and the object, not the rule that names it
    assert [(one.uses, one.seen) for one in inspection.uses or () if one.modules == ("nft_ct",)] == [(4, 4)]
