"""The sampler: raw text again and again, files that come and go, and no number where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lab.guest import sampler as sampling
from lab.guest.sampler import Sampler, drops, gap_seconds, is_full
from lab.guest.worker import TICK_SECONDS

STAT = "entries  drop early_drop\n00000064  {:08x} 00000000\n00000064  00000002 00000000\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sampling, "SAMPLED", {name: str(tmp_path / name) for name in ("count", "max", "stat")})
    return tmp_path


@pytest.fixture
def sampler(folder: Path) -> Iterator[Sampler]:
    with closing(Sampler()) as sampler:
        yield sampler


def fill(folder: Path, count: int, drop: int = 0) -> None:
    for name, text in {"count": f"{count}\n", "max": "100\n", "stat": STAT.format(drop)}.items():
        (folder / name).write_text(text)


def test_each_sample_is_fresh(folder: Path, sampler: Sampler) -> None:
    fill(folder, 7)
    assert sampler.sample() == {"count": "7\n", "max": "100\n", "stat": STAT.format(0)}
    fill(folder, 100, 0xFF)
    sample = sampler.sample()
    assert (drops(sample), is_full(sample)) == (0x101, True)


def test_what_is_not_there_is_none_and_picked_up_when_it_comes(folder: Path, sampler: Sampler) -> None:
    nothing = dict.fromkeys(("count", "max", "stat"))
    assert sampler.sample() == nothing
    assert drops(nothing) is None
    assert not is_full(nothing)
    fill(folder, 7)
    assert sampler.sample()["count"] == "7\n"


def test_no_descriptor_is_opened_by_a_later_sample(folder: Path, sampler: Sampler) -> None:
    fill(folder, 7)
    sampler.sample()
    before = os.listdir("/proc/self/fd")
    sampler.sample()
    assert os.listdir("/proc/self/fd") == before


def test_a_descriptor_that_died_with_its_module_is_replaced(folder: Path, sampler: Sampler) -> None:
    fill(folder, 7)
    sampler.sample()
    dead = os.open(folder, os.O_RDONLY)  # reading it fails (EISDIR), as reading a removed /proc file does (EIO)
    os.close(sampler._fds["stat"])
    sampler._fds["stat"] = dead
    assert sampler.sample()["stat"] is None
    assert sampler.sample()["stat"] == STAT.format(0)


def test_what_may_not_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SAMPLED", {"count": "/proc/self", "max": "/proc/self/mem", "stat": "/nonexistent"})
    with closing(Sampler()) as sampler:
        assert sampler.sample() == {"count": None, "max": None, "stat": None}


def test_a_file_longer_than_a_page_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    # the kernel hands out a sequence file by the page, as it does with the counters of more than 26 CPUs
    monkeypatch.setattr(sampling, "SAMPLED", {"stat": "/proc/self/smaps"})
    with closing(Sampler()) as sampler:
        text = sampler.sample()["stat"]
    assert text is not None
    assert len(text) > 8192


def test_a_file_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SAMPLED", {"stat": "/dev/zero"})
    with closing(Sampler()) as sampler:
        assert len(sampler.sample()["stat"] or "") == sampling._MAX_BYTES


@pytest.mark.parametrize("stat", [None, "", "entries  searched\n00000001 00000000\n"])
def test_drops_that_this_kernel_does_not_count_are_unknown(stat: str | None) -> None:
    assert drops({"stat": stat}) is None


@pytest.mark.parametrize(
    ("count", "table_max", "full"),
    [
        ("99\n", "100\n", False),
        ("100\n", "100\n", True),
        ("101\n", "100\n", True),
        ("5\n", "0\n", False),
        (None, "100\n", False),
        ("100\n", None, False),
        ("", "100\n", False),
    ],
)
def test_when_the_table_is_full(count: str | None, table_max: str | None, full: bool) -> None:
    assert is_full({"count": count, "max": table_max}) is full


class Counters:
    """Answers by netlink, of which the given number succeed."""

    made = 0

    def __init__(self, answers: int = 99) -> None:
        type(self).made += 1
        self._left = answers

    def text(self) -> str:
        self._left -= 1
        if self._left < 0:
            raise OSError("no answer")
        return STAT.format(7)

    def close(self) -> None:
        """Nothing is open."""


class TestWithoutProcfs:
    def test_the_counters_come_by_netlink(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sampling, "Counters", Counters)
        fill(folder, 7)
        (folder / "stat").unlink()
        with closing(Sampler()) as sampler:
            assert sampler.sample() == {"count": "7\n", "max": "100\n", "stat": STAT.format(7)}

    def test_nobody_is_asked_where_conntrack_is_not_there(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sampling, "Counters", Counters)
        before = Counters.made
        with closing(Sampler()) as sampler:
            assert sampler.sample() == dict.fromkeys(("count", "max", "stat"))
        assert Counters.made == before, "a question would load conntrack"

    def test_nobody_is_asked_where_there_is_a_file(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sampling, "Counters", Counters)
        fill(folder, 7)
        before = Counters.made
        with closing(Sampler()) as sampler:
            sampler.sample()
        assert Counters.made == before

    def test_a_source_that_failed_is_unknown_from_then_on(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sampling, "Counters", lambda: Counters(2))
        fill(folder, 7)
        (folder / "stat").unlink()
        with closing(Sampler()) as sampler:
            assert [sampler.sample()["stat"] for _ in range(3)] == [STAT.format(7), None, None]


@pytest.mark.parametrize(
    "since_begun, gap", [(0.0, 0.01), (0.02, 0.01), (0.05, 0.025), (0.1, TICK_SECONDS), (7.0, TICK_SECONDS)]
)
def test_a_load_that_has_just_begun_is_sampled_more_often(since_begun: float, gap: float) -> None:
    assert gap_seconds(since_begun) == pytest.approx(gap)
