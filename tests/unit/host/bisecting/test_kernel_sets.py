"""What `--kernels` means: folders, lists, globs of files, kernels of a suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.core.bisecting.points import Point
from lab.core.errors import ScenarioError
from lab.host.bisecting import kernel_sets
from lab.host.cache import Deadline
from lab.host.kernels.apt import AptPackage
from tests.unit.host.kernels.test_kernels import place_kernel, place_modules

SUITE = [
    AptPackage("linux-image-cloud-amd64", "6.12.95-1~bpo12+1", 2000, "m" * 64, ("linux-image-6.12.95-cloud-amd64",)),
    AptPackage("linux-image-6.12.9-cloud-amd64", "6.12.9-1", 34_000_000, "a" * 64, ("kmod",)),
    AptPackage("linux-image-6.12.95-cloud-amd64", "6.12.95-1~bpo12+1", 34_000_000, "b" * 64, ("kmod",)),
    AptPackage("linux-image-6.12.95-rt-amd64", "6.12.95-1~bpo12+1", 34_000_000, "c" * 64, ("kmod",)),
    AptPackage("linux-image-6.19.6-cloud-amd64", "6.19.6-1", 2000, "d" * 64, ("kmod",), ("linux-modules-6.19.6",)),
]


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A suite's kernels, without a mirror; and how often each suite's lists were read."""
    read: list[str] = []

    def kernels_in(name: str, progress: Callable[[str], None], deadline: Deadline) -> list[AptPackage]:
        read.append(name)
        return SUITE

    monkeypatch.setattr(kernel_sets, "kernels_in", kernels_in)
    return read


def expand(*sets: str) -> list[Point]:
    return list(kernel_sets.expand(sets, lambda line: None))


def names(*sets: str) -> list[str]:
    return [point.name for point in expand(*sets)]


def test_a_glob_of_a_suite_leaves_out_metapackages_and_what_cannot_be_had(suite: list[str]) -> None:
    said: list[str] = []
    points = kernel_sets.expand(["apt:bookworm-backports/linux-image-*-cloud-amd64"], said.append)
    assert [(point.name, point.version) for point in points] == [
        ("6.12.9-cloud-amd64", "6.12.9-1"),
        ("6.12.95-cloud-amd64", "6.12.95-1~bpo12+1"),
    ]
    assert points[0].source == "apt:bookworm-backports/linux-image-6.12.9-cloud-amd64"
    assert any("without 1 kernel of which the suite no longer has the modules" in line for line in said)


def test_the_same_package_from_two_suites_is_one_kernel_and_lists_are_read_once(suite: list[str]) -> None:
    assert names("apt:bookworm/*-rt-*", "apt:bookworm-security/*-rt-*", "apt:bookworm/*6.12.9-*") == [
        "6.12.9-cloud-amd64",
        "6.12.95-rt-amd64",
    ]
    assert suite == ["bookworm", "bookworm-security"]


def test_a_metapackage_is_the_kernel_that_it_leads_to(suite: list[str]) -> None:
    (point,) = expand("apt:bookworm/linux-image-cloud-amd64")
    assert (point.name, point.content) == ("6.12.95-cloud-amd64", "b" * 64)


def test_a_folder_of_packages(tmp_path: Path) -> None:
    for name in (
        "linux-image-6.12.90+deb12.1-amd64_6.12.90-2~bpo12+1_amd64.deb",
        "linux-image-6.12.9-amd64_6.12.9-1_amd64.deb",
        "linux-image-6.8.0-31-generic_6.8.0-31.31_amd64.deb",
        "linux-modules-6.8.0-31-generic_6.8.0-31.31_amd64.deb",
        "README",
    ):
        (tmp_path / name).write_text(name)
    points = expand(str(tmp_path))
    assert [(point.name, point.version) for point in points] == [
        ("6.8.0-31-generic", "6.8.0-31.31"),
        ("6.12.9-amd64", "6.12.9-1"),
        ("6.12.90+deb12.1-amd64", "6.12.90-2~bpo12+1"),
    ]
    # two packages of one release are one kernel
    assert [Path(part).name.partition("_")[0] for part in points[0].source.split(",")] == [
        "linux-image-6.8.0-31-generic",
        "linux-modules-6.8.0-31-generic",
    ]
    # a glob of the same files is the same set, and a copy is no other kernel
    assert expand(f"{tmp_path}/*.deb") == points
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "linux-image-6.12.9-copy.deb").write_text("linux-image-6.12.9-amd64_6.12.9-1_amd64.deb")
    both = expand(str(tmp_path), str(tmp_path / "other"))
    assert len(both) == 3
    assert any(point.also for point in both)


def test_a_folder_of_builds(tmp_path: Path) -> None:
    for folder, release in (("b", "6.1.9"), ("a", "6.1.10"), ("one", "5.10.0"), ("two", "5.10.0")):
        place_kernel(tmp_path / folder, release)
        place_modules(tmp_path / folder, release)
    (tmp_path / "notes").mkdir()
    # builds of one release are called by their folders
    assert sorted(names(str(tmp_path))) == ["6.1.10", "6.1.9", "one", "two"]
    assert names(f"{tmp_path}/?") == ["6.1.9", "6.1.10"]
    # a folder that is a kernel is one kernel
    assert names(str(tmp_path / "a")) == ["6.1.10"]


def test_a_list(tmp_path: Path, suite: list[str]) -> None:
    kernel = place_kernel(tmp_path / "own", "6.1.9")
    listed = tmp_path / "kernels.txt"
    listed.write_text(
        f"# those of ours\nbefore={kernel}   # not the newest\n\napt:bookworm/*-cloud-*\n"
        f"https://example.org/linux-6.13.tar.zst#sha256={'a' * 64}\n"
    )
    assert set(names(str(listed))) == {"before", "6.12.9-cloud-amd64", "6.12.95-cloud-amd64", "6.13.tar.zst"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/nonexistent/kernels", "no such file or folder"),
        ("/nonexistent/*.deb", "no such file or folder"),
        ("{folder}", "has neither packages of kernels nor folders with a kernel"),
        ("{folder}/list", r"list:2: --kernels /nonexistent: no such file or folder"),
        ("{folder}/lists", r"lists:1: .* is neither a package nor a bzImage"),
        ("{folder}/binary", "is neither a package, a bzImage nor a list of kernels"),
        ("apt:bookworm/linux-image-9*", "no kernel of the suite matches"),
        ("apt:../*", "is no suite"),
    ],
)
def test_what_means_nothing_is_refused_with_a_hint(tmp_path: Path, suite: list[str], text: str, message: str) -> None:
    (tmp_path / "list").write_text("apt:bookworm/*\n/nonexistent\n")
    (tmp_path / "lists").write_text(f"{tmp_path}/list\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match=message) as caught:
        expand(text.format(folder=tmp_path))
    assert caught.value.hint
