"""The reference results: made of a run, valid, and with nothing in them of the machine that ran it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from lab.core.errors import ScenarioError
from lab.host.publish import reference
from lab.host.publish.reference import write_reference
from lab.host.results import layout
from tests import ROOT, recordings

GOLDEN = recordings.GOLDEN / "results"
COMMITTED = ROOT / reference.FOLDER
NAMES = layout.RUN_FILES
KERNEL = "debian12+kernel:/srv/secret/linux-5.15"

Json = dict[str, Any]


def read(path: Path) -> Json:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def errors(folder: Path) -> list[str]:
    found = []
    for name in NAMES:
        schema = read(ROOT / "lab" / "schemas" / name.replace(".json", ".schema.json"))
        found += [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(read(folder / name))]
    return found


def make_run(folder: Path, manifest: Json, cells: list[Json]) -> Path:
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "results.json").write_text(json.dumps({"schema_version": 1, "cells": cells}))
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with the user's own kernel, on a machine whose names stand everywhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/secret/.cache")
    monkeypatch.setenv("HOME", "/home/secret")
    manifest, cells = read(GOLDEN / "manifest.json"), read(GOLDEN / "results.json")["cells"]
    manifest["command"] = [
        *("/srv/secret/.venv/bin/lab", "run", "*", "/srv/secret/own.toml", "--mirror", "http://secret/debian"),
        *("--target", KERNEL, "--output=/srv/secret/results", "--junit", "../secret/x.xml", "--mirror=http://secret/"),
        *("--set", "iptables=nft", "--kernel", "~/secret/vmlinuz"),
    ]
    manifest["host"]["kernel_release"] = "6.18.44-secret"
    own = copy.deepcopy(manifest["targets"]["debian12"])
    manifest["targets"][KERNEL] = {**own, "kernel_path": "/srv/secret/linux-5.15", "kernel_digest": "0" * 64}
    of_own = {**copy.deepcopy(cells[0]), "target": KERNEL, "repeat": 2}
    of_own["cell"] = "nat-present,iptables=nft@debian12+kernel_srv_secret_linux-5.15-00000000-r2"
    of_own["reason"] = "cannot open /home/secret/.cache/conntrack-lab/images/root.ext4 or /home/secret/x"
    return make_run(tmp_path / "run", manifest, [*cells, of_own])


def test_nothing_of_the_machine_is_left(run: Path, tmp_path: Path) -> None:
    write_reference(run, tmp_path / "reference")
    for path in (tmp_path / "reference").iterdir():
        assert "secret" not in path.read_text(), path.name
    assert errors(tmp_path / "reference") == []


def test_what_is_left_is_the_run(run: Path, tmp_path: Path) -> None:
    write_reference(run, tmp_path)
    manifest, results = read(tmp_path / "manifest.json"), read(tmp_path / "results.json")
    words = "lab run * own.toml --target debian12+kernel:linux-5.15 --output=results --junit x.xml --set iptables=nft"
    assert manifest["command"] == [*words.split(), "--kernel", "vmlinuz"]
    assert manifest["host"]["kernel_release"] == "6.18.44"
    assert list(manifest["targets"]) == ["debian12", "debian12+kernel:linux-5.15"]
    assert [target["kernel_path"] for target in manifest["targets"].values()] == [None, "linux-5.15"]
    assert results["cells"][:2] == read(GOLDEN / "results.json")["cells"]
    own = results["cells"][2]
    assert own["target"] == "debian12+kernel:linux-5.15"
    assert own["cell"].startswith("nat-present,iptables=nft@debian12+kernel_linux-5.15-")
    assert own["cell"].endswith("-r2")
    assert own["reason"] == "cannot open images/root.ext4 or x"
    assert "lab run '*' own.toml" in (tmp_path / "README.md").read_text()


def test_the_same_run_gives_the_same_files(run: Path, tmp_path: Path) -> None:
    write_reference(run, tmp_path / "first")
    write_reference(run, tmp_path / "second")
    for name in (*NAMES, "README.md"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_run_that_did_not_end_is_refused(tmp_path: Path) -> None:
    manifest = {**read(GOLDEN / "manifest.json"), "complete": False, "ended_at": None}
    with pytest.raises(ScenarioError, match="did not end"):
        write_reference(make_run(tmp_path / "run", manifest, []), tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="is not there"):
        write_reference(tmp_path, tmp_path / "reference")


def test_kernels_that_would_get_one_name_are_refused(tmp_path: Path) -> None:
    manifest = read(GOLDEN / "manifest.json")
    target = manifest["targets"].pop("debian12")
    manifest["targets"] = {f"debian12+kernel:/{folder}/bzImage": target for folder in ("a", "b")}
    with pytest.raises(ScenarioError, match="are both debian12\\+kernel:bzImage"):
        write_reference(make_run(tmp_path / "run", manifest, []), tmp_path / "reference")


@pytest.mark.skipif(not COMMITTED.is_dir(), reason="no reference results yet")
def test_the_committed_ones_are_valid() -> None:
    assert errors(COMMITTED) == []
    manifest = read(COMMITTED / "manifest.json")
    assert manifest["complete"] is True
    assert not [word for word in manifest["command"] if word.startswith("/")]
    assert all(target["packages"] for target in manifest["targets"].values())


@pytest.mark.parametrize(
    ("word", "published"),
    [
        ("debian12+kernel:/srv/a.deb,../b.deb", "debian12+kernel:a.deb,b.deb"),
        ("debian12+kernel:apt:bookworm-security/linux-image-amd64", None),
        ("debian12+kernel:https://a.test/k#sha256=0,/srv/b.deb", "debian12+kernel:https://a.test/k#sha256=0,b.deb"),
        ("--kernel=/srv/a.deb", "--kernel=a.deb"),
    ],
)
def test_a_kernel_is_named_without_the_folders_of_this_machine(word: str, published: str | None) -> None:
    assert reference._without_folders(word) == (published or word)
