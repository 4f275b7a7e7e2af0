"""A whole distribution as a target: its image looked into by a guest, and cells in machines made of it.

The image is one of the lab's own roots with its kernel in a /boot apart: GPT, ext4, in a qcow2 file.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.core.errors import ScenarioError
from lab.host import images
from lab.host.machines.kinds import parse_target
from lab.host.machines.qemu.distribution import USERSPACE, PreparedDistribution, prepare_distribution
from lab.host.options import RunOptions
from tests.distribution_images import image_of_lab
from tests.vm.conftest import Guests

SEARCH = "/usr/sbin:/sbin:/usr/bin:/bin"
NEEDED = ("sfdisk", "qemu-img", "mke2fs")
pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(
        any(shutil.which(name, path=SEARCH) is None for name in NEEDED), reason=f"needs {', '.join(NEEDED)}"
    ),
]

NAT_PRESENT = """
version = 1
name = "nat-present"
summary = "For a test."
[matrix]
iptables = ["legacy", "nft"]
[[state]]
run = ["{iptables}", "--table", "nat", "--append", "POSTROUTING", "--out-interface", "eth0", "--jump", "MASQUERADE"]
[conntrack]
max = 100
[load]
connections = 300
[[expect]]
finding = "table-full"
"""
BUILD = images.BuildOptions(lambda line: None, deadline_seconds=300)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("distribution")
    yield image_of_lab(images.build(USERSPACE, BUILD), folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def prepared(image: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedDistribution:
    return prepare_distribution(parse_target(f"image:{image}"), BUILD, RunOptions())


class Watch:
    """The programs that this process, and what it starts, run while a block does."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            parents = {int(name): _parent(name) for name in os.listdir("/proc") if name.isdigit()}
            ours = {os.getpid()}
            for _ in range(5):
                ours |= {pid for pid, parent in parents.items() if parent in ours}
            self.seen |= {name for pid in ours - {os.getpid()} if (name := _program(pid))}
            time.sleep(0.02)


def _parent(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _program(pid: int) -> str:
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name
    except OSError:
        return ""


def test_nothing_of_it_runs_or_is_mounted_on_the_host(
    image: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = parse_target(f"image:{image}")
    monkeypatch.setattr("lab.host.distributions.preparing.LAYOUT_VERSION", time.time())  # not from the cache
    mounts = Path("/proc/self/mountinfo").read_text()
    with Watch() as watch:
        made = prepare_distribution(spec, BUILD, RunOptions())
    shutil.rmtree(made.bundle.directory)
    assert "qemu-system-x86_64" in watch.seen
    python = Path(os.readlink("/proc/self/exe")).name
    # rm takes away what was fetched of it
    assert watch.seen <= {"qemu-system-x86_64", "setpriv", "rm", python}
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_what_was_found(prepared: PreparedDistribution) -> None:
    told = prepared.manifest()
    assert told["distribution"].startswith("Debian GNU/Linux 13")
    assert (told["distribution_id"], told["distribution_release"]) == ("debian", "13")
    assert told["root"] == "vdb2, ext4"
    assert told["packages"]["kernel"]
    assert told["packages"]["nftables"]
    assert told["kernel_release"] == prepared.userspace.kernel_release


@pytest.mark.parametrize("iptables", ["legacy", "nft"])
def test_a_cell_gives_what_it_gives_on_the_own_target(
    iptables: str, prepared: PreparedDistribution, guests: Guests
) -> None:
    own = replace(guests, target=prepared)  # type: ignore[arg-type]
    ran = own.run(NAT_PRESENT, iptables=iptables)
    assert (ran.result["finding"], ran.result["as_expected"]) == ("table-full", True)
    assert ran.result["kernel_release"] == prepared.bundle.release
    # it has all programs itself; what builds networks is the lab's everywhere
    assert ran.result["programs_of_lab"] == ["bridge", "ip", "ss", "tc"]


@pytest.mark.parametrize("offset", [4096, 0x10000])
def test_a_damaged_image_is_refused_with_a_message(offset: int, image: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.qcow2"
    content = bytearray(image.read_bytes()[: 2 * 2**20])
    content[offset : offset + 65536] = os.urandom(65536)
    damaged.write_bytes(content)
    with pytest.raises(ScenarioError) as refused:
        prepare_distribution(parse_target(f"image:{damaged}"), BUILD, RunOptions())
    assert refused.value.hint
