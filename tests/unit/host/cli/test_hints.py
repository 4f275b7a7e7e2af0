"""Every error that a person can see says how to fix it: looked up in the source, as no test meets all of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.core.errors import GuestLost, LabError
from tests import ROOT

LAB = ROOT / "lab"

# file and message -> why it has no hint
JUSTIFIED = {
    ("host/cache.py", "{self.what}: interrupted"): "whoever interrupted knows; the interrupt is what is shown",
}


def kinds(trees: dict[Path, ast.Module]) -> set[str]:
    """The names of LabError and of all that derive from it, but for GuestLost: that becomes the finding `inconclusive`,
    and where a command shows it all the same, lab/host/cli/ending.py has the hint.
    """
    defined = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return descendants(defined, LabError.__name__) - descendants(defined, GuestLost.__name__)


def descendants(defined: list[ast.ClassDef], name: str) -> set[str]:
    """The class of that name, and those that derive from it."""
    known = {name}
    while more := {one.name for one in defined if {name_of(base) for base in one.bases} & known} - known:
        known |= more
    return known


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name; empty for what is none."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def without_hint(tree: ast.Module, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line and message of every error that is made without a hint, or with one that may be empty."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in known:
            hints = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "hint")]
            if not hints or any(may_be_empty(hint) for hint in hints):
                yield node.lineno, ast.unparse(node.args[0]).lstrip("f").strip("'\"") if node.args else ""


def may_be_empty(hint: ast.expr) -> bool:
    """Whether a hint, or a branch of it, is the empty text."""
    if isinstance(hint, ast.IfExp):
        return may_be_empty(hint.body) or may_be_empty(hint.orelse)
    return isinstance(hint, ast.Constant) and not hint.value


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(LAB.rglob("*.py"))}


def test_every_error_has_a_hint(trees: dict[Path, ast.Module]) -> None:
    known = kinds(trees)
    assert {"LabError", "ScenarioError", "PrerequisiteError", "Cancelled"} <= known
    found = {
        (str(path.relative_to(LAB)), message): line
        for path, tree in trees.items()
        for line, message in without_hint(tree, known)
    }
    assert {
        f"{path}:{line}: {message}" for (path, message), line in found.items() if (path, message) not in JUSTIFIED
    } == set()
    assert set(JUSTIFIED) <= set(found), "what has a hint by now needs no justification"


@pytest.mark.parametrize(
    "source",
    [
        "raise LabError('x')",
        "raise errors.LabError(f'{x}')",
        "e = LabError('x', '')",
        "raise LabError('x', hint='')",
        "raise LabError('x', hint=y if y else '')",
        "raise LabError()",
    ],
)
def test_a_missing_hint_is_seen(source: str) -> None:
    assert list(without_hint(ast.parse(source), {"LabError"}))


@pytest.mark.parametrize(
    "source", ["LabError('x', 'y')", "LabError('x', hint=f'{y}')", "LabError('x', hint=y if z else 'w')"]
)
def test_a_hint_is_seen(source: str) -> None:
    assert not list(without_hint(ast.parse(source), {"LabError"}))
