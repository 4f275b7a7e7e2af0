"""Recording a guest at a scenario's state, or under its load, and what `lab inspect` reads from that."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lab.core.inspecting.attached import Attached
from lab.core.inspecting.inspection import Inspection, inspect
from lab.core.plan import Variant, variants
from lab.host.inspecting.reading import read_record
from lab.host.inspecting.recorder import recorder_script, recorder_zipapp
from lab.host.scenario_files import load_scenario
from tests import ROOT
from tests.vm.conftest import Ran

TRACKED = {"untracked": False, "tracked": True, "table-full": True, "evicted": True}
PROTOCOLS = {"udp": "udp", "dns": "udp"}  # of the kinds of load that are not tcp
FEWER = re.compile(r"^connections = \d+", re.MULTILINE)
# of which a record at the state says too little: how many connections come, or of which kind, decides
LATER = {"hash-too-small": "held", "timeouts-lowered": "load", "unreplied-evicted": "load"}
# whose load stays as it is, for the finding is of how many connections there are; a smaller one is as good for others
WHOLE = {*LATER, "nat-ports-exhausted", "orphaned-entries"}
# whose last step is refused on every kernel of the targets: the machine is then as that has left it
REFUSED = ("modules-blocked", "modules-blacklisted-cmdline")
LAST_RUN = re.compile(r"(^\[\[state\]\]\nrun = \[.*\]\n)(?!(?s:.*)^\[\[state)", re.MULTILINE)
PROGRAMS: dict[str, tuple[Callable[[], bytes], str]] = {
    "zipapp": (recorder_zipapp, "python3 /root/recorder"),
    "script": (recorder_script, "sh /root/recorder"),
}
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
# What no step waits for is read with the files of this folder, in which a comment means nothing.
LEFT_IN = "/etc/modprobe.d/zz-record.conf"
COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
# This does without the looks at what must not change, and the load comes more slowly, so that it outlasts the record.
UNDER_LOAD = f"""
base64 -d /root/recorder.b64 > /root/recorder
until [ "$(cat {COUNT} 2> /dev/null || echo 0)" -gt 100 ]; do sleep 0.1; done
python3 /root/recorder /root/out.tgz --entries
(printf "# "; base64 -w0 /root/out.tgz) > /root/record.conf
mv /root/record.conf {LEFT_IN}
"""
STEPS = """
[[state]]
file = {{ path = "/root/recorder.b64", text = "{data}" }}
[[state]]
file = {{ path = "/root/record", text = '''{script}''' }}
[[state]]
run = ["sh", "-c", "{settings}true"]
"""
# when: at the state, as its load meets it; under a load that is held, once it is there; under another, while it comes
MOMENTS = {
    "state": '[[state]]\nrun = ["sh", "/root/record"]\n',
    "held": '[[during]]\nrun = ["sh", "/root/record"]\n',
    "load": "[[state]]\nfile = { path = '/root/later', text = '''" + UNDER_LOAD + "''' }\n"
    '[[state]]\nrun = ["sh", "-c", "sh /root/later > /dev/null 2> /root/failed &"]\n',
}


RATE = re.compile(r"^rate_per_second = (\d+)", re.MULTILINE)
SLOWER = 3


def shipped_variants() -> list[Variant]:
    """Every variant of every shipped scenario."""
    paths = sorted((ROOT / "scenarios").glob("*.toml"))
    return [variant for path in paths for variant in variants(load_scenario(path))]


def as_recorded(name: str, text: str) -> str:
    """A shipped scenario with few connections, where its finding is not of their number, and with the state at which
    the last step of it was refused.
    """
    if name not in WHOLE:
        text = FEWER.sub("connections = 300", text)
    return LAST_RUN.sub(r"\1refused = true\n", text) if name in REFUSED else text


def said_of_load(inspection: Inspection, path: str | None, protocol: str) -> tuple[Attached, bool | None]:
    """What it says of the namespaces that the load passes: of the host's own, unless an end tracks, or may; and whether
    the load is tracked then: not where it crosses a bridge whose frames pass by the hooks, or is of a protocol kept
    out.
    """
    looks = inspection.looks if path else inspection.looks[:1]
    attached = next((look.attached for look in looks if look.attached.answer), None)
    attached = attached or next((look.attached for look in looks if look.attached.answer is None), looks[0].attached)
    passed_by = any(proof.source == "bridge" for proof in attached.proofs)
    return attached, False if passed_by or protocol in attached.kept_out else attached.answer


def recording(text: str, program: str, settings: Mapping[str, int], moment: str = "state") -> str:
    """A scenario that records its machine, to which the table's `settings` are written before."""
    made, command = PROGRAMS[program]
    data = base64.b64encode(made()).decode("ascii")
    paths = {
        name if name.startswith("/") else f"/proc/sys/{name.replace('.', '/')}": settings[name] for name in settings
    }
    written = "".join(f"test ! -e {path} || echo {value} > {path}; " for path, value in paths.items())
    if moment == "load":
        text = RATE.sub(lambda rate: f"rate_per_second = {int(rate[1]) // SLOWER}", text)
    steps = STEPS.format(data=data, script=SCRIPT.format(command=command), settings=written)
    return text + steps + MOMENTS[moment]


def recorded(ran: Ran, folder: Path, moment: str = "state") -> tuple[Inspection, Path]:
    """What the recorder saw, and that it changed nothing."""
    said = _said_under_load(ran) if moment == "load" else _said_by_step(ran, moment)
    assert said.startswith("H4sI"), "it wrote no archive"
    record = folder / "record.tar.gz"
    record.write_bytes(base64.b64decode(said))
    return inspect(read_record(str(record))), record


def _said_by_step(ran: Ran, moment: str) -> str:
    evidence = ran.cell / "evidence"
    if moment == "held":
        steps = json.loads((evidence / "load.json").read_text())["during"]["steps"]
    else:
        steps = json.loads((evidence / "steps.json").read_text())["steps"]
    last = steps[-1]
    if last.get("argv") != ["sh", "/root/record"]:
        pytest.skip(f"the state was not reached: {ran.result['reason'][:200]}")
    assert last["stderr"] == "", "it failed, or changed modules or settings"
    return str(last["stdout"])


def _said_under_load(ran: Ran) -> str:
    lines = (ran.cell / "evidence" / "after" / "modprobe.d.txt").read_text().splitlines()
    said = [line.partition(": # ")[2] for line in lines if line.startswith(f"{LEFT_IN}: # ")]
    assert said, "the load ended before the record"
    return said[0]
