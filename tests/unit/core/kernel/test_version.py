"""Kernel releases in their real order, and conditions on them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.kernel.version import FINAL, Release, VersionSpec, parse_release, parse_version_spec


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("6.1.0-50-cloud-amd64", Release(6, 1, 0)),
        ("4.10.17", Release(4, 10, 17)),
        ("6.18.44-fc-v595", Release(6, 18, 44)),
        ("3.10.0-1160.el7.x86_64", Release(3, 10, 0)),
        ("2.6.32.67", Release(2, 6, 32, 67)),
        ("2.6.32-754.el6", Release(2, 6, 32)),
        ("4.14", Release(4, 14)),
        ("7.2-rc3", Release(7, 2, 0, 0, 3)),
        ("7.2.0-rc12+", Release(7, 2, 0, 0, 12)),
        ("6.12~rc6-amd64", Release(6, 12, 0, 0, 6)),
        ("6.12.107+deb13-cloud-amd64", Release(6, 12, 107)),
        ("5.15.167.4-microsoft-standard-WSL2", Release(5, 15, 167, 4)),
    ],
)
def test_releases_as_distributions_write_them(text: str, release: Release) -> None:
    assert parse_release(text) == release


@pytest.mark.parametrize(
    "text", ["", "6", "six.one", "v6.1", " 6.1", "6.", ".1", "1234567.1", "6.1234567", "\u0663.\u0661\u0660"]
)
def test_what_is_no_release(text: str) -> None:
    with pytest.raises(ValueError, match="is not a kernel release"):
        parse_release(text)


def test_releases_sort_as_they_were_released() -> None:
    ordered = [
        "2.6.32.67",
        "3.2",
        "3.10.108",
        "4.9",
        "4.10-rc1",
        "4.10-rc10",
        "4.10",
        "4.10.17",
        "4.14.0",
        "5.1",
        "10.0",
    ]
    releases = [parse_release(text) for text in ordered]
    assert sorted(releases) == releases
    assert len(set(releases)) == len(releases)


@pytest.mark.parametrize(
    ("spec", "inside", "outside"),
    [
        (
            "<4.14",
            ["4.13.16", "4.9.0-19-amd64", "3.10.0", "2.6.32"],
            ["4.14.0", "4.14-rc1", "4.14.300", "4.100", "5.1"],
        ),
        ("<=4.14", ["4.14.0", "4.14.300", "4.13"], ["4.15", "5.0"]),
        (">4.14", ["4.15-rc1", "4.15", "5.0"], ["4.14.300", "4.14", "4.9"]),
        (">=5.1,<6.2", ["5.1", "5.1-rc1", "5.10.0-32", "6.1.192"], ["5.0.21", "6.2", "6.2-rc1", "6.12"]),
        ("==6.1", ["6.1", "6.1.0-50-cloud-amd64", "6.1.192"], ["6.10", "6.11.1", "6.12", "6.0", "5.1"]),
        ("!=6.1", ["6.10", "5.1"], ["6.1", "6.1.192"]),
        ("==6.1.192", ["6.1.192-1-amd64"], ["6.1", "6.1.19", "6.1.193"]),
        ("==2.6.32", ["2.6.32.67", "2.6.32-754.el6"], ["2.6.33", "2.6.3"]),
        (" >= 5.1 , < 6.2 ", ["5.4"], ["6.2"]),
        (">=7.2", ["7.2-rc3"], ["7.1.9"]),
    ],
)
def test_specs_speak_of_series(spec: str, inside: list[str], outside: list[str]) -> None:
    parsed = parse_version_spec(spec)
    assert [release for release in inside if not parsed.matches(release)] == []
    assert [release for release in outside if parsed.matches(release)] == []


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("", "no comparison stands before ''"),
        ("4.14", "no comparison stands before '4.14'"),
        ("=4.14", "'=' is no comparison"),
        ("=>4.14", "'=>' is no comparison"),
        ("~=4.14", "'~=' is no comparison"),
        ("<4", "'4' is no kernel version"),
        ("<", "'' is no kernel version"),
        ("<4.14,", "no comparison stands before ''"),
        ("<4.14 <5", "'4.14 <5' is no kernel version"),
        ("<7.2-rc3", "'7.2-rc3' is no kernel version"),
        ("<4.x", "'4.x' is no kernel version"),
        ("<4.14\n", None),
        ("<v4.14", "'v4.14' is no kernel version"),
        ("<1.2.3.4.5", "'1.2.3.4.5' is no kernel version"),
    ],
)
def test_bad_specs_say_what_is_wrong(spec: str, complaint: str | None) -> None:
    if complaint is None:
        assert parse_version_spec(spec) == parse_version_spec(spec.strip())
        return
    with pytest.raises(ValueError) as caught:
        parse_version_spec(spec)
    assert complaint in str(caught.value)


def test_a_spec_is_written_back_without_its_spaces() -> None:
    assert str(parse_version_spec(" >= 5.1 ,<6.2")) == ">=5.1,<6.2"


_numbers = st.integers(0, 50)
_releases = st.builds(Release, _numbers, _numbers, _numbers, st.just(0), st.sampled_from([1, 7, FINAL]))
_versions = st.lists(_numbers, min_size=2, max_size=4).map(lambda numbers: ".".join(map(str, numbers)))


@given(_releases, _versions)
def test_exactly_one_of_less_equal_greater_holds(release: Release, version: str) -> None:
    assert [parse_version_spec(f"{compare}{version}").matches(release) for compare in ("<", "==", ">")].count(True) == 1


@given(_releases, _versions)
def test_each_comparison_is_the_opposite_of_another(release: Release, version: str) -> None:
    for one, other in (("<", ">="), (">", "<="), ("==", "!=")):
        spec, opposite = (parse_version_spec(f"{compare}{version}") for compare in (one, other))
        assert spec.matches(release) is not opposite.matches(release)


@given(st.lists(_releases, min_size=2, max_size=2).map(sorted), _versions)
def test_a_bound_never_lets_a_later_release_in_and_an_earlier_out(pair: list[Release], version: str) -> None:
    earlier, later = pair
    for compare in ("<", "<="):
        spec = parse_version_spec(f"{compare}{version}")
        assert spec.matches(earlier) or not spec.matches(later)


@given(_releases)
def test_a_release_is_read_back_from_its_text(release: Release) -> None:
    candidate = "" if release.candidate == FINAL else f"-rc{release.candidate}"
    assert parse_release(f"{release.major}.{release.minor}.{release.patch}{candidate}-amd64") == release


@given(st.text(max_size=40))
def test_any_text_is_a_spec_or_a_value_error(text: str) -> None:
    try:
        spec = parse_version_spec(text)
    except ValueError:
        return
    assert isinstance(spec, VersionSpec)
    assert parse_version_spec(str(spec)) == spec


def test_clauses_join_with_and() -> None:
    kernels = ["4.13", "4.14", "5.0", "5.1"]
    for low, high in itertools.combinations(["4.14", "5.0", "5.1"], 2):
        spec = parse_version_spec(f">={low},<{high}")
        parts = [parse_version_spec(f">={low}"), parse_version_spec(f"<{high}")]
        assert [spec.matches(one) for one in kernels] == [all(part.matches(one) for part in parts) for one in kernels]
