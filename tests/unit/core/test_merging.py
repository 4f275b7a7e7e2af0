"""Runs made one: what they must share, what is missing, and the manifest of the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.core.errors import ScenarioError
from lab.core.manifest import FleetWorker, Host, Layer, Manifest, Provisioner, StoredOverrides, StoredShard, Target
from lab.core.merging import Part, merged, missing_text

PLAN = ("a@debian12", "b@debian12", "a@debian13", "b@debian13")
DEBIAN12 = Target(image_digest="1" * 64)


def part(index: int, *cells: str, plan: str = "0" * 64, **changes: Any) -> Part:
    """A shard of three, with these cells."""
    manifest = Manifest(
        tool_version="0.1.0",
        started_at=f"2026-11-26T00:0{index}:00+00:00",
        ended_at=f"2026-11-26T01:0{index}:00+00:00",
        complete=True,
        host=Host(processors=index),
        provisioner=Provisioner(name="qemu"),
        agent_sha256="f" * 64,
        deadlines_seconds={"boot": 120.0},
        targets={cell.partition("@")[2]: DEBIAN12 for cell in cells},
        scenarios={cell.partition("@")[0]: "2" * 64 for cell in cells},
        cells=cells,
        shard=StoredShard(index, 3, plan, PLAN),
    )
    return Part(f"run-{index}", replace(manifest, **changes), str(index) * 64, cells)


ONE, TWO, THREE = part(1, PLAN[0]), part(2, PLAN[1], PLAN[2]), part(3, PLAN[3])


def test_all_shards_are_the_whole_run() -> None:
    whole = merged([TWO, ONE, THREE])
    assert whole.missing == ()
    manifest = whole.manifest
    assert manifest.cells == PLAN
    assert (manifest.complete, manifest.shard, manifest.ended_at) == (True, None, None)
    assert manifest.host == Host(), "of several machines"
    assert manifest.started_at == "2026-11-26T00:01:00+00:00"
    assert set(manifest.targets) == {"debian12", "debian13"}
    assert set(manifest.scenarios) == {"a", "b"}
    assert manifest.parts is not None
    assert [(one.run, one.shard, one.host.processors) for one in manifest.parts] == [
        ("run-2", "2/3", 2),
        ("run-1", "1/3", 1),
        ("run-3", "3/3", 3),
    ]


def test_a_target_has_the_layers_of_every_part() -> None:
    def layered(one: Part, *packages: str) -> Part:
        document = {"image": "debian12", "layers": [{"asked": [name], "lacking": "none"} for name in packages]}
        layers = tuple(Layer((name,), "none") for name in packages)
        target = Target(image_digest="1" * 64, layers=layers, document=document)
        return replace(one, manifest=replace(one.manifest, targets={"debian12": target}))

    plain = replace(THREE, manifest=replace(THREE.manifest, targets={"debian12": DEBIAN12}))
    target = merged([layered(ONE, "ufw"), layered(TWO, "ufw", "fail2ban"), plain]).manifest.targets["debian12"]
    assert [layer.asked for layer in target.layers] == [("ufw",), ("fail2ban",)]
    assert [layer["asked"] for layer in target.document["layers"]] == [["ufw"], ["fail2ban"]]
    assert "layers" not in merged([ONE, TWO, THREE]).manifest.targets["debian12"].document


def test_a_worker_that_ran_cells_of_two_shards_has_them_all() -> None:
    ran = [((PLAN[0],), "a"), (PLAN[1:3], "a"), (PLAN[3:], "b")]
    shards = [
        replace(one, manifest=replace(one.manifest, workers=(FleetWorker(name, cells=tuple(cells)),)))
        for one, (cells, name) in zip((ONE, TWO, THREE), ran, strict=True)
    ]
    assert merged(shards).manifest.workers == (FleetWorker("a", cells=PLAN[:3]), FleetWorker("b", cells=PLAN[3:]))


def test_a_lost_shard_is_named_with_its_cells() -> None:
    whole = merged([ONE, THREE])
    assert whole.missing == PLAN[1:3]
    assert whole.manifest.complete is False
    expected = "shard 2/3 is not among them; 2 cells of the plan missing: b@debian12, a@debian13"
    assert missing_text([ONE, THREE], whole.missing) == expected


def test_a_shard_that_did_not_end_lacks_cells_without_being_absent() -> None:
    cut = replace(TWO, cells=(PLAN[1],))
    whole = merged([ONE, cut, THREE])
    assert missing_text([ONE, cut, THREE], whole.missing) == "1 cell of the plan missing: a@debian13"


def test_many_missing_cells_are_counted() -> None:
    assert missing_text([ONE, TWO, THREE], [f"c{number}" for number in range(9)]).endswith("c4 and 4 more")


def test_runs_that_are_no_shards_are_joined_in_their_order() -> None:
    first, second = (replace(one, manifest=replace(one.manifest, shard=None)) for one in (THREE, ONE))
    whole = merged([first, second])
    assert whole.manifest.cells == (PLAN[3], PLAN[0])
    assert whole.missing == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"plan": "9" * 64}, "another plan"),
        ({"tool_version": "0.2.0"}, "another version of the lab"),
        ({"agent_sha256": "0" * 64}, "another agent"),
        ({"overrides": StoredOverrides(connections=7)}, "another overrides"),
        ({"deadlines_seconds": {"boot": 1.0}}, "another deadlines"),
        ({"provisioner": Provisioner(name="vagrant")}, "another kind of machines"),
        ({"scenarios": {"a": "3" * 64}}, "the scenario a is another one"),
        ({"targets": {"debian12": Target(image_digest="3" * 64)}}, "debian12: the image is another one"),
        ({"targets": {"debian12": replace(DEBIAN12, kernel_digest="3" * 64)}}, "debian12: the kernel is another one"),
    ],
)
def test_what_does_not_belong_together(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ScenarioError, match="run-2 and run-1 do not belong together") as caught:
        merged([ONE, part(2, PLAN[1], **changes)])
    assert problem in str(caught.value)


def test_a_cell_that_two_runs_have() -> None:
    with pytest.raises(ScenarioError, match="1 cell in more than one run: a@debian12 is in run-1 and run-2") as caught:
        merged([ONE, part(2, PLAN[0])])
    assert caught.value.hint == "name each shard once"
