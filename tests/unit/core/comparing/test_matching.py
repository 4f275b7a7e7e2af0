"""Which targets are compared: by name, by family, by being the only ones, or as the user says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.comparing.matching import TargetPair, family, match_targets
from lab.core.errors import ScenarioError

OWN, OTHER = "debian12+kernel:/tmp/a=b/linux.deb", "debian12+kernel:other.deb"
BOX = "vagrant:https://example.org/x.box#sha256=00ff"


def pairs(base: list[str], new: list[str], *wanted: str) -> list[tuple[str, str]]:
    return [(pair.base, pair.new) for pair in match_targets(base, new, wanted)]


@pytest.mark.parametrize(
    ("target", "of"),
    [
        ("debian12", "debian12"),
        (OWN, "debian12"),
        ("debian13-backports", "debian13-backports"),
        (BOX, BOX),
        ("vagrant:debian12", "debian12"),
    ],
)
def test_neither_a_kernel_of_ones_own_nor_a_box_of_the_same_packages_changes_the_family(target: str, of: str) -> None:
    assert family(target) == of


@pytest.mark.parametrize(
    ("base", "new", "expected"),
    [
        (["debian12"], ["debian12"], [("debian12", "debian12")]),
        (["debian12"], [OWN], [("debian12", OWN)]),
        ([OTHER], [OWN], [(OTHER, OWN)]),
        (["debian12", "debian13"], ["vagrant:debian13"], [("debian13", "vagrant:debian13")]),
        # the same name comes before the same family
        (["debian12"], ["debian12", OWN], [("debian12", "debian12")]),
        (["debian12", OTHER], ["debian12", OWN], [("debian12", "debian12"), (OTHER, OWN)]),
        (["debian11", "debian12"], [OWN, "debian11"], [("debian11", "debian11"), ("debian12", OWN)]),
        # two that are alone are what is meant
        (["debian12"], [BOX], [("debian12", BOX)]),
        (["debian12"], ["debian13"], [("debian12", "debian13")]),
        (["debian12", "debian13"], ["debian11"], []),
        ([OTHER, OWN], ["debian11", "debian13"], []),
    ],
)
def test_targets_find_each_other(base: list[str], new: list[str], expected: list[tuple[str, str]]) -> None:
    assert pairs(base, new) == expected
    assert sorted(pairs(new, base)) == sorted((theirs, ours) for ours, theirs in expected)


@pytest.mark.parametrize(("base", "new"), [(["debian12"], [OWN, OTHER]), ([OWN, OTHER], ["debian12"])])
def test_a_family_of_several_is_for_the_user_to_match(base: list[str], new: list[str]) -> None:
    with pytest.raises(ScenarioError, match="can be matched in several ways") as raised:
        match_targets(base, new)
    pair = raised.value.hint.rpartition("--match ")[2]
    assert match_targets(base, new, [pair]) == (TargetPair(base[0], new[0]),)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ((f"debian12={OWN}",), [("debian12", OWN)]),
        (("debian12=debian12+kernel:*",), [("debian12", OWN)]),
        ((f"{OWN}={BOX}",), [(OWN, BOX)]),
        ((f"{OWN}=vagrant:*", "debian12=debian12"), [(OWN, BOX), ("debian12", "debian12")]),
        ((f"debian12={OWN}", "debian12=debian12"), [("debian12", OWN), ("debian12", "debian12")]),
        (("debian12=debian12", "debian12=debian12"), [("debian12", "debian12")]),
    ],
)
def test_the_user_says_what_belongs_together(wanted: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    targets = ["debian12", OWN, BOX]
    assert pairs(targets, targets, *wanted) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("debian12", "means no pair of targets"),
        ("=", "means no pair of targets"),
        ("debian12=debian99", "means no pair of targets"),
        ("debian99=debian12", "means no pair of targets"),
        ("debian12=debian*", "means 2 pairs of targets"),
    ],
)
def test_what_means_no_pair_is_refused(text: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=f"^--match {text.replace('*', '[*]')}: {words}") as raised:
        match_targets(["debian12"], ["debian12", OWN], [text])
    assert f"NEW has debian12, {OWN}" in raised.value.hint


NAMES = st.lists(st.sampled_from(["debian11", "debian12", "debian13", OWN, BOX, "host"]), unique=True, max_size=4)


@given(NAMES, NAMES)
def test_no_target_is_in_two_pairs_unless_asked_for(base: list[str], new: list[str]) -> None:
    try:
        found = pairs(base, new)
    except ScenarioError:
        return
    ours, theirs = [one for one, _ in found], [other for _, other in found]
    assert len(set(ours)) == len(ours)
    assert len(set(theirs)) == len(theirs)
    assert set(ours) <= set(base)
    assert set(theirs) <= set(new)


def test_a_named_kernel_is_of_the_family_of_its_userspace() -> None:
    assert [family(name) for name in ("debian12+mine", "debian12+kernel:/a+b", "debian12", "vagrant:/a+b.box")] == [
        *("debian12", "debian12", "debian12"),
        "vagrant:/a+b.box",
    ]
    assert match_targets(["debian12+a", "debian12+b"], ["debian12+b", "debian12+c"]) == (
        TargetPair("debian12+b", "debian12+b"),
        TargetPair("debian12+a", "debian12+c"),
    )
