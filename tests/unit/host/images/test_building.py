"""What is read off a tree before it becomes an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.host.images.building import programs_in


@pytest.mark.parametrize("merged", [True, False])
def test_programs_are_found_with_a_merged_usr_and_without(tmp_path: Path, merged: bool) -> None:
    for folder in ("usr/bin", "usr/sbin"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("bin", "sbin"):
        (tmp_path / name).symlink_to(f"usr/{name}") if merged else (tmp_path / name).mkdir()
    for path in ("bin/sh", "sbin/modprobe", "usr/bin/nstat", "usr/sbin/conntrack"):
        (tmp_path / path).write_text("")
        (tmp_path / path).chmod(0o755)
    (tmp_path / "sbin/README").write_text("")
    (tmp_path / "usr/sbin/iptables").symlink_to("/etc/alternatives/iptables")
    assert programs_in(tmp_path) == ["conntrack", "iptables", "modprobe", "nstat", "sh"]
