"""What a target with another kernel is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.core.errors import ScenarioError
from lab.host.machines.kinds import expand_targets, parse_target
from lab.host.machines.qemu.targets import kernel_label, labelled, split_kernel


@pytest.mark.parametrize(
    ("source", "label"),
    [
        ("/srv/linux-image-6.12.95-amd64_6.12.95-1_amd64.deb", "6.12.95-amd64"),
        ("debs/linux-image-6.12.95_6.12.95-4_amd64.deb", "6.12.95"),
        ("a/linux-image-6.1.0-50-cloud-amd64.deb,b/linux-modules.deb", "6.1.0-50-cloud-amd64"),
        ("kernel-core-6.12.0-55.el10.x86_64.rpm", "6.12.0-55.el10.x86_64"),
        ("/boot/vmlinuz-5.10.0-35-amd64", "5.10.0-35-amd64"),
        ("https://example.org/linux-image-6.6.9_amd64.deb#sha256=00", "6.6.9"),
        ("apt:bookworm-security/linux-image-rt-amd64", "linux-image-rt-amd64"),
        ("/no/where/bzImage", "bzImage"),
        ("/no/where/my kernel", "my_kernel"),
    ],
)
def test_a_kernel_without_a_name_is_called_by_its_release(source: str, label: str) -> None:
    assert kernel_label(source) == label


def test_the_release_may_be_in_the_kernel_alone(tmp_path: Path) -> None:
    setup = bytearray(0x1000)
    setup[0x202:0x206] = b"HdrS"
    setup[0x20E:0x210] = (0x300).to_bytes(2, "little")
    setup[0x500:0x510] = b"6.12.95 (me) #1\0"
    (tmp_path / "bzImage").write_bytes(setup)
    assert kernel_label(str(tmp_path / "bzImage")) == kernel_label(str(tmp_path)) == "6.12.95"


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("mine=/boot/vmlinuz", ("mine", "/boot/vmlinuz")),
        ("/tmp/a=b/bzImage", (None, "/tmp/a=b/bzImage")),
        ("./a=b", (None, "./a=b")),
        ("https://x/y.deb#sha256=00", (None, "https://x/y.deb#sha256=00")),
        ("=x", (None, "=x")),
        ("x=", (None, "x=")),
    ],
)
def test_a_name_before_a_kernel(text: str, split: tuple[str | None, str]) -> None:
    assert split_kernel(text) == split


def test_names_of_targets_with_kernels() -> None:
    specs = labelled(
        expand_targets(["debian1[23]+kernel:mine=/x/bzImage", "debian12", "debian12+kernel:/y/linux-6.6.9"])
    )
    assert [spec.name for spec in specs] == ["debian12+mine", "debian13+mine", "debian12", "debian12+6.6.9"]
    assert parse_target("debian12+mine", "/x/bzImage") == specs[0]


def test_two_kernels_of_one_name() -> None:
    with pytest.raises(
        ScenarioError, match=r"/a/linux-6\.6\.9 and /b/linux-6\.6\.9 are both debian12\+6\.6\.9"
    ) as error:
        labelled(expand_targets(["debian12+kernel:/a/linux-6.6.9", "debian12+kernel:/b/linux-6.6.9"]))
    assert "NAME=/b/linux-6.6.9" in error.value.hint


def test_a_stored_name_alone_names_no_kernel() -> None:
    with pytest.raises(ScenarioError, match="which kernel is 'mine'") as error:
        parse_target("debian12+mine")
    assert error.value.hint.startswith("--target debian12 --kernel mine=PATH")
