"""What nothing in the lab calls, but for its tests, is not there."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from vulture import Vulture

from tests import ROOT

LAB = ROOT / "lab"
# a machine for tests, which the lab has no use for itself
FOR_TESTS = [LAB / "host" / "machines" / "playback.py"]
# not "variable" and "attribute": a record's fields are read by name where it is stored
KINDS = ("class", "function", "method", "property", "import", "unreachable_code")


def words_of_templates_and_scripts() -> set[str]:
    """What is named where no Python file names it."""
    files = [
        *(LAB / "host" / "report" / "templates").rglob("*"),
        *(ROOT / "scripts").iterdir(),
        *(ROOT / "bench").iterdir(),
    ]
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in files if path.is_file())
    return {word for text in texts for word in re.findall(r"\w+", text)}


def is_override(path: Path, name: str) -> bool:
    """Whether a class of a file has the name from a library, which calls it."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    classes = [
        value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    return any(
        hasattr(base, name) for owner in classes for base in owner.__mro__[1:] if not base.__module__.startswith("lab.")
    )


def unused(vulture: Vulture) -> Iterator[str]:
    vulture.used_names.update(words_of_templates_and_scripts())
    for item in vulture.get_unused_code(min_confidence=60):
        path = Path(item.filename)
        if item.typ in KINDS and path not in FOR_TESTS and not (LAB in path.parents and is_override(path, item.name)):
            yield f"{path.name}:{item.first_lineno}: {item.typ} {item.name}"


def test_nothing_is_there_for_its_tests_alone() -> None:
    vulture = Vulture(ignore_decorators=["@atexit.register"])
    vulture.scavenge([str(LAB)])
    assert list(unused(vulture)) == []


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("def nobody_calls_it():\n    pass\n", "function nobody_calls_it"),
        ("class NobodyMakesIt:\n    pass\n", "class NobodyMakesIt"),
        ("def f():\n    return 1\n    f()\nf()\n", "unreachable_code return"),
    ],
)
def test_dead_code_is_seen(source: str, what: str) -> None:
    vulture = Vulture()
    vulture.scan(source, filename="x.py")
    assert [line.partition(": ")[2] for line in unused(vulture)] == [what]
