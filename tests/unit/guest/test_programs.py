"""The lab's own programs beside a distribution's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.guest import programs


@pytest.fixture
def lab_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of the lab's: programs by Debian's links, of which some are absolute."""
    root, scripts, own = tmp_path / "root", tmp_path / "bin", tmp_path / "own"
    for folder in ("usr/sbin", "usr/bin", "etc/alternatives"):
        (root / folder).mkdir(parents=True)
    own.mkdir()
    for name in ("xtables-nft-multi", "nft"):
        (root / "usr/sbin" / name).write_text("")
        (root / "usr/sbin" / name).chmod(0o755)
    (root / "usr/bin/ip").write_text("")
    (root / "usr/bin/ip").chmod(0o755)
    (root / "usr/sbin/iptables-nft").symlink_to("xtables-nft-multi")
    (root / "etc/alternatives/iptables").symlink_to("/usr/sbin/iptables-nft")
    (root / "usr/sbin/iptables").symlink_to("/etc/alternatives/iptables")
    (root / "usr/sbin/tc").symlink_to("/nowhere")
    monkeypatch.setattr(programs, "ROOT", str(root))
    monkeypatch.setattr(programs, "SCRIPTS", str(scripts))
    monkeypatch.setattr(programs, "OWN_PATH", str(own))
    return tmp_path


def test_each_program_has_a_script_that_runs_it_by_the_labs_loader(
    lab_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = lab_root / "loader"
    loader.write_text('#!/bin/sh\necho "$XTABLES_LIBDIR $*"\n')
    loader.chmod(0o755)
    monkeypatch.setattr(programs, "_LOADER", str(loader))
    monkeypatch.setattr(programs, "_LIBRARIES", "/libraries")
    programs.provide()
    assert sorted(path.name for path in (lab_root / "bin").iterdir()) == ["ip", "iptables", "iptables-nft", "nft"]
    said = subprocess.run(
        [str(lab_root / "bin/iptables"), "-L", "a b"], capture_output=True, text=True, check=True, timeout=20
    )
    multi = lab_root / "root/usr/sbin/xtables-nft-multi"
    options = f"--argv0 iptables --library-path /libraries {multi} -L a b"
    assert said.stdout == f"/libraries/xtables {options}\n"


def test_what_builds_networks_is_the_labs_and_the_rest_only_where_it_lacks(lab_root: Path) -> None:
    programs.provide()
    (lab_root / "own/nft").write_text("")
    (lab_root / "own/nft").chmod(0o755)
    lent = programs.lent()
    assert lent is not None
    assert "nft" not in lent
    assert lent == ["iptables", "iptables-nft", "ip"]
    assert programs.instrument("ip") == str(lab_root / "bin/ip")
    assert programs.instrument("tc") == "tc"  # the lab has none itself here
    assert programs.instrument("nft") == "nft"


def test_without_a_distribution_nothing_is_written_or_lent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "ROOT", str(tmp_path / "none"))
    monkeypatch.setattr(programs, "SCRIPTS", str(tmp_path / "bin"))
    programs.provide()
    assert (programs.lent(), list(tmp_path.iterdir())) == (None, [])
