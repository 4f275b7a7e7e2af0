"""The manifest: the command without its place, and the versions of the packages that matter."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from lab.host.cli.main import command_line
from lab.host.images import Image
from lab.host.machines.kinds import parse_target
from lab.host.machines.machine import Ready
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.command import TCG
from lab.host.machines.qemu.preparing import PreparedImage, package_versions
from lab.host.machines.qemu.provisioner import QemuProvisioner
from lab.host.options import Deadlines, read_options
from lab.host.run.manifest import manifest_of
from lab.host.run.planned import plan_run
from tests import ROOT

SCHEMA = json.loads((ROOT / "lab" / "schemas" / "manifest.schema.json").read_text())
PACKAGES = """\
busybox-static 1:1.35.0-4+b5 amd64
conntrack 1:1.4.7-1+b2 amd64
iptables 1.8.9-2 amd64
libnftables1 1.0.6-2+deb12u2 amd64
libnftnl11 1.2.4-2 amd64
libxtables12 1.8.9-2 amd64
linux-image-6.1.0-50-cloud-amd64 6.1.176-1 amd64
linux-image-cloud-amd64 6.1.176-1 amd64
nftables 1.0.6-2+deb12u2 amd64
python3 3.11.2-1+b1 amd64
python3.11 3.11.2-6+deb12u8 amd64
"""
RELEASE = "6.1.0-50-cloud-amd64"
TOLD = {
    "conntrack": "1:1.4.7-1+b2",
    "iptables": "1.8.9-2",
    "libnftnl11": "1.2.4-2",
    "libxtables12": "1.8.9-2",
    "nftables": "1.0.6-2+deb12u2",
    "python3": "3.11.2-1+b1",
}


def prepared(folder: Path) -> PreparedImage:
    image = Image("debian12", "0" * 64, folder, RELEASE, {"root.ext4": "1" * 64}, "2026-01-01T00:00:00+00:00")
    return PreparedImage(parse_target("debian12"), image, None)


def errors(document: object) -> list[str]:
    used = {"$schema": SCHEMA["$schema"], "$ref": "#/$defs/target", "$defs": SCHEMA["$defs"]}
    return [error.message for error in jsonschema.Draft202012Validator(used).iter_errors(document)]


def test_the_versions_that_matter_are_told_the_kernels_first() -> None:
    assert next(iter(package_versions(PACKAGES, RELEASE).items())) == (f"linux-image-{RELEASE}", "6.1.176-1")
    assert package_versions(PACKAGES, RELEASE) == {f"linux-image-{RELEASE}": "6.1.176-1", **TOLD}


def test_a_kernel_that_is_not_booted_is_not_told() -> None:
    assert package_versions(PACKAGES, None) == TOLD


def test_a_target_has_its_packages_in_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "packages.txt").write_text(PACKAGES)
    manifest = prepared(tmp_path).manifest()
    assert manifest["packages"] == {f"linux-image-{RELEASE}": "6.1.176-1", **TOLD}
    assert errors(manifest) == []


def test_unknown_packages_are_null_and_old_manifests_valid(tmp_path: Path) -> None:
    manifest = prepared(tmp_path).manifest()
    assert manifest["packages"] is None
    assert errors(manifest) == []
    del manifest["packages"]
    assert errors(manifest) == []


@pytest.mark.parametrize("program", ["/srv/checkout/.venv/bin/lab", "/srv/checkout/lab/__main__.py", "lab"])
def test_the_command_does_not_tell_where_the_program_is(
    monkeypatch: pytest.MonkeyPatch, project_root: Path, program: str
) -> None:
    monkeypatch.chdir(project_root)
    monkeypatch.setattr(sys, "argv", [program, "run", "pristine", "--kernel", "/srv/own/vmlinuz"])
    options = read_options(command_line().parse_args(sys.argv[1:]), sys.argv)
    qemu = QemuBinary("/usr/bin/qemu-system-x86_64", "QEMU emulator version 10.0.2", (10, 0, 2), "cpu")
    ready = Ready(QemuProvisioner(qemu, TCG, Deadlines()), {})
    manifest = manifest_of(plan_run(options), options, ready.provisioner.manifest(), ready.targets)
    assert list(manifest.command or ()) == ["lab", "run", "pristine", "--kernel", "/srv/own/vmlinuz"]
