"""The guest's code as it is shipped: one zipapp, the same bytes each time, that every Python from 3.6 on starts."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest

from lab.guest import PROTOCOL_VERSION
from lab.host.machines.agent_package import agent_zipapp
from tests import ROOT
from tests.unit.free_ports import free_row

GUEST = ROOT / "lab" / "guest"
SOURCES = sorted([*GUEST.glob("*.py"), *GUEST.glob("uring/*.py")])
ALL_SOURCES = sorted(GUEST.rglob("*.py"))  # the recorder's too, which is in a zipapp of its own
VERSIONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
ISOLATED = ("-I", "-S")  # as the machine's first process is started
CONNECTIONS = 200


@cache
def interpreter(version: str) -> str | None:
    """A Python of that version that works: of pyenv, else on the PATH (where pyenv's stand-ins may not)."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in (*map(str, reversed(installed)), shutil.which(f"python{version}")):
        if candidate is not None and _version_of(candidate) == version:
            return candidate
    return None


def _version_of(program: str) -> str | None:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        ended = subprocess.run(
            [program, *ISOLATED, "-c", code], capture_output=True, text=True, timeout=20, check=False
        )
    except OSError:
        return None
    return ended.stdout.strip() if ended.returncode == 0 else None


def python_or_skip(version: str) -> str:
    program = interpreter(version)
    if program is None:
        pytest.skip(f"Python {version} is not installed")
    return program


@pytest.fixture(scope="module")
def agent_pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "agent.pyz"
    path.write_bytes(agent_zipapp())
    return path


def start(python: str, agent_pyz: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *ISOLATED, "-W", "error", str(agent_pyz), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},  # and no locale, as in the machine
    )


def test_the_same_sources_give_the_same_bytes() -> None:
    first = agent_zipapp()
    agent_zipapp.cache_clear()
    assert agent_zipapp() == first


def test_it_holds_the_guests_modules_and_nothing_else() -> None:
    with zipfile.ZipFile(io.BytesIO(agent_zipapp())) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names == sorted(["__main__.py", "lab/__init__.py", *(str(path.relative_to(ROOT)) for path in SOURCES)])


@pytest.mark.parametrize("version", VERSIONS)
def test_it_starts(agent_pyz: Path, version: str) -> None:
    ended = start(python_or_skip(version), agent_pyz, "version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"conntrack-lab guest agent, protocol {PROTOCOL_VERSION}\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_it_holds_connections(agent_pyz: Path, version: str) -> None:
    ended = start(
        python_or_skip(version),
        agent_pyz,
        *("load", "--connections", str(CONNECTIONS), "--first-port", str(free_row())),
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    result = json.loads(ended.stdout)
    assert result["ended"] == "all-held"
    assert result["progress"]["accepted"] == CONNECTIONS


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("close", ["reset", "vanish"])
def test_it_opens_and_closes_connections(agent_pyz: Path, version: str, close: str) -> None:
    if close == "vanish" and os.geteuid() != 0:
        pytest.skip("vanishing needs root: CAP_NET_ADMIN")
    ended = start(
        python_or_skip(version),
        agent_pyz,
        *("load", "--kind", "churn", "--close", close, "--hold-seconds", "0.1", "--rate", "2000"),
        *("--connections", str(CONNECTIONS), "--first-port", str(free_row())),
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    result = json.loads(ended.stdout)
    assert (result["ended"], result["progress"]["held"]) == ("all-held", CONNECTIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_flood_and_its_newcomers(agent_pyz: Path, version: str) -> None:
    ended = start(
        python_or_skip(version),
        agent_pyz,
        *("load", "--kind", "udp", "--newcomers", "20"),
        *("--connections", str(CONNECTIONS), "--first-port", str(free_row())),
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    result = json.loads(ended.stdout)
    assert (result["ended"], result["progress"]["held"]) == ("all-held", CONNECTIONS)
    assert result["newcomers"]["held"] == 20


@pytest.mark.parametrize("version", VERSIONS)
def test_every_part_can_be_imported(agent_pyz: Path, version: str) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1])\n" + "".join(
        f"import {'.'.join(path.relative_to(ROOT).with_suffix('').parts)}\n"
        for path in SOURCES
        if not path.stem.startswith("__")
    )
    ended = subprocess.run(
        [python_or_skip(version), *ISOLATED, "-W", "error", "-c", code, str(agent_pyz)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_unknown_part_is_wrong_usage(agent_pyz: Path) -> None:
    ended = start(sys.executable, agent_pyz, "dance")
    assert ended.returncode == 2
    assert "unknown part 'dance'" in ended.stderr


@pytest.mark.parametrize("path", ALL_SOURCES, ids=lambda path: path.name)
def test_the_grammar_is_that_of_3_6(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 6))


def test_python_3_6_itself_compiles_it() -> None:
    code = "import sys\nfor path in sys.argv[1:]: compile(open(path, encoding='utf-8').read(), path, 'exec')"
    subprocess.run([python_or_skip("3.6"), *ISOLATED, "-c", code, *map(str, ALL_SOURCES)], timeout=60, check=True)
