"""`lab replay`: the same cells again, and everything that is not as it was is said before anything starts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

import lab
from lab.core.errors import PrerequisiteError, ScenarioError
from lab.core.plan import CellPlan, folder_of_target
from lab.core.plan.repeating import plan_changes, recipe
from lab.host import images
from lab.host.cli import main as cli
from lab.host.kernels import preparing
from lab.host.kernels.bundle import bundles_of
from lab.host.machines import accelerator
from lab.host.machines.agent_package import agent_zipapp
from lab.host.machines.kinds import parse_target
from lab.host.machines.machine import Preparation, Ready
from lab.host.machines.playback import ReplayProvisioner, recorded_machine
from lab.host.machines.qemu import preparing as machines
from lab.host.machines.qemu import replaying
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.command import TCG
from lab.host.machines.qemu.preparing import Pinned, PreparedImage
from lab.host.machines.qemu.provisioner import QemuProvisioner
from lab.host.machines.vagrant import kind as vagrant_kind
from lab.host.options import Deadlines, RunOptions
from lab.host.publish.schemas import schema_text
from lab.host.run import commands
from lab.host.run.planned import PlannedRun
from lab.host.run.replay import Replay, prepare
from lab.host.run.runner import Job
from tests import ROOT, recordings
from tests.records import stored_manifest

GOLDEN = recordings.GOLDEN / "results" / "v1"
TODAY, OLDER = GOLDEN / "digests", GOLDEN / "before-digests"
CELLS = ["pristine@debian12", "nat-present,iptables=nft@debian12", "modules-blocked,iptables=nft@debian12"]

Json = dict[str, Any]
Change = Callable[[Json], object]


def read(path: Path) -> Json:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def edit(path: Path, change: Change) -> None:
    content = read(path)
    change(content)
    path.write_text(json.dumps(content))


MANIFEST = read(TODAY / "manifest.json")
QEMU = QemuBinary(
    "/usr/bin/qemu-system-x86_64",
    MANIFEST["provisioner"]["qemu_version"],
    (10, 0, 2),
    MANIFEST["provisioner"]["host_cpu"],
)


def asked(output: Path, **changes: Any) -> RunOptions:
    return RunOptions(output=output, command=("lab", "replay", "x"), **changes)


def put_image(cache: Path, sha256s: Mapping[str, str], name: str = "debian12-000000000000") -> Path:
    """An image's description in the cache: nobody looks at its files before they are used."""
    folder = cache / "conntrack-lab" / "images" / name
    folder.mkdir(parents=True, exist_ok=True)
    target = MANIFEST["targets"]["debian12"]
    described = {
        "name": "debian12",
        "digest": target["image_digest"],
        "kernel_release": target["kernel_release"],
        "sha256s": dict(sha256s),
        "built": target["image_built"],
    }
    (folder / "image.json").write_text(json.dumps(described))
    (folder / "busybox").write_text("busybox")
    (folder / "programs.txt").write_text("iptables-nft\nsh\n")
    (folder / "packages.txt").write_text("iptables 1.8.9-2 amd64\n")
    return folder


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host on which everything is as it was; gives its cache."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(ROOT)
    put_image(cache, MANIFEST["targets"]["debian12"]["image_sha256s"])
    monkeypatch.setattr(replaying, "find_qemu", lambda: QEMU)
    monkeypatch.setattr(lab, "__version__", MANIFEST["tool_version"])
    return cache


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run as it is stored today, of this very agent."""
    folder = Path(shutil.copytree(TODAY, tmp_path / "run"))
    edit(folder / "manifest.json", lambda manifest: manifest.update(agent_sha256=_agent()))
    return folder


def _agent() -> str:
    return hashlib.sha256(agent_zipapp()).hexdigest()


def prepared(run: Path, **changes: Any) -> Replay:
    return prepare(run, asked(run.parent / "results", **changes), lambda text: None)


def told(run: Path, needed: bool | None = None, **changes: Any) -> list[str]:
    found = prepared(run, **changes).changes
    return [one.what for one in found if needed is None or one.needed is needed]


# -- as it was --------------------------------------------------------------------------------------------------------


def test_where_everything_is_as_it_was_nothing_is_told_and_all_is_the_same(run: Path) -> None:
    again = prepared(run)
    assert again.changes == ()
    assert [plan.cell for plan in again.planned.plans] == CELLS
    for plan in again.planned.plans:
        stored = read(run / "cells" / plan.cell / "plan.json")
        assert stored["machine"].pop("topology") == "loopback"  # as paths were called
        stored["machine"]["path"] = "loopback"
        assert json.loads(json.dumps(plan.to_json())) == stored
    options = again.options
    assert (options.connections, options.max, options.chosen) == (300, None, ("iptables=nft",))
    assert (options.parallel, options.accelerator, options.repeat) == (1, "tcg", 1)
    assert vars(again.planned.kind.deadlines_with(options)) == MANIFEST["deadlines_seconds"]
    image = again.planned.pinned["debian12"].image
    assert image is not None
    assert image.sha256s == MANIFEST["targets"]["debian12"]["image_sha256s"]
    again.check(anyway=False)


def test_the_texts_are_those_that_were_run_not_todays(run: Path) -> None:
    name, marked = "pristine", "# as it was run\n"
    edit(
        run / "manifest.json",
        lambda manifest: manifest["scenario_files"][name].update(
            text=marked + manifest["scenario_files"][name]["text"]
        ),
    )
    assert prepared(run).planned.texts[name].startswith(marked)


def test_a_link_to_the_newest_run_is_the_run_itself(run: Path) -> None:
    link = run.parent / "latest"
    link.symlink_to(run.name)
    assert prepared(link).run == run


def test_results_alone_are_enough(run: Path) -> None:
    shutil.rmtree(run / "cells")
    again = prepared(run)
    assert (again.changes, len(again.planned.plans)) == ((), 3)


def test_cells_that_never_ended_are_run_too(run: Path) -> None:
    (run / "results.json").unlink()
    edit(run / "manifest.json", lambda manifest: manifest.update(complete=False, ended_at=None))
    again = prepared(run)
    assert [plan.cell for plan in again.planned.plans] == CELLS
    assert [one.what for one in again.changes] == [
        "the run did not end: 3 of its 3 cells have no result, and are run too"
    ]


def test_repeats_are_run_again(run: Path) -> None:
    names = [f"pristine@debian12{suffix}" for suffix in ("", "-r2", "-r3")]
    edit(run / "manifest.json", lambda manifest: manifest.update(cells=names))
    edit(run / "manifest.json", lambda manifest: manifest["options"].update(repeat=3))
    assert [plan.cell for plan in prepared(run).planned.plans] == names


@pytest.mark.parametrize("count", [10**5, 10**9])
def test_a_manifest_s_repeat_makes_no_cell_that_it_does_not_name(run: Path, count: int) -> None:
    names = [plan.cell for plan in prepared(run).planned.plans]
    edit(run / "manifest.json", lambda manifest: manifest["options"].update(repeat=count))
    edit(run / "results.json", lambda results: results["cells"][0].update(repeat=count))
    assert [plan.cell for plan in prepared(run).planned.plans] == names


# -- older runs -------------------------------------------------------------------------------------------------------


def test_an_older_manifest_is_read_and_what_it_lacks_is_said() -> None:
    again = prepared(OLDER)
    assert {plan.cell for plan in again.planned.plans} == set(CELLS)
    assert again.options.connections == 300
    lacking = [one.what for one in again.changes if "older" in one.what]
    assert [text.partition(":")[0] for text in lacking] == [
        "the manifest is older and does not list the cells",
        "the manifest is older and does not tell -j, --keep-failed, --modules, and how boxes were made",
        "the manifest is older and keeps no scenario's text",
    ]
    assert not any(one.needed for one in again.changes)


def test_the_reference_results_can_be_replayed() -> None:
    again = prepared(ROOT / "results" / "reference")
    cells = read(ROOT / "results" / "reference" / "results.json")["cells"]
    # the images are not those of this test; scenarios and cells are
    assert [one.what for one in again.changes if one.needed and "image" not in one.what] == []
    assert [plan.cell for plan in again.planned.plans] == [cell["cell"] for cell in cells]


def test_without_a_kept_text_todays_must_mean_the_same(run: Path) -> None:
    shutil.rmtree(run / "cells")
    edit(run / "manifest.json", lambda manifest: manifest.pop("scenario_files"))
    assert told(run, needed=True) == []
    edit(run / "manifest.json", lambda manifest: manifest["scenarios"].update(pristine="0" * 64))
    assert told(run, needed=True) == [
        "scenario pristine: its text is not kept, and today's file does not mean what was run"
    ]


# -- what is not as it was --------------------------------------------------------------------------------------------


def put(*path: str, to: object) -> Change:
    def change(manifest: Json) -> None:
        table = manifest
        for name in path[:-1]:
            table = table[name]
        table[path[-1]] = to

    return change


# what differs in the manifest -> words of the warning
WARNINGS: Mapping[str, tuple[Change, str]] = {
    "the lab": (put("tool_version", to="0.0.9"), "the run was made by 0.0.9"),
    "the agent": (put("agent_sha256", to="0" * 64), "another build than the run's"),
    "QEMU": (
        put("provisioner", "qemu_version", to="QEMU emulator version 8.2.0"),
        "the run had QEMU emulator version 8.2",
    ),
    "KVM": (put("provisioner", "accelerator", to="kvm"), "the run had KVM"),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_makes_no_other_cells_is_a_warning(run: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(accelerator, "KVM_DEVICE", Path("/nonexistent"))
    change, words = WARNINGS[name]
    edit(run / "manifest.json", change)
    again = prepared(run)
    assert [words in one.what for one in again.changes] == [True]
    assert not again.lacking
    again.check(anyway=False)


def test_another_accelerator_that_is_asked_for_is_told(run: Path) -> None:
    again = prepared(run, accelerator="kvm")
    assert [one.what for one in again.changes] == ["the accelerator is kvm, the run had tcg"]
    assert again.options.accelerator == "kvm"


# what differs in the manifest -> words of what is needed, and the cells that can be run all the same
NEEDED: Mapping[str, tuple[Change, str, list[str]]] = {
    "an image": (
        put("targets", "debian12", "image_sha256s", "root.ext4", to="0" * 64),
        "debian12: the image that was used, built ",
        CELLS,
    ),
    "a scenario that means another thing": (
        put("scenarios", "pristine", to="0" * 64),
        "scenario pristine: its stored text does not mean what was run",
        CELLS,
    ),
    "a scenario that cannot be read": (
        put("scenario_files", "pristine", "text", to="version = 99"),
        "scenario pristine: unavailable: ",
        CELLS[1:],
    ),
    "a cell that the scenario does not give": (
        put("cells", to=["pristine,iptables=nft@debian12", *CELLS[1:]]),
        "cell pristine,iptables=nft@debian12: its scenario gives no such cell any more",
        CELLS[1:],
    ),
    "a load that is too large": (
        put("overrides", "connections", to=10**7),
        "cell pristine@debian12: cannot be planned: ",
        [],
    ),
    "an unknown target": (put("targets", to={"beos5": {}}), "target beos5: unknown target", []),
    "an unknown provisioner": (put("provisioner", "name", to="cloud"), "knows no provisioner 'cloud'", []),
}


@pytest.mark.parametrize("name", NEEDED)
def test_what_cannot_be_had_is_told_and_ends_it_unless_it_is_to_go_on(run: Path, name: str) -> None:
    change, words, cells = NEEDED[name]
    edit(run / "manifest.json", change)
    again = prepared(run)
    assert any(words in one.what for one in again.lacking), again.changes
    assert [plan.cell for plan in again.planned.plans] == cells
    with pytest.raises(ScenarioError, match="cannot be run as it was: ") as caught:
        again.check(anyway=False)
    assert "--anyway" in caught.value.hint
    if cells:
        again.check(anyway=True)
    else:
        with pytest.raises(ScenarioError, match="none of its cells can be run here"):
            again.check(anyway=True)


def test_without_qemu_nothing_can_be_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> QemuBinary:
        raise PrerequisiteError("QEMU is not installed", hint="install it")

    monkeypatch.setattr(replaying, "find_qemu", missing)
    again = prepared(run)
    assert [one.what for one in again.lacking] == ["qemu: QEMU is not installed (install it)"]
    assert again.planned.plans == ()


def test_an_image_of_another_recipe_is_taken_by_its_digests(run: Path, host: Path) -> None:
    other = dict.fromkeys(MANIFEST["targets"]["debian12"]["image_sha256s"], "1" * 64)
    shutil.rmtree(host / "conntrack-lab" / "images")
    put_image(host, other, "debian12-111111111111")
    assert "is gone; none is in the cache" in told(run, needed=True)[0]
    folder = put_image(host, MANIFEST["targets"]["debian12"]["image_sha256s"], "debian12-222222222222")
    again = prepared(run)
    image = again.planned.pinned["debian12"].image
    assert (again.changes, image and image.directory) == ((), folder)


# -- kernels of one's own ---------------------------------------------------------------------------------------------

DIGEST = "c" * 64


@pytest.fixture
def own_kernel(run: Path, tmp_path: Path) -> Path:
    """The run as one of the user's own kernel; gives the kernel's path."""
    path = tmp_path / "vmlinuz"
    path.write_text("kernel")
    target = f"debian12+kernel:{path}"
    of_own = {**MANIFEST["targets"]["debian12"], "kernel_path": str(path), "kernel_digest": DIGEST}
    edit(run / "manifest.json", put("targets", to={target: of_own}))
    edit(run / "manifest.json", put("cells", to=[f"pristine@{folder_of_target(target)}"]))
    shutil.rmtree(run / "cells")
    (run / "results.json").unlink()
    return path


def put_bundle(cache: Path, digest: str) -> Path:
    folder = cache / "conntrack-lab" / "kernels" / f"6.1-{digest[:12]}"
    folder.mkdir(parents=True)
    described = {"release": "6.1", "digest": digest, "sha256s": {"vmlinuz": "0" * 64}}
    (folder / "kernel.json").write_text(json.dumps(described))
    return folder


def test_a_kernel_whose_copy_is_in_the_cache_is_taken_by_its_digest(run: Path, own_kernel: Path, host: Path) -> None:
    folder = put_bundle(host, DIGEST)
    again = prepared(run)
    (pinned,) = again.planned.pinned.values()
    assert pinned.kernel is not None
    assert pinned.kernel.directory == folder
    assert again.lacking == ()
    own_kernel.unlink()
    assert f"{own_kernel}: the kernel's file is gone; its copy in the cache is used" in told(run, needed=False)


def test_a_kernel_that_is_gone_takes_its_cells_along(run: Path, own_kernel: Path) -> None:
    own_kernel.unlink()
    again = prepared(run)
    assert [one.what for one in again.lacking] == [f"{own_kernel}: the kernel is gone"]
    assert again.planned.plans == ()


def test_a_kernel_that_changed_is_told(
    run: Path, own_kernel: Path, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_bundle(host, "d" * 64)
    bundle = next(bundles_of("d" * 64))
    assert bundle.directory == folder
    monkeypatch.setattr(preparing, "prepare", lambda *args, **kwargs: bundle)
    again = prepared(run)
    assert [one.what for one in again.lacking] == [
        f"{own_kernel}: the kernel is another one than the run's, {DIGEST[:12]}"
    ]
    assert len(again.planned.plans) == 1, "--anyway runs it with the kernel that is there"


# -- boxes and this machine -------------------------------------------------------------------------------------------


def as_box(run: Path, name: str, sha256: str | None) -> None:
    box = {"box": "x", "box_url": None, "box_sha256": sha256, "family": None}
    edit(run / "manifest.json", put("targets", to={f"vagrant:{name}": box}))
    edit(
        run / "manifest.json",
        put("provisioner", to={"name": "vagrant", "provider": "libvirt", "vagrant_version": "2.3.4", "shared": False}),
    )


@pytest.mark.parametrize(
    ("name", "sha256", "words", "needed"),
    [
        ("debian/bookworm64", None, "the run did not know the box's digest", False),
        ("debian12", DIGEST, "the box is not there, and would be built of today's packages", True),
        ("/nowhere/x.box", DIGEST, "the box is gone", True),
    ],
)
def test_a_box_that_may_be_another_one_is_told(
    run: Path, monkeypatch: pytest.MonkeyPatch, name: str, sha256: str | None, words: str, needed: bool
) -> None:
    monkeypatch.setattr(vagrant_kind, "vagrant_version", lambda: "2.3.4")
    as_box(run, name, sha256)
    assert any(words in what for what in told(run, needed=needed))


def test_a_box_with_its_digest_is_the_same(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vagrant_kind, "vagrant_version", lambda: "2.4.0")
    box = tmp_path / "x.box"
    box.write_text("box")
    as_box(run, str(box), hashlib.sha256(b"box").hexdigest())
    changes = [one for one in prepared(run).changes if "cell " not in one.what]
    assert [(one.what, one.needed) for one in changes] == [("Vagrant is 2.4.0, the run had 2.3.4", False)]
    box.write_text("another")
    assert any("the box is another one" in what for what in told(run, needed=True))


def test_this_machine_must_be_disposable_again(run: Path) -> None:
    edit(run / "manifest.json", put("targets", to={"host": {"kernel_release": "0.0"}}))
    edit(run / "manifest.json", put("provisioner", to={"name": "host"}))
    assert any("--disposable-host" in what for what in told(run, needed=True))


# -- what a replay cannot read ----------------------------------------------------------------------------------------


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"has no manifest\.json"):
        prepared(tmp_path)


@pytest.mark.parametrize("name", ["scenarios", "targets", "provisioner", "overrides", "deadlines_seconds"])
@pytest.mark.parametrize("value", [None, [], "x", 7])
def test_a_damaged_manifest_is_named_with_its_key(run: Path, name: str, value: object) -> None:
    edit(run / "manifest.json", put(name, to=value))
    with pytest.raises(ScenarioError, match=f"manifest.json: {name} is missing or damaged"):
        prepared(run)


@pytest.mark.parametrize(
    "change",
    [
        put("cells", to=[7]),
        put("cells", to=[]),
        put("cells", to="x"),
        put("overrides", "max", to="many"),
        put("deadlines_seconds", "load", to="long"),
        put("options", to={"repeat": "x"}),
        put("options", "parallel", to=-1),
        put("scenario_files", to={"pristine": 7}),
        put("scenario_files", "pristine", "text", to=7),
        put("targets", "debian12", to=7),
        put("targets", "debian12", "image_sha256s", to=7),
    ],
)
def test_any_damage_is_an_error_or_a_change_and_never_a_crash(run: Path, change: Change) -> None:
    edit(run / "manifest.json", change)
    with contextlib.suppress(ScenarioError):
        assert prepared(run).changes


def test_a_run_without_a_cell_is_refused() -> None:
    manifest = {name: value for name, value in MANIFEST.items() if name != "cells"}
    with pytest.raises(ScenarioError, match="does not tell its cells"):
        recipe(stored_manifest(manifest), (), (), {})


# -- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_that_says_more_is_the_same_and_one_that_says_another_thing_is_not() -> None:
    old = {"cell": "a", "load": {"kind": "hold"}, "steps": [{"key": "state[0]", "argv": ["x"]}], "max": None}
    new = {**old, "cell": "b", "load": {"kind": "hold", "newcomers": 3}, "more": 1}
    assert plan_changes(old, new) == []
    assert plan_changes(old, {**new, "load": {"kind": "churn"}, "max": 5}) == ["load", "max"]
    assert plan_changes(old, {**new, "steps": []}) == ["steps"]


def test_a_lab_that_plans_another_thing_is_told(run: Path) -> None:
    edit(run / "cells" / CELLS[0] / "plan.json", put("load", "connections", to=299))
    assert told(run, needed=True) == [f"cell {CELLS[0]}: this lab tells the guest another load"]


# -- run again --------------------------------------------------------------------------------------------------------


@pytest.fixture
def played(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guests of a replay are those that were recorded, played back."""

    class Target(PreparedImage):
        def kernel_config(self, shape: object) -> str | None:
            return None

    @contextlib.asynccontextmanager
    async def recorded(planned: PlannedRun, options: RunOptions, services: Any) -> AsyncIterator[Any]:
        pinned = planned.pinned["debian12"]
        assert pinned.image is not None
        target = Target(planned.targets[0], pinned.image, None)
        played = ReplayProvisioner()
        told = QemuProvisioner(QEMU, TCG, Deadlines()).manifest
        monkeypatch.setattr(played, "manifest", told, raising=False)
        yield Ready(played, {"debian12": target})

    monkeypatch.setattr(commands, "_prepared", recorded)
    monkeypatch.setattr(
        commands, "_jobs", lambda planned, options, targets: [_job(run, plan, planned) for plan in planned.plans]
    )


def _job(run: Path, plan: CellPlan, planned: PlannedRun) -> Job:
    return Job(plan, recorded_machine(run / "cells" / plan.cell), planned.texts[plan.scenario])


def lab_replay(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str, str]:
    status = cli.main(["replay", *map(str, argv)])
    return status, *capsys.readouterr()


def test_a_replay_is_a_run_that_says_whose_it_is_and_is_compared(
    run: Path, played: None, host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(run / "manifest.json", put("tool_version", to="0.0.9"))
    status, out, err = lab_replay(capsys, run, "--output", tmp_path / "results", "--ktap", tmp_path / "ktap")
    assert status == 0, err
    assert "changed: conntrack-lab is 0.1.0, the run was made by 0.0.9" in err
    assert "\nsame: of 3 cells 0 changed, 3 did not\n" in out
    new = tmp_path / "results" / "latest"
    manifest = read(new / "manifest.json")
    validator = jsonschema.Draft202012Validator(json.loads(schema_text("manifest")))
    assert [error.message for error in validator.iter_errors(manifest)] == []
    assert manifest["replay_of"] == {
        "run": run.name,
        "started_at": MANIFEST["started_at"],
        "manifest_sha256": hashlib.sha256((run / "manifest.json").read_bytes()).hexdigest(),
        "differences": [{"what": "conntrack-lab is 0.1.0, the run was made by 0.0.9", "needed": False}],
    }
    for name in ("cells", "scenarios", "scenario_files", "overrides", "deadlines_seconds"):
        kept = {"path"} if name == "scenario_files" else set()
        assert _without(manifest[name], kept) == _without(MANIFEST[name], kept), name
    shutil.rmtree(host / "conntrack-lab" / "images")  # whose files are not there
    assert cli.main(["verify", str(new)]) == 0
    assert (tmp_path / "ktap").read_text().count("\n  ok ") == 3


def _without(value: Any, keys: set[str]) -> Any:
    if not (keys and isinstance(value, dict)):
        return value
    return {name: {key: one[key] for key in one if key not in keys} for name, one in value.items()}


def test_a_replay_of_a_replay(run: Path, played: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        status, *_ = lab_replay(capsys, run, "--output", tmp_path / "results", "--format", "json")
        assert status == 0
    status, _, err = lab_replay(capsys, tmp_path / "results" / "latest", "--output", tmp_path / "results", "-q")
    assert (status, "not the same" in err) == (0, False)


def test_nothing_is_started_where_something_is_needed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(run / "manifest.json", put("scenarios", "pristine", to="0" * 64))
    status, out, err = lab_replay(capsys, run, "--output", tmp_path / "results")
    assert (status, out) == (2, "")
    assert err.startswith("unavailable: scenario pristine: its stored text does not mean what was run\nlab: ")
    assert "hint: --anyway" in err
    assert not (tmp_path / "results").exists()


def test_anyway_goes_on_and_the_manifest_says_so(
    run: Path, played: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(run / "manifest.json", put("scenarios", "pristine", to="0" * 64))
    status, _, _ = lab_replay(capsys, run, "--output", tmp_path / "results", "--anyway", "-q")
    assert status == 0
    differences = read(tmp_path / "results" / "latest" / "manifest.json")["replay_of"]["differences"]
    assert [one["needed"] for one in differences] == [True]


def test_a_dry_run_lists_the_cells_and_starts_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = lab_replay(capsys, run, "--dry-run", "--output", tmp_path / "results")
    assert (status, out.splitlines(), err) == (0, CELLS, "")
    assert not (tmp_path / "results").exists()


@pytest.mark.asyncio
async def test_the_pinned_image_is_what_is_prepared(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[Path] = []
    monkeypatch.setattr(images, "verify", lambda image: verified.append(image.directory))
    folder = put_image(host, {**MANIFEST["targets"]["debian12"]["image_sha256s"]}, "debian12-333333333333")
    image = images.read_image(folder)
    spec = parse_target("debian12")
    targets = await machines.prepare_targets(
        Preparation([spec], (), RunOptions(), Deadlines(), lambda text: None, pinned={"debian12": Pinned(image)})
    )
    target = targets["debian12"]
    assert isinstance(target, PreparedImage)
    assert target.image.directory == folder
    assert verified == [folder]


def test_packages_that_a_suite_did_not_have_are_lacking_again(run: Path) -> None:
    reason = "whatever words a later lab has for it"
    layer = {"asked": ["nor-this", "nothing-here"], "lacking": reason}
    edit(run / "manifest.json", lambda manifest: manifest["targets"]["debian12"].update(layers=[layer]))
    again = prepared(run)
    assert again.changes == ()
    (found,) = again.planned.pinned["debian12"].layers.items()
    assert (found[0], type(found[1]), str(found[1])) == (tuple(layer["asked"]), images.PackagesLacking, reason)
