"""The documents that are made from other files: the scenarios' pages and their index, the matrix, and a table of the
kernels' page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lab.core.kernel.facts import with_facts
from lab.core.render.matrix import matrix_page
from lab.core.render.pages import MADE_BY, scenario_index, scenario_page
from lab.host.publish import reference
from lab.host.results.layout import MANIFEST
from lab.host.results.plain_files import write_aside
from lab.host.results.stored_run import StoredRun, wall_seconds
from lab.host.scenario_files import PROGRAMS, load_scenario

_SCENARIOS = Path("docs/scenarios")
_MATRIX = Path("docs/matrix.md")
_KERNELS = Path("docs/kernels.md")  # written by hand, but for a table


def documents(root: Path) -> Mapping[Path, str]:
    """Every document that is made, by its path in the checkout `root`. Raises ScenarioError for a wrong scenario."""
    shipped = (
        path for folder in ("scenarios", f"scenarios/{PROGRAMS}") for path in sorted((root / folder).glob("*.toml"))
    )
    scenarios = [load_scenario(path) for path in shipped]
    made = {_SCENARIOS / f"{scenario.name}.md": scenario_page(scenario) for scenario in scenarios}
    matrix = _matrix(root / reference.FOLDER)
    made[_SCENARIOS / "README.md"] = scenario_index(scenarios, matrix=matrix is not None)
    if matrix is not None:
        made[_MATRIX] = matrix
    if (root / _KERNELS).is_file():
        made[_KERNELS] = with_facts((root / _KERNELS).read_text(encoding="utf-8"))
    return made


def outdated(root: Path) -> dict[Path, str]:
    """The documents that are not what they would be made, each with why; a document that nothing makes is one, too."""
    made = documents(root)
    found = {path: "is of something that is not there any more" for path in _written(root) if path not in made}
    for path, text in made.items():
        if not (root / path).is_file():
            found[path] = "is missing"
        elif (root / path).read_text(encoding="utf-8") != text:
            found[path] = "is outdated"
    return found


def write_documents(root: Path) -> list[Path]:
    """Write what is outdated, and remove what nothing makes any more; gives the paths that changed."""
    made = documents(root)
    changed = sorted(outdated(root))
    for path in changed:
        if path in made:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            write_aside(root / path, made[path])
        else:
            (root / path).unlink()
    return changed


def _written(root: Path) -> list[Path]:
    """The documents that are there and were made: each says so in its first line."""
    paths = [*(root / _SCENARIOS).glob("*.md"), root / _MATRIX]
    mark = f"<!-- Made by {MADE_BY} "
    return [path.relative_to(root) for path in paths if path.is_file() and path.read_text().startswith(mark)]


def _matrix(folder: Path) -> str | None:
    """The matrix of the reference results; None without them."""
    if not (folder / MANIFEST).is_file():
        return None
    run = StoredRun(folder)
    return matrix_page(run.manifest, run.results, wall_seconds(run.manifest) or 0.0, MADE_BY)
