"""What `lab inspect` and its recorders ask of the kernel, as strace sees it in a guest with conntrack and in one
without: no file under /proc and /sys is opened for writing, no program that would is called, no module is loaded."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.host.cli.main import main
from lab.host.inspecting.recorder import recorder_script, recorder_zipapp
from tests import ROOT
from tests.vm.conftest import TARGETS

STATES = {
    "without": "",
    "with": '[[state]]\nrun = ["iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE"]\n'
    '[[state]]\nrun = ["iptables-legacy", "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"]\n'
    '[[state]]\nrun = ["ip", "netns", "add", "other"]\n',
}


def lab_zip() -> bytes:
    """The lab itself, of which `lab inspect` needs no package beside the standard library."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((ROOT / "lab").rglob("*.py")):
            archive.write(path, path.relative_to(ROOT))
    return buffer.getvalue()


PROGRAMS: dict[str, Callable[[], bytes]] = {"inspect": lab_zip, "zipapp": recorder_zipapp, "script": recorder_script}
# what is seen here must be seen there: a setting that is written, a module that is asked for
CONTROL = "cat /proc/sys/net/ipv4/ip_forward > /proc/sys/net/ipv4/ip_forward; modprobe nf_conntrack; iptables-legacy -S"
# the kernel asks this program for modules; it writes down which, before modprobe gets them
MODPROBE = '#!/bin/sh\necho "$@" >> /root/asked\nexec /sbin/modprobe "$@"\n'
CALLS = "open,openat,openat2,creat,execve,execveat,unlink,unlinkat,rename,renameat2,mkdir,mkdirat,rmdir,truncate,chmod,\
fchmodat,mount,umount2,init_module,finit_module,delete_module"
TRACED = rf"""
name=$1; shift
[ -e "/root/$name.b64" ] && base64 -d "/root/$name.b64" > "/root/$name"
old=$(cat /proc/sys/kernel/modprobe)
echo /root/modprobe > /proc/sys/kernel/modprobe
touch /root/asked
cut -d' ' -f1 /proc/modules | sort > /root/before
strace -f -qq --seccomp-bpf -s 200 -e trace={CALLS} -o "/root/$name.trace" "$@" > "/root/$name.said" 2>&1
cut -d' ' -f1 /proc/modules | sort | diff /root/before - > "/root/$name.modules"
echo "$old" > /proc/sys/kernel/modprobe
mv /root/asked "/root/$name.asked"
"""
SCENARIO = """
version = 1
name = "traced"
summary = "What does the recorder ask of the kernel?"
[machine]
packages = ["strace"]
{state}
{files}
[[state]]
run = ["chmod", "+x", "/root/modprobe"]
{runs}
[[state]]
run = ["sh", "-c", "cd /root && tar -cz *.trace *.modules *.asked *.said | base64 -w0"]
[conntrack]
max = 100
[load]
connections = 10
"""
FILE = '[[state]]\nfile = {{ path = "/root/{name}", source = "./{name}" }}\n'
CALL = re.compile(r"^\d+ +(?P<name>\w+)\((?P<words>.*)", re.MULTILINE)
PATH = re.compile(r'"(?P<path>/(?:proc|sys)/[^"]*)"')
FOR_WRITING = re.compile(r"\bO_(?:WRONLY|RDWR|CREAT|TRUNC|APPEND)\b")
# a step ends within a minute, which is short for the script where each of its programs is emulated and traced
RUN = """
[[state]]
run = ["sh", "-c", "sh /root/traced {name} {command} > /dev/null 2> /root/failed &"]
[[state]]
run = ["sh", "-c", "timeout 55 sh /root/wait {name} || true"]
[[state]]
run = ["sh", "-c", "timeout 55 sh /root/wait {name} || true"]
[[state]]
run = ["timeout", "55", "sh", "/root/wait", "{name}"]
"""
WAIT = "while [ ! -e /root/$1.asked ]; do sleep 0.5; done"
COMMANDS = {
    "inspect": "env PYTHONPATH=/root/inspect python3 -m lab inspect --entries --save /root/inspect.tgz",
    "zipapp": "python3 /root/zipapp /root/zipapp.tgz --entries",
    "script": "sh /root/script /root/script.tgz --entries",
    "control": "sh /root/control",
}
OPENS = frozenset({"open", "openat", "openat2"})
STARTS = frozenset({"execve", "execveat"})
LOADERS = re.compile(r'"[^"]*/(?:modprobe|insmod|rmmod|kmod|sysctl)"')


def changes(trace: str) -> list[str]:
    """The calls that change a file under /proc or /sys, load a module, or start a program that would."""
    found = []
    for call in CALL.finditer(trace):
        name, words = call["name"], call["words"]
        if name in OPENS:
            change = bool(PATH.search(words) and FOR_WRITING.search(words))
        elif name in STARTS:
            change = bool(LOADERS.search(words) and " = 0" in words)
        else:
            change = name.endswith("_module") or PATH.search(words) is not None
        if change:
            found.append(call[0][:200])
    return found


def traces(folder: Path, state: str) -> dict[str, str]:
    """The texts that the machine made, by their names."""
    files = {name + ".b64": base64.b64encode(made()).decode() for name, made in PROGRAMS.items()}
    files |= {"modprobe": MODPROBE, "traced": TRACED, "wait": WAIT, "control": CONTROL}
    for name, text in files.items():
        (folder / name).write_text(text)
    steps = "".join(FILE.format(name=name) for name in files)
    runs = "".join(RUN.format(name=name, command=command) for name, command in COMMANDS.items())
    scenario = folder / "traced.toml"
    scenario.write_text(SCENARIO.format(state=STATES[state], files=steps, runs=runs))
    words = [word for target in TARGETS for word in ("--target", target)]
    main(["run", str(scenario), *words, "--timeouts", "state=200", "--output", str(folder / "results"), "-q"])
    (cell,) = (folder / "results" / "latest" / "cells").iterdir()
    steps_done = json.loads((cell / "evidence" / "steps.json").read_text())
    last = (steps_done if isinstance(steps_done, list) else steps_done["steps"])[-1]
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(last["stdout"]))) as archive:
        members = ((one.name, archive.extractfile(one)) for one in archive)
        return {name: file.read().decode() for name, file in members if file is not None}


@pytest.mark.parametrize("state", STATES)
def test_nothing_writes_a_setting_or_loads_a_module(tmp_path: Path, state: str) -> None:
    texts = traces(tmp_path, state)
    for name in PROGRAMS:
        trace = texts[f"{name}.trace"]
        assert '"/proc/modules"' in trace
        assert changes(trace) == []
        assert (texts[f"{name}.modules"], texts[f"{name}.asked"]) == ("", "")
        assert ("nf_conntrack_count" in trace) is (state == "with")
    assert f"tracked {'yes' if state == 'with' else 'no'}" in texts["inspect.said"]
    seen = changes(texts["control.trace"])
    assert any("ip_forward" in call for call in seen)
    assert any("modprobe" in call for call in seen)
    assert state == "with" or "nf_conntrack" in texts["control.modules"]
