"""The order of kernels, those that are the same, and the ends of a bisection."""

from __future__ import annotations

from random import Random

import pytest

from lab.core.bisecting.points import Point, between, in_order, require_several, version_key
from lab.core.errors import ScenarioError

# as Debian's kernels came out; names where a mirror has no other version
RELEASED = [
    "2.6.32.67",
    "4.14.67",
    "6.1.0-9-amd64",
    "6.1.0-50-amd64",
    "6.1.170-3",
    "6.12~rc6-1",
    "6.12.43-1~bpo12+1",
    "6.12.43-1",
    "6.12.90-1~bpo12+1",
    "6.12.90-2~bpo12+1",
    "6.12.117-1",
    "6.19.6-2~bpo13+1",
    "6.19.14-1~bpo13+1",
    "7.2-rc3",
    "7.2-rc11",
    "7.2",
    "7.2.6-1~bpo13+1",
    "7.3~rc7-1~exp1",
    "7.3.4-1~bpo13+1",
]


def point(name: str, content: str | None = None, version: str = "") -> Point:
    return Point(name, f"/kernels/{name}", version, content)


def test_versions_sort_as_they_were_released() -> None:
    shuffled = RELEASED[:]
    Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=version_key) == RELEASED


def test_the_version_of_the_package_counts_before_the_name() -> None:
    points = in_order([point("7.3-amd64", version="7.3~rc7-1~exp1"), point("7.2.13+deb14", version="7.2.13-1")])
    assert [one.name for one in points] == ["7.2.13+deb14", "7.3-amd64"]
    # the flavours of one version stand beside each other
    flavours = [point(f"6.1.0-{number}-{kind}", version=f"6.1.{170 + number}") for number in (2, 1) for kind in "ba"]
    assert [one.name for one in in_order(flavours)] == ["6.1.0-1-a", "6.1.0-1-b", "6.1.0-2-a", "6.1.0-2-b"]


def test_kernels_of_equal_content_are_one_and_keep_their_names() -> None:
    points = in_order([point("6.1", "a"), Point("copy", "/elsewhere/copy", "6.1", "a"), point("6.2", "b")])
    assert [(one.name, one.also) for one in points] == [("6.1", ("copy",)), ("6.2", ())]
    assert between(points, "copy", "6.2")[0] is points[0]
    # the same package in two suites has one name
    twice = in_order([Point("6.1", "apt:a/6.1", "6.1", "a"), Point("6.1", "apt:b/6.1", "6.1", "a")])
    assert [(one.name, one.also) for one in twice] == [("6.1", ())]


def test_two_kernels_of_one_name_are_refused() -> None:
    with pytest.raises(ScenarioError, match=r"/a/6\.1 and /b/6\.1 are both called 6\.1") as caught:
        in_order([Point("6.1", "/a/6.1"), Point("6.1", "/b/6.1")])
    assert "NAME=KERNEL" in caught.value.hint


def test_one_kernel_is_no_set() -> None:
    with pytest.raises(ScenarioError, match=r"--kernels apt:trixie: means one kernel, 6\.12") as caught:
        require_several([point("6.12")], "--kernels apt:trixie")
    assert "apt:SUITE/GLOB" in caught.value.hint
    with pytest.raises(ScenarioError, match="means no kernel"):
        require_several([], "--kernels x")


SET = in_order(point(name) for name in ("6.1.1", "6.1.10-amd64", "6.1.10-cloud-amd64", "6.2.0+deb13-amd64", "6.3"))


@pytest.mark.parametrize(
    ("good", "bad", "names"),
    [
        (None, None, ["6.1.1", "6.1.10-amd64", "6.1.10-cloud-amd64", "6.2.0+deb13-amd64", "6.3"]),
        ("6.1.1", "6.2.0", ["6.1.1", "6.1.10-amd64", "6.1.10-cloud-amd64", "6.2.0+deb13-amd64"]),
        ("/kernels/6.1.10-cloud-amd64", "6.3", ["6.1.10-cloud-amd64", "6.2.0+deb13-amd64", "6.3"]),
    ],
)
def test_an_end_is_a_name_a_source_or_the_beginning_of_one_name(
    good: str | None, bad: str | None, names: list[str]
) -> None:
    assert [one.name for one in between(SET, good, bad)] == names


@pytest.mark.parametrize(
    ("good", "bad", "message", "hint"),
    [
        ("6.4", None, "--good 6.4: is not in the set", "did you mean 6.3?"),
        (None, "nonsense", "--bad nonsense: is not in the set", "it has 6.1.1, 6.1.10-amd64"),
        ("6.1.10", None, "may be any of 6.1.10-amd64, 6.1.10-cloud-amd64", "the whole name"),
        ("6.3", None, "are the same kernel, 6.3", "name two"),
        ("6.3", "6.1.1", "--bad 6.1.1 comes before --good 6.3", "exchange"),
    ],
)
def test_wrong_ends_are_refused(good: str | None, bad: str | None, message: str, hint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        between(SET, good, bad)
    assert message in str(caught.value)
    assert hint in caught.value.hint
