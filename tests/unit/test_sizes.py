"""Files and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import ROOT

MOST_LINES, MOST_OF_A_FUNCTION = 300, 40
FILES = sorted((ROOT / "lab").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_a_file_is_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MOST_LINES
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= MOST_OF_A_FUNCTION
    ]
    assert long == []
