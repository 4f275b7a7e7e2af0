"""What docs/kernels.md says that kernels do, measured on either side of the change: a kernel that does otherwise fails.

By default on the target's own kernel, which is older than most changes, and on the newest one;
LAB_TEST_FACT_KERNELS=all takes the two kernels next to each change, `LAB_TEST_FACT_KERNELS="6.12 7.3"` these ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from lab.core.errors import LabError
from lab.core.kernel.facts import FACTS, KernelFact
from lab.core.kernel.version import parse_release
from lab.host.kernels import preparing
from lab.host.machines.qemu.preparing import PreparedImage
from tests.facts import scenario_path
from tests.vm.conftest import Guests

# of each series the one that Debian's mirrors have
_BACKPORTS = "apt:trixie-backports/linux-image-{}+deb13-cloud-amd64"
KERNELS = {
    "5.10": "apt:bullseye/linux-image-cloud-amd64",
    "6.1": "apt:bookworm/linux-image-cloud-amd64",
    "6.12": "apt:trixie/linux-image-cloud-amd64",
    "6.16.12": _BACKPORTS.format("6.16.12"),
    "6.17.13": _BACKPORTS.format("6.17.13"),
    "6.18.9": _BACKPORTS.format("6.18.9"),
    "6.18.15": _BACKPORTS.format("6.18.15"),
    "7.2": "apt:forky/linux-image-cloud-amd64",
    "7.3": "apt:trixie-backports/linux-image-cloud-amd64",
}
OWN = "own"  # the target's
CHOSEN = os.environ.get("LAB_TEST_FACT_KERNELS", f"{OWN} {list(KERNELS)[-1]}").split()


def number(series: str) -> tuple[int, ...]:
    return tuple(map(int, series.split(".")))


def beside(fact: KernelFact) -> list[str]:
    """The last kernel before the change and the first with it, as far as there are any."""
    before = [series for series in KERNELS if number(series) < number(fact.since)]
    after = [series for series in KERNELS if number(series) >= number(fact.since)]
    return [*before[-1:], *after[:1]]


CASES = [
    pytest.param(fact, series, id=f"{series}-{fact.trial or fact.scenario}")
    for fact in FACTS
    if fact.trial or fact.scenario
    for series in (beside(fact) if CHOSEN == ["all"] else CHOSEN)
]
CASES.sort(key=lambda case: str(case.id).split("-")[0])  # all of a kernel together


@pytest.fixture(scope="module")
def guests_of(guests: Guests) -> Callable[[str], Guests]:
    """The same guests with a kernel of a series; skips where the mirror does not have it any more."""
    made: dict[str, Guests] = {OWN: guests}

    def with_kernel(series: str) -> Guests:
        if series not in made:
            source, busybox = KERNELS[series], guests.target.image.busybox
            try:
                bundle = preparing.prepare(source, busybox=busybox, progress=lambda line: None)
            except LabError as error:
                pytest.skip(f"{source}: {error}")
            target = PreparedImage(replace(guests.target.spec, kernel=source), guests.target.image, bundle)
            made[series] = replace(guests, target=target)
        return made[series]

    return with_kernel


@pytest.mark.parametrize(("fact", "series"), CASES)
def test_a_kernel_does_what_the_table_says(fact: KernelFact, series: str, guests_of: Callable[[str], Guests]) -> None:
    text = scenario_path(fact).read_text().replace("connections = 20000", "connections = 1000")
    booted = guests_of(series)
    ran = booted.run(text, iptables="legacy") if "[matrix]\niptables" in text else booted.run(text)
    release = ran.result["kernel_release"]
    assert series == OWN or number(series) == parse_release(release).numbers[: len(number(series))], release
    assert ran.result["as_expected"] is True, (release, ran.result["finding"], ran.result["reason"])


@pytest.mark.parametrize("series", KERNELS if CHOSEN == ["all"] else CHOSEN)
def test_the_option_for_legacy_tables_is_there_since_6_17(series: str, guests_of: Callable[[str], Guests]) -> None:
    target = guests_of(series).target
    path = target.image.config if target.kernel is None else target.kernel.config
    if path is None:
        pytest.skip("its packages come without their configuration")
    config = path.read_text()
    has_option = "CONFIG_NETFILTER_XTABLES_LEGACY" in config
    version = config.split("Linux/x86 ")[1].split(" ")[0]
    assert has_option == (number(".".join(version.split(".")[:2])) >= (6, 17)), version
