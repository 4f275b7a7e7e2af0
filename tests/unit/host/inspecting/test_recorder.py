"""The recorder as one file: its zipapp runs by itself, its script in a POSIX shell, and both change nothing here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from lab.core.errors import LabError
from lab.core.inspecting.inspection import inspect
from lab.host.inspecting.reading import read_record
from lab.host.inspecting.recorder import recorder_zipapp, write_recorder
from tests.unit.guest.test_zipapp import python_or_skip

SUFFIXES = ("pyz", "sh")
# a file of the kernel opened to be written, and whatever loads or removes a module
CHANGES = re.compile(
    r'open(?:at)?\([^"]*"/(?:proc|sys)/[^"]*", [^)]*(?:O_WRONLY|O_RDWR|O_CREAT|O_TRUNC)'
    r"|\b(?:init_module|finit_module|delete_module|mount|sethostname|settimeofday)\("
)
OWN = re.compile(r'"/proc/(?:self|thread-self|\d+)/')  # of the process itself


def argv(recorder: Path, out: Path) -> list[str]:
    return (
        [sys.executable, "-I", str(recorder), str(out)]
        if recorder.suffix == ".pyz"
        else ["sh", str(recorder), str(out)]
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_records_what_the_lab_reads(tmp_path: Path, suffix: str) -> None:
    recorder, out = tmp_path / f"recorder.{suffix}", tmp_path / "out.tar.gz"
    write_recorder(recorder)
    subprocess.run(argv(recorder, out), check=True, capture_output=True, timeout=120, cwd="/")
    found = inspect(read_record(str(out)))
    assert found.record.facts.kernel_release == os.uname().release
    assert found.looks[0].namespace.own
    assert f"[{found.looks[0].namespace.inode}]" in os.readlink("/proc/self/ns/net")
    with tarfile.open(out) as archive:
        assert all(member.isreg() or member.isdir() for member in archive)
    assert out.stat().st_mode & 0o077 == 0, "only its owner reads it"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_writes_nothing_of_the_kernels_and_loads_nothing(tmp_path: Path, suffix: str) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("there is no strace")
    recorder, out, trace = tmp_path / f"recorder.{suffix}", tmp_path / "out.tar.gz", tmp_path / "trace"
    write_recorder(recorder)
    calls = "trace=open,openat,creat,init_module,finit_module,delete_module,mount,execve"
    command = [strace, "-f", "-qq", "-s", "300", "-e", calls, "-o", str(trace), *argv(recorder, out)]
    ended = subprocess.run(command, capture_output=True, timeout=300, check=False, cwd="/")
    if not out.exists():
        pytest.skip(f"strace does not run here: {ended.stderr[-200:]!r}")
    lines = trace.read_text(errors="replace").splitlines()
    assert len(lines) > 100
    assert [line for line in lines if CHANGES.search(line) and not OWN.search(line)] == []
    assert not [line for line in lines if re.search(r'execve\("[^"]*/(?:modprobe|insmod|kmod)"', line)]


@pytest.mark.parametrize(
    "line",
    ['1 openat(AT_FDCWD, "/proc/sys/kernel/modprobe", O_WRONLY|O_CLOEXEC) = 3', '1 finit_module(3, "", 0) = 0'],
)
def test_a_change_would_be_seen(line: str) -> None:
    assert CHANGES.search(line)
    assert not OWN.search(line)


@pytest.mark.parametrize("version", ["3.6", "3.8", "3.13"])
def test_old_and_new_pythons_run_it(tmp_path: Path, version: str) -> None:
    recorder, out = tmp_path / "recorder.pyz", tmp_path / "out.tar.gz"
    write_recorder(recorder)
    python = [python_or_skip(version), "-I", str(recorder), str(out), "--watch", "0", "--entries"]
    subprocess.run(python, check=True, capture_output=True, timeout=120, cwd="/")
    assert inspect(read_record(str(out))).looks[0].namespace.own


def test_an_old_record_is_not_overwritten(tmp_path: Path) -> None:
    recorder, out = tmp_path / "recorder.pyz", tmp_path / "out.tar.gz"
    write_recorder(recorder)
    out.write_text("mine")
    ended = subprocess.run([*argv(recorder, out), "--watch", "0"], capture_output=True, timeout=120, check=False)
    assert (ended.returncode, out.read_text()) == (2, "mine")


def test_the_same_sources_give_the_same_bytes() -> None:
    first = recorder_zipapp()
    recorder_zipapp.cache_clear()
    assert recorder_zipapp() == first


def test_an_older_recorder_is_overwritten_and_no_other_file(tmp_path: Path) -> None:
    recorder, record = tmp_path / "recorder.sh", tmp_path / "host.tar.gz"
    recorder.write_text("#!/bin/sh\n")
    write_recorder(recorder)
    assert "conntrack" in recorder.read_text()
    record.write_text("mine")
    with pytest.raises(LabError, match="is no recorder"):
        write_recorder(record)
    assert record.read_text() == "mine"
