"""Targets that are whole distributions: what they name, and what of them is as it was for a replay."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from lab.core.distribution.layout import Root
from lab.core.distribution.settings import BootSettings
from lab.core.errors import ScenarioError
from lab.core.scenario import MachineSpec
from lab.host import images
from lab.host.distributions.bundle import DistributionBundle
from lab.host.distributions.image_file import ImageFile
from lab.host.images import Image
from lab.host.machines.kinds import expand_targets, parse_target
from lab.host.machines.qemu import distribution
from lab.host.machines.qemu.command import DiskImage
from lab.host.machines.qemu.distribution import PreparedDistribution, planned_distribution
from lab.host.machines.qemu.replaying import target_changes
from lab.host.machines.qemu.targets import is_distribution, with_kernel
from lab.host.options import RunOptions

USERSPACE = Image("debian13", "0" * 64, Path("image"), "6.12", {"root.ext4": "1" * 64}, "2026-01-01T00:00:00+00:00")
CONTENT = b"an image"
RECORDED: dict[str, Any] = {
    "distribution_sha256": hashlib.sha256(CONTENT).hexdigest(),
    "userspace_sha256s": dict(USERSPACE.sha256s),
}


@pytest.fixture(autouse=True)
def userspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "load", lambda target: USERSPACE)


def prepared(cpu: bool = False, config: Path | None = None) -> PreparedDistribution:
    root = Root("vdb1", "ext4", "ro", {"ID": "test", "PRETTY_NAME": "Test 1"})
    files = {"config": "3" * 64} if config else {}
    folder = config.parent if config else Path("bundle")
    bundle = DistributionBundle(root, "6.1.0", "2" * 64, cpu, {}, BootSettings((), {}, ()), folder, files, "")
    file = ImageFile(Path("/x.qcow2"), "qcow2", "2" * 64)
    return PreparedDistribution(parse_target("image:/x.qcow2"), file, bundle, USERSPACE)


def test_images_and_rows_are_targets_of_qemu() -> None:
    for name in ("image:/x.qcow2", "ubuntu24.04"):
        spec = parse_target(name)
        assert (spec.kind, spec.name, is_distribution(spec)) == ("qemu", name, True)
    assert not is_distribution(parse_target("debian12"))
    assert [spec.name for spec in expand_targets(["rocky*"])] == ["rocky8", "rocky9", "rocky10"]
    # a glob that means targets of the lab means no images of hundreds of megabytes beside them
    assert all(not is_distribution(spec) for spec in expand_targets(["debian*", "*"]))


def test_it_has_no_other_kernel() -> None:
    with pytest.raises(ScenarioError, match=r"ubuntu24\.04 boots its own kernel"):
        with_kernel(parse_target("ubuntu24.04"), "apt:bookworm")


def test_its_machine() -> None:
    machine = prepared(cpu=True).machine(MachineSpec())
    assert machine.distribution == DiskImage("/x.qcow2", "qcow2")
    assert (machine.root_disk, machine.kernel) == (Path("image/root.ext4"), Path("bundle/vmlinuz"))
    assert (machine.newest_processor, machine.lacking) == (True, None)
    other = prepared().machine(MachineSpec(packages=("ufw",)))
    assert other.lacking == "image:/x.qcow2: packages are installed only in the lab's own images"


def test_a_configuration_of_its_kernel_is_used_where_the_image_has_it(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("CONFIG_NF_CONNTRACK=m\nCONFIG_SOUND=m\n")
    assert prepared(config=tmp_path / "config").kernel_config(MachineSpec()) == "CONFIG_NF_CONNTRACK=m\n"
    assert prepared().kernel_config(MachineSpec()) is None


def test_a_plan_can_be_shown_before_anything_is_fetched() -> None:
    planned = planned_distribution(parse_target("image:/nowhere.qcow2"), MachineSpec())
    assert planned.distribution == DiskImage("/nowhere.qcow2", "qcow2")


@pytest.mark.parametrize(
    ("content", "recorded", "said"),
    [
        (CONTENT, {}, None),
        (b"another", {}, "the image is another one"),
        (None, {}, "the image is gone"),
        (CONTENT, {"userspace_sha256s": {"root.ext4": "9" * 64}}, "are of another build of debian13"),
    ],
)
def test_what_is_not_as_it_was(
    content: bytes | None, recorded: dict[str, Any], said: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "x.qcow2"
    if content is not None:
        file.write_bytes(content)
    changes, _ = target_changes(
        parse_target(f"image:{file}"), {**RECORDED, **recorded}, RunOptions(), lambda line: None
    )
    assert [said in change.what for change in changes if said] == ([True] if said else [])
    assert bool(changes) == (said is not None)


def test_a_row_that_is_not_pinned_any_more_says_so() -> None:
    changes, _ = target_changes(parse_target("ubuntu24.04"), RECORDED, RunOptions(), lambda line: None)
    assert "today's digest" in changes[0].what


def test_the_userspace_beside_them_is_one_of_the_labs() -> None:
    assert distribution.USERSPACE.name == "debian13"
