"""Records in every form: a record, a sosreport, a folder of texts, one text."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path

import pytest

from lab.core.errors import ScenarioError
from lab.core.inspecting.inspection import inspect
from lab.guest.recorder import FOLDER
from lab.guest.recorder.archive import write_archive
from lab.host.inspecting.reading import read_record
from tests.unit.core.inspecting.hosts import MASQUERADE, files

LISTING = (
    "Chain POSTROUTING (policy ACCEPT 0 packets, 0 bytes)\n pkts bytes target prot opt in out source destination\n"
)
RULE = "    0     0 MASQUERADE  all  --  *      eth0    0.0.0.0/0            0.0.0.0/0\n"
SOS = {
    "sos_commands/kernel/uname_-a": "Linux web1 5.14.0-427.el9.x86_64 #1 SMP x86_64 GNU/Linux\n",
    "sos_commands/kernel/lsmod": "Module                  Size  Used by\nip_tables 1 1 iptable_nat\nip6_tables 1 0\n",
    "sos_commands/kernel/sysctl_-a": "".join(
        f"net.netfilter.nf_conntrack_{key}\n" for key in ("count = 65000", "max = 65536")
    ),
    "sos_commands/kernel/dmesg": "[  9.1] nf_conntrack: nf_conntrack: table full, dropping packet\n",
    "sos_commands/firewall_tables/iptables_-t_nat_-nvL": LISTING + RULE,
    "sos_commands/conntrack/conntrack_-S": "cpu=0   \tfound=0 invalid=0 insert_failed=0 drop=300 early_drop=0\n",
    "sos_commands/networking/namespaces/blue/ip_netns_exec_blue_iptables-save": MASQUERADE,
    "var/log/journal/huge": "x" * 1000,
}


def folder(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_record_as_archive_and_as_folder(tmp_path: Path) -> None:
    texts = files(own={"iptables-legacy-save": MASQUERADE})
    write_archive(str(tmp_path / "a.tar.gz"), texts)
    folder(tmp_path / "b" / FOLDER, texts)
    for path in (tmp_path / "a.tar.gz", tmp_path / "b", tmp_path / "b" / FOLDER):
        assert inspect(read_record(str(path))).looks[0].attached.answer is True


@pytest.mark.parametrize("packed", [False, True])
def test_a_sosreport(tmp_path: Path, packed: bool) -> None:
    root = folder(tmp_path / "sosreport-web1-2026", SOS)
    path = root
    if packed:
        path = tmp_path / "sos.tar.xz"
        with tarfile.open(path, "w:xz") as archive:
            archive.add(root, root.name)
    found = inspect(read_record(str(path)))
    own, blue = found.looks
    assert (own.attached.answer, own.attached.families, own.status) == (True, ("ip",), 1)
    assert [gap.what for gap in own.attached.gaps] == ["legacy rules of IPv6"], "ip6_tables is loaded"
    assert own.table.counters["drop"] == 300
    assert (blue.namespace.names, blue.attached.answer) == (("blue",), True)
    assert blue.attached.gaps, "nft of a namespace is not in a sosreport"
    assert found.messages is not None
    assert found.messages.count == 1


def test_absent_is_unknown(tmp_path: Path) -> None:
    kept = {name: text for name, text in SOS.items() if "iptables" not in name}
    found = inspect(read_record(str(folder(tmp_path / "sosreport-x", kept)))).looks[0]
    assert found.attached.answer is not False


def test_a_folder_of_pasted_texts(tmp_path: Path) -> None:
    path = folder(
        tmp_path, {"rules.txt": "-P INPUT ACCEPT\n-A INPUT -m state --state NEW -j DROP\n", "holiday.txt": "sun\n"}
    )
    found = inspect(read_record(str(path)))
    assert found.looks[0].attached.answer is True
    assert any("holiday.txt" in problem for problem in found.problems)


def test_one_text_on_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"root@web1:~# iptables -t nat -S\n-P POSTROUTING ACCEPT\n-A POSTROUTING -j MASQUERADE\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert inspect(read_record("-")).looks[0].attached.answer is True


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({}, "no text"),
        ({"a.txt": "hello\n"}, "nothing in it is known"),
        ({**files(), "version": "2\n"}, "version 2"),
        ({**files(), "version": "x\n"}, "no version"),
        ({"version": "1\n", "host/uname": "6.1.0\n"}, "incomplete"),
    ],
)
def test_what_is_none_is_said(tmp_path: Path, texts: dict[str, str], words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        read_record(str(folder(tmp_path, texts)))


def test_a_missing_record_is_said() -> None:
    with pytest.raises(ScenarioError, match="no such record"):
        read_record("/nowhere/at/all")


def test_an_archive_on_stdin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b"x"))))
    with pytest.raises(ScenarioError, match="standard input: an archive"):
        read_record("-")
