"""Which code may do what: the guest's stands alone, the core does nothing but think."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

LAB = ROOT / "lab"
GUEST = sorted((LAB / "guest").rglob("*.py"))
CORE = sorted((LAB / "core").rglob("*.py"))

# the core has no clock, no dice, no files, no processes and no network
WITH_EFFECTS = frozenset(
    "asyncio datetime glob io logging os pathlib random secrets select shutil signal socket subprocess sys tempfile "
    "threading time urllib uuid".split()
)
# a path that is only taken apart
HARMLESS = frozenset({("pathlib", "PurePath"), ("pathlib", "PurePosixPath")})
CALLS_WITH_EFFECTS = frozenset({"open", "print", "input", "exec", "eval", "__import__", "breakpoint"})


def name_of(path: object) -> str:
    return str(path.relative_to(LAB)) if isinstance(path, Path) else str(path)


def imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, module, and the name taken from it, of every import, also within functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, module, alias.name) for alias in node.names)


def is_stdlib(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def in_functions(tree: ast.AST) -> set[ast.AST]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {inner for function in functions for inner in ast.walk(function)}


def foreign_imports(source: str, own: str) -> list[str]:
    """The imports that are neither the standard library's nor `own`; uvloop may be, where it is asked for."""
    tree = ast.parse(source)
    late = in_functions(tree)
    late_lines = {node.lineno for node in late if isinstance(node, ast.Import | ast.ImportFrom)}
    found = []
    for line, module, name in imports(tree):
        whole = f"{module}.{name}" if name else module
        late_uvloop = own == "lab.guest" and module == "uvloop" and line in late_lines
        if not (is_stdlib(module) or f"{whole}.".startswith(f"{own}.") or late_uvloop):
            found.append(f"{line}: {whole}")
    return found


def effects(source: str) -> list[str]:
    tree = ast.parse(source)
    found = [
        f"{line}: {module}.{name}"
        for line, module, name in imports(tree)
        if module.partition(".")[0] in WITH_EFFECTS and (module, name) not in HARMLESS
    ]
    calls = ((node.lineno, node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))
    named = ((line, function.id) for line, function in calls if isinstance(function, ast.Name))
    return found + [f"{line}: {name}()" for line, name in named if name in CALLS_WITH_EFFECTS]


def test_there_is_something_to_look_at() -> None:
    assert len(GUEST) > 10
    assert len(CORE) > 10


@pytest.mark.parametrize("path", GUEST, ids=name_of)
def test_guest_code_imports_only_the_standard_library_and_itself(path: Path) -> None:
    assert foreign_imports(path.read_text(), "lab.guest") == []


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_core_code_imports_only_the_standard_library_and_itself(path: Path) -> None:
    assert foreign_imports(path.read_text(), "lab.core") == []


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_core_code_has_no_effects(path: Path) -> None:
    assert effects(path.read_text()) == []


def test_only_the_command_line_prints_or_exits() -> None:
    said = {}
    for path in sorted((LAB / "host").rglob("*.py")):
        names = [
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit", "os._exit")
        ]
        if names:
            said[name_of(path)] = set(names)
    assert said.pop("host/results/apart.py") == {"os._exit"}  # of a process that it has forked
    assert {Path(name).parent for name in said} == {Path("host/cli")}
    assert set().union(*said.values()) == {"print"}


# -- the rules can be broken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "import qemu.qmp",
        "from lab.core import plan",
        "import lab",
        "from lab import core",
        "from lab.guestbook import x",
        "from . import agent",
        "import uvloop",
        "def f():\n    import requests",
    ],
)
def test_a_foreign_import_is_seen(source: str) -> None:
    assert foreign_imports(source, "lab.guest")


def test_what_the_guest_may_import() -> None:
    source = "import os.path\nfrom lab.guest import agent\nimport lab.guest.load\ndef f():\n    import uvloop\n"
    assert foreign_imports(source, "lab.guest") == []
    assert foreign_imports("def f():\n    import uvloop\n", "lab.core")


@pytest.mark.parametrize(
    "source", ["import time", "from random import choice", "open('x')", "print()", "import os.path"]
)
def test_an_effect_is_seen(source: str) -> None:
    assert effects(source)
