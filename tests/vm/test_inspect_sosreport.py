"""What `lab inspect` says of a sosreport, made in a guest at a scenario's state by Debian's package: never other than
what the lab finds, and unknown only where no text of the report can tell.

LAB_TEST_INSPECT=all tries more states; LAB_TEST_TARGETS chooses the release, and with it the version of sos.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.core.inspecting.attached import Attached
from lab.core.inspecting.inspection import inspect
from lab.host.cli.main import main
from lab.host.inspecting.reading import read_record
from tests.vm.conftest import TARGETS

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
# scenario, axes, what is done besides, and the answers that are right, the best one first
Variant = tuple[str, dict[str, str], str, tuple[bool | None, ...]]
QUICK: tuple[Variant, ...] = (
    ("wrong-backend-flushed", {"iptables": "legacy"}, "", (True,)),
    ("wrong-backend-flushed", {"iptables": "legacy"}, OTHER + TALKING, (True,)),
)
MORE: tuple[Variant, ...] = (
    ("wrong-backend-flushed", {"iptables": "legacy"}, OTHER, (True, None)),
    ("wrong-backend-flushed", {"iptables": "nft"}, "", (True,)),
    ("pristine", {}, "", (False,)),
    ("nat-present", {"iptables": "legacy"}, "", (True,)),
    ("nat-present", {"iptables": "nft"}, "", (True,)),
    ("nat-flushed", {"iptables": "legacy"}, "", (False,)),
    ("nat-flushed", {"iptables": "legacy"}, OTHER, (False,)),
    ("nat-flushed", {"iptables": "nft"}, "", (False,)),
    ("stateful-present", {"iptables": "legacy", "match": "conntrack"}, "", (True,)),
    ("stateful-present", {"iptables": "nft", "match": "conntrack"}, "", (True,)),
    ("nft-flushed", {"flush": "flush-table"}, "", (False,)),
    ("orphan-chain", {"iptables": "nft"}, "", (True,)),
    ("nat-notrack", {"iptables": "legacy"}, "", (False, None)),
    ("nat-flushed-always-on", {"iptables": "legacy"}, "", (True,)),
    ("openvswitch-loaded", {}, "", (True,)),
    ("unhooked-chain", {}, "", (True,)),
)
VARIANTS = QUICK + (MORE if os.environ.get("LAB_TEST_INSPECT") == "all" else ())
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


def reporting(text: str, besides: str) -> str:
    """A scenario whose machine makes a sosreport at the end of its state, with a load that is soon done."""
    text = re.sub(r"^connections = \d+", "connections = 300", text, flags=re.MULTILINE)
    packages = 'packages = ["sosreport"]\n'
    if "[machine]\n" in text:
        text = text.replace("[machine]\n", f"[machine]\n{packages}", 1)
    else:
        text = text.replace("[conntrack]", f"[machine]\n{packages}\n[conntrack]", 1)
    report = f"[[state]]\nfile = {{ path = '/root/report', text = '''{REPORT}''' }}\n"
    begin = '[[state]]\nrun = ["sh", "-c", "sh /root/report > /dev/null 2>&1 &"]\n'
    chunks = "".join(CHUNK.format(number=number) for number in range(CHUNKS))
    return f"{text}\n{besides}{report}{begin}{WAIT * WAITS}{chunks}"


def reported(text: str, axes: dict[str, str], folder: Path, target: str) -> tuple[str, Attached]:
    """The lab's finding, and what the report says."""
    scenario = folder / "reported.toml"
    scenario.write_text(text)
    words = [word for name, value in axes.items() for word in ("--set", f"{name}={value}")]
    words += ["--target", target, "--timeouts", "state=580", "--output", str(folder / "results"), "-q"]
    main(["run", str(scenario), *words])
    (cell,) = (folder / "results" / "latest" / "cells").iterdir()
    steps = json.loads((cell / "evidence" / "steps.json").read_text())["steps"]
    report = folder / "report.tar.gz"
    report.write_bytes(b"".join(base64.b64decode(step["stdout"]) for step in steps[-CHUNKS:]))
    finding = json.loads((cell / "result.json").read_text())["finding"]
    return str(finding), inspect(read_record(str(report))).looks[0].attached


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "axes", "besides", "right"), VARIANTS, ids=str)
def test_a_sosreport_says_what_the_lab_finds(
    shipped: Callable[[str], str],
    tmp_path: Path,
    name: str,
    axes: dict[str, str],
    besides: str,
    right: tuple[bool | None, ...],
    target: str,
) -> None:
    finding, attached = reported(reporting(shipped(name), besides), axes, tmp_path, target)
    kind = {OTHER: "beside a namespace", OTHER + TALKING: "beside a namespace, with traffic"}.get(besides, "")
    log.info("%s %s %s %s: %s, inspect says %s", target, name, axes, kind, finding, attached.word)
    assert attached.answer in right, [str(proof) for proof in attached.proofs]
    assert (finding != "untracked") is right[0]
