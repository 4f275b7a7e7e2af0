"""Images with further packages: their names, what they are beside the target's own, and a package that is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.core.plan import Cell, plan_cell, variants
from lab.core.scenario import MachineSpec, Scenario, parse_scenario
from lab.host import images
from lab.host.cache import Deadline, sha256_of
from lab.host.cli.main import main
from lab.host.images import building
from lab.host.images.layers import added_packages, is_layer, target_of, targets_named, with_packages
from lab.host.machines.qemu.preparing import PreparedImage, check_programs
from lab.host.machines.qemu.replaying import target_changes
from lab.host.machines.qemu.targets import debian
from lab.host.options import RunOptions
from lab.host.releases import TARGETS, Target

DEBIAN12 = TARGETS["debian12"]
UFW = with_packages(DEBIAN12, ["ufw"])
BASE = ["python3 3.11.2-1 amd64", "iptables 1.8.9-2 amd64"]
# what mmdebstrap prints of apt, where the suite has no such package
NO_PACKAGE = """\
I: automatically chosen format: directory
Reading package lists...
Building dependency tree...
E: Unable to locate package nosuchfirewall
E: apt-get --yes install python3 nosuchfirewall failed: process exited with 100
"""
NO_CANDIDATE = """\
Package 'shorewall' has no installation candidate
E: apt-get --yes install failed: process exited with 100
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def put_image(target: Target, packages: list[str], programs: str = "sh nft") -> images.Image:
    folder = images.final_folder(target)
    folder.mkdir(parents=True)
    for name in images.FILES.values():
        (folder / name).write_text(name)
    (folder / images.FILES["packages"]).write_text("".join(f"{line}\n" for line in packages))
    (folder / images.FILES["programs"]).write_text(programs)
    description = {
        "name": target.name,
        "digest": images.recipe_digest(target),
        "kernel_release": "6.1.0",
        "built": "2026-11-26T00:00:00+00:00",
        "sha256s": {name: sha256_of(folder / name) for name in images.FILES.values()},
    }
    (folder / "image.json").write_text(json.dumps(description))
    return images.read_image(folder)


def scenario(text: str) -> Scenario:
    return parse_scenario(f'version = 1\nname = "x"\nsummary = "Is it?"\n{text}', "x.toml")


def test_the_same_packages_are_the_same_image_and_none_are_the_targets_own() -> None:
    assert with_packages(DEBIAN12, ["ufw", "dbus"]) == with_packages(DEBIAN12, ["dbus", "ufw", "dbus"])
    assert with_packages(DEBIAN12, []) is DEBIAN12
    assert UFW.name == "debian12-with-ufw"
    assert UFW.packages == (*DEBIAN12.packages, "ufw")
    assert images.recipe_digest(UFW) != images.recipe_digest(DEBIAN12)
    assert images.final_folder(UFW).parent == images.final_folder(DEBIAN12).parent


def test_a_name_says_target_and_packages() -> None:
    assert targets_named("debian12-with-ufw") == (UFW,)
    assert targets_named("debian12-with-dbus_firewalld") == (with_packages(DEBIAN12, ["firewalld", "dbus"]),)
    assert [target.name for target in targets_named("debian1[23]-with-ufw")] == [
        "debian12-with-ufw",
        "debian13-with-ufw",
    ]
    assert is_layer("debian12-with-ufw") and not is_layer("debian13-backports")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("debian99-with-ufw", "unknown target 'debian99'"),
        ("debian12-with-", "no name of a Debian package"),
        ("debian12-with-UFW", "no name of a Debian package"),
        ("debian12-with-../x", "no name of a Debian package"),
        (f"debian12-with-{'_'.join(['longpackage'] * 20)}", "no name of a Debian package"),
    ],
)
def test_a_wrong_name_is_refused(name: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=words) as caught:
        targets_named(name)
    assert caught.value.hint


def test_they_are_listed_keyed_and_removed_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    base, layer = put_image(DEBIAN12, BASE), put_image(UFW, [*BASE, "ufw 0.36.2-1 all"])
    assert target_of(layer) == UFW and target_of(base) == DEBIAN12
    assert main(["image", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed[:2]] == ["debian12", "debian12-with-ufw"]
    assert all(" current " in line for line in listed[:2])
    assert main(["image", "key", "debian12-with-ufw"]) == 0
    assert capsys.readouterr().out.strip() == layer.directory.name
    assert main(["image", "remove", "debian12"]) == 0
    assert layer.directory.exists() and not base.directory.exists()
    base = put_image(DEBIAN12, BASE)
    assert main(["image", "remove", "debian12-with-ufw"]) == 0
    assert base.directory.exists() and not layer.directory.exists()


def test_an_image_of_a_target_that_is_gone_is_outdated(capsys: pytest.CaptureFixture[str]) -> None:
    put_image(UFW, BASE)
    description = next(images.images_folder().iterdir()) / "image.json"
    description.write_text(description.read_text().replace("debian12-with-ufw", "debian7-with-ufw"))
    assert main(["image", "list"]) == 0
    assert " outdated " in capsys.readouterr().out


def test_boxes_take_no_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "build", "--format", "box", "debian12-with-ufw"]) == 2
    assert "boxes have no further packages" in capsys.readouterr().err


def prepared(layer: images.Image | images.PackagesLacking, packages: tuple[str, ...]) -> PreparedImage:
    return PreparedImage(debian("debian12"), put_image(DEBIAN12, BASE), None, {packages: layer})


def test_a_machine_has_the_packages_that_its_plan_asks_for_and_the_manifest_tells_their_versions() -> None:
    layer = put_image(UFW, [*BASE, "ufw 0.36.2-1 all", "ucf 3.0043 all"])
    target = prepared(layer, ("ufw",))
    with_ufw, plain = target.machine(MachineSpec(packages=("ufw",))), target.machine(MachineSpec())
    assert with_ufw.root_disk == layer.root_disk != plain.root_disk == target.image.root_disk
    assert with_ufw.digest != plain.digest  # each has saved states of its own
    assert with_ufw.lacking is None
    (told,) = target.manifest()["layers"]
    assert told["asked"] == ["ufw"]
    assert told["image_sha256s"] == dict(layer.sha256s)
    assert told["packages"] == {"ufw": "0.36.2-1", "ucf": "3.0043"} == dict(added_packages(layer, target.image))
    assert "layers" not in PreparedImage(debian("debian12"), target.image, None).manifest()


def test_a_step_may_run_a_program_of_its_packages_and_of_no_others() -> None:
    target = prepared(put_image(UFW, BASE, "sh nft ufw"), ("ufw",))
    step = '[[state]]\nrun = ["ufw", "enable"]\n'
    for text, fits in ((f'[machine]\npackages = ["ufw"]\n{step}', True), (step, False)):
        (variant,) = variants(scenario(text))
        plans = [plan_cell(Cell(variant, "debian12"))]
        if fits:
            check_programs(plans, {"debian12": target})
            continue
        with pytest.raises(ScenarioError, match="a step runs 'ufw', which the image of debian12 lacks"):
            check_programs(plans, {"debian12": target})


def test_a_package_that_the_suite_lacks_is_a_reason_to_skip_and_no_step_is_checked() -> None:
    target = prepared(images.PackagesLacking.because("bookworm has no package nosuchfirewall"), ("nosuchfirewall",))
    text = '[machine]\npackages = ["nosuchfirewall"]\n[[state]]\nrun = ["nosuchfirewall", "start"]\n'
    (variant,) = variants(scenario(text))
    plan = plan_cell(Cell(variant, "debian12"))
    check_programs([plan], {"debian12": target})
    assert target.machine(plan.machine).lacking == "debian12: bookworm has no package nosuchfirewall"
    assert target.manifest()["layers"] == [
        {"asked": ["nosuchfirewall"], "lacking": "bookworm has no package nosuchfirewall"}
    ]


@pytest.mark.parametrize(
    ("printed", "package"), [(NO_PACKAGE, "nosuchfirewall"), (NO_CANDIDATE, "shorewall")], ids=["none", "candidate"]
)
def test_what_apt_says_of_a_missing_package_is_understood(
    printed: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_program(argv: object, deadline: object, *, on_line: object = None, **_: object) -> None:
        for line in printed.splitlines():
            on_line(line)  # type: ignore[operator]
        raise PrerequisiteError("mmdebstrap failed")

    monkeypatch.setattr(building, "run_program", run_program)
    report = images.BuildReporter("image", lambda line: None, lambda line: None)
    with pytest.raises(images.PackagesLacking, match=f"bookworm has no package {package}$") as caught:
        images.install_packages(
            UFW, "http://mirror.test/debian", tmp_path, tmp_path, images.Sandbox(()), report, Deadline.after(5, "x")
        )
    assert caught.value.hint


def test_a_replay_takes_the_images_that_the_run_had_and_says_which_are_gone() -> None:
    layer = put_image(UFW, [*BASE, "ufw 0.36.2-1 all"])
    recorded = prepared(layer, ("ufw",)).manifest()
    options = RunOptions(output=Path("results"))
    found, pinned = target_changes(debian("debian12"), recorded, options, print)
    assert found == []
    assert pinned.layers == {("ufw",): layer}
    main(["image", "remove", "debian12-with-ufw"])
    (change,), pinned = target_changes(debian("debian12"), recorded, options, print)
    assert "the image debian12-with-ufw that was used" in change.what
    assert change.needed and pinned.layers == {}
