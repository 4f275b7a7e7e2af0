"""What `lab inspect` says of a sosreport, made in a guest at a scenario's state by Debian's package: never other than
what the lab finds, and unknown only where no text of the report can tell.

LAB_TEST_INSPECT=all tries every variant of every shipped scenario (two hours, emulated); LAB_TEST_TARGETS chooses the
release, and with it the version of sos.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.core.inspecting.inspection import Inspection, inspect
from lab.core.scenario import parse_scenario
from lab.host.cli.main import main
from lab.host.inspecting.reading import read_record
from tests.vm.conftest import TARGETS
from tests.vm.host_records import PROTOCOLS, TRACKED, as_recorded, said_of_load, shipped_variants

log = logging.getLogger(__name__)

# another namespace, so that use counts do not say whose rules these are
OTHER = '[[state]]\nrun = ["ip", "netns", "add", "other"]\n'
# and a connection that goes on, whose entry its packets renew
TALK = """
import socket, time
listener = socket.create_server(("127.0.0.1", 2222))
client = socket.create_connection(("127.0.0.1", 2222))
server, _ = listener.accept()
while True:
    client.sendall(b"x")
    server.recv(1)
    time.sleep(1)
"""
TALKING = (
    f"[[state]]\nfile = {{ path = '/root/talk', text = '''{TALK}''' }}\n"
    '[[state]]\nrun = ["sh", "-c", "python3 /root/talk > /dev/null 2>&1 &"]\n'
)
# of which no text of a sosreport can tell, and why: unknown is right, too
UNKNOWN = {
    "container-table": "only one backend is asked in a container's namespace, and its rules are the other's",
    "nat-notrack": "legacy rules were not collected, and those that keep packets out are among them",
    "remote-notrack": "only one backend is asked in another namespace, and the rules there are the other's",
    "tc-act-ct": "whether the filter is all that tracks, nobody can see",
}
# scenario, axes, what is done besides, and the answers that are right, the best one first; none: as the lab's finding
Variant = tuple[str, dict[str, Any], str, tuple[bool | None, ...]]
QUICK: tuple[Variant, ...] = (
    ("wrong-backend-flushed", {"iptables": "legacy"}, "", (True,)),
    ("wrong-backend-flushed", {"iptables": "legacy"}, OTHER + TALKING, (True,)),
)
BESIDE: tuple[Variant, ...] = (
    ("wrong-backend-flushed", {"iptables": "legacy"}, OTHER, (True, None)),
    ("nat-flushed", {"iptables": "legacy"}, OTHER, (False,)),
)


def chosen_variants() -> list[Variant]:
    """What to look at: a host with further namespaces, as paths have, with traffic, without which a sosreport of it
    cannot tell.
    """
    if os.environ.get("LAB_TEST_INSPECT") != "all":
        return list(QUICK)
    every = ((variant.scenario, dict(variant.axes)) for variant in shipped_variants())
    return [*QUICK, *BESIDE, *((one.name, axes, TALKING if one.machine.path else "", ()) for one, axes in every)]


BESIDES = {
    "": "",
    TALKING: "with-traffic",
    OTHER: "beside-a-namespace",
    OTHER + TALKING: "beside-a-namespace-with-traffic",
}
# What sos wrote, without its largest files, which say nothing here: a step's output has 64 KiB.
PACK = """
cd /root/unpacked/*/ || exit
tar --exclude=kallsyms --exclude=modinfo_ALL_MODULES --exclude='modules.*' --exclude=firmware --exclude=devices \\
    -czf /root/packed.tgz proc sys sos_commands etc/modprobe.d
"""
REPORT = f"""
mkdir -p /root/out /root/unpacked
report() {{
    sos report --batch --quiet --tmp-dir /root/out -z gzip -o "$1" >> /root/said 2>&1
}}
report kernel,networking,host,firewall_tables,conntrack || report kernel,networking,host  # sos 4.0 has no others
tar -xzf /root/out/*.tar.gz -C /root/unpacked
({PACK})
touch /root/done
"""
WAIT = '[[state]]\nrun = ["sh", "-c", "timeout 50 sh -c \'while [ ! -e /root/done ]; do sleep 0.5; done\' || true"]\n'
CHUNK = (
    '[[state]]\nrun = ["sh", "-c", "dd if=/root/packed.tgz bs=48000 skip={number} count=1 2> /dev/null | base64 -w0"]\n'
)
CHUNKS, WAITS = 4, 9
FIRST_TABLE = re.compile(r"^\[", re.MULTILINE)


def reporting(text: str, besides: str) -> str:
    """A scenario whose machine makes a sosreport at the end of its state."""
    packages = '[machine]\npackages = ["sosreport"]\n'
    if "[machine]\n" in text:
        text = text.replace("[machine]\n", packages, 1)
    else:
        text = FIRST_TABLE.sub(f"{packages}\n[", text, count=1)
    report = f"[[state]]\nfile = {{ path = '/root/report', text = '''{REPORT}''' }}\n"
    begin = '[[state]]\nrun = ["sh", "-c", "sh /root/report > /dev/null 2>&1 &"]\n'
    chunks = "".join(CHUNK.format(number=number) for number in range(CHUNKS))
    return f"{text}\n{besides}{report}{begin}{WAIT * WAITS}{chunks}"


def reported(name: str, text: str, axes: dict[str, Any], folder: Path, target: str) -> tuple[str, Inspection]:
    """The lab's finding, and what the report says."""
    scenario = folder / f"{name}.toml"
    scenario.write_text(text)
    words = [word for name, value in axes.items() for word in ("--set", f"{name}={value}")]
    words += ["--target", target, "--timeouts", "state=580", "--output", str(folder / "results"), "-q"]
    main(["run", str(scenario), *words])
    (cell,) = (folder / "results" / "latest" / "cells").iterdir()
    steps = json.loads((cell / "evidence" / "steps.json").read_text())["steps"]
    result = json.loads((cell / "result.json").read_text())
    assert len(steps) > CHUNKS and steps[-1]["argv"][-1].startswith("dd "), result["reason"]
    report = folder / "report.tar.gz"
    report.write_bytes(b"".join(base64.b64decode(step["stdout"]) for step in steps[-CHUNKS:]))
    return str(result["finding"]), inspect(read_record(str(report)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("name", "axes", "besides", "right"),
    chosen_variants(),
    ids=lambda value: BESIDES.get(value, value) if isinstance(value, str) else str(value),
)
def test_a_sosreport_says_what_the_lab_finds(
    shipped: Callable[[str], str],
    tmp_path: Path,
    name: str,
    axes: dict[str, Any],
    besides: str,
    right: tuple[bool | None, ...],
    target: str,
) -> None:
    text = as_recorded(name, shipped(name))
    scenario = parse_scenario(text, name)
    finding, inspection = reported(name, reporting(text, besides), axes, tmp_path, target)
    attached, answer = said_of_load(inspection, scenario.machine.path, PROTOCOLS.get(scenario.load.kind, "tcp"))
    log.info("%s %s %s %s: %s, inspect says %s", target, name, axes, BESIDES[besides], finding, attached.word)
    if right:
        assert (finding != "untracked") is right[0]
    elif finding in TRACKED and name != "rule-under-load":  # whose finding is of what is done during the load
        right = (TRACKED[finding], *([None] if name in UNKNOWN else []))
    assert not right or answer in right, [str(proof) for proof in attached.proofs]
