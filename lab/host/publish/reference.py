"""The reference results: a finished run's manifest and results, with nothing in them of the machine that made them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from lab.core.errors import ScenarioError
from lab.core.plan import folder_of_target
from lab.core.sums import SUMS
from lab.host.cache import cache_root
from lab.host.kernels.source import SEPARATOR, is_fetched
from lab.host.results.layout import MANIFEST, RESULTS
from lab.host.results.plain_files import write_aside
from lab.host.results.store import json_text
from lab.host.results.stored_run import StoredRun
from lab.host.results.sums import run_sums

FOLDER = Path("results/reference")
README = "README.md"

Document = dict[str, Any]  # published as it is, but for words: whatever a lab of any version wrote

_KERNEL_MARK = "+kernel:"
_MIRROR = "--mirror"
_NUMBER = re.compile(r"\d+(?:\.\d+){1,2}")
_REPEAT = re.compile(r"-r\d+$")


def write_reference(run: Path, folder: Path) -> None:
    """Write the reference results of a run. Raises ScenarioError for a run that is not there, not whole or too new."""
    manifest, results = reference(run)
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(folder / MANIFEST, json_text(manifest))
    write_aside(folder / RESULTS, json_text(results))
    write_aside(folder / README, _readme(manifest))
    write_aside(folder / SUMS, run_sums(folder, (MANIFEST, RESULTS, README)))


def reference(run: Path) -> tuple[Document, Document]:
    """A run's manifest and results as they are published. Raises ScenarioError as write_reference does."""
    stored = StoredRun(run)
    stored.check_version()
    manifest, results = _read(stored, MANIFEST), _read(stored, RESULTS)
    if not stored.manifest.complete:
        raise ScenarioError(f"{run}: did not end", hint="name a run whose every cell has a result")
    names = _published_names(manifest["targets"])
    cells = [_published_cell(cell, names) for cell in results["cells"]]
    renamed = {old["cell"]: new["cell"] for old, new in zip(results["cells"], cells, strict=True)}
    return _published_manifest(manifest, names, renamed), _scrubbed({**results, "cells": cells})


def _published_names(targets: Mapping[str, Any]) -> dict[str, str]:
    """Each target's name without the folders of the user's own kernel."""
    names = {name: _without_folders(name) for name in targets}
    for name, short in names.items():
        if same := [other for other in names if other != name and names[other] == short]:
            raise ScenarioError(
                f"{name} and {same[0]} are both {short}", hint="give the kernels' files different names"
            )
    return names


def _without_folders(text: str) -> str:
    """A word of a command line, or a target: of paths on this machine the last part only."""
    prefix, mark, path = text.partition(_KERNEL_MARK)
    if not mark:
        prefix, mark, path = text.partition("=") if text.startswith("-") else ("", "", text)
    if not (mark == _KERNEL_MARK or path.startswith(("/", "~", "../")) or "/../" in path):
        return text
    return f"{prefix}{mark}{_kernel_without_folders(path)}"


def _kernel_without_folders(source: str) -> str:
    """What `--kernel` named: suites and URLs as they are, of files the last part only."""
    parts = source.split(SEPARATOR)
    return SEPARATOR.join(part if is_fetched(part) else PurePath(part).name or part for part in parts)


def _published_manifest(manifest: Document, names: Mapping[str, str], cells: Mapping[str, str]) -> Document:
    host, release = manifest["host"], _NUMBER.search(manifest["host"]["kernel_release"])
    # their texts are published as they are: what they mean is what they say
    files = manifest.get("scenario_files", {})
    published = {name: {**file, "path": _without_folders(file["path"])} for name, file in files.items()}
    kept = {name: value for name, value in manifest.items() if name != "scenario_files"}
    return _scrubbed(
        {
            **kept,
            **_published_options(manifest, cells),
            "command": _published_command(manifest["command"]),
            "host": {**host, "kernel_release": release[0] if release else "unknown"},
            "targets": {
                names[name]: {
                    **target,
                    "kernel_path": target["kernel_path"] and _kernel_without_folders(target["kernel_path"]),
                }
                for name, target in manifest["targets"].items()
            },
        }
    ) | ({"scenario_files": published} if published else {})


def _published_options(manifest: Document, cells: Mapping[str, str]) -> Document:
    """What newer manifests have beside, by which the run can be replayed."""
    kept: Document = {}
    if "cells" in manifest:
        kept["cells"] = [cells.get(cell, cell) for cell in manifest["cells"]]
    if "options" in manifest:
        modules = manifest["options"]["modules"]
        kept["options"] = {**manifest["options"], "modules": modules and PurePath(modules).name}
    return kept


def _published_command(command: Sequence[str]) -> list[str]:
    """The command line as another would type it: the program's name, no folders, no mirror."""
    words = iter(command[1:])
    kept: list[str] = []
    for word in words:
        if word == _MIRROR:
            next(words, None)
        elif not word.startswith(f"{_MIRROR}="):
            kept.append(_without_folders(word))
    return ["lab", *kept]


def _published_cell(cell: Document, names: Mapping[str, str]) -> Document:
    target = names.get(cell["target"], cell["target"])
    if target == cell["target"]:
        return cell
    repeat = _REPEAT.search(cell["cell"]) if cell["repeat"] > 1 else None
    name = f"{cell['variant']}@{folder_of_target(target)}{repeat[0] if repeat else ''}"
    return {**cell, "cell": name, "target": target}


def _scrubbed(document: Document) -> Document:
    """The document without this machine's folders in any text of it: a reason may quote one."""
    # /root is the guest's, too
    roots = {str(path) for path in (cache_root(), Path.cwd(), Path.home())} - {"/", "/root"}
    pattern = re.compile("|".join(f"{re.escape(root)}(?![\\w.-])/?" for root in sorted(roots, key=len, reverse=True)))
    scrubbed: Document = _substituted(document, pattern)
    return scrubbed


def _substituted(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub("", value)
    if isinstance(value, dict):
        return {name: _substituted(inner, pattern) for name, inner in value.items()}
    return [_substituted(inner, pattern) for inner in value] if isinstance(value, list) else value


def _read(run: StoredRun, name: str) -> Document:
    content = run.document(name)
    if content is None:
        raise ScenarioError(f"{run.folder / name}: is not there", hint="name a run's folder, as in results/latest")
    return content


def _readme(manifest: Document) -> str:
    return f"""\
# Reference results

One run of the shipped scenarios, kept to compare with. As a table: [docs/matrix.md](../../docs/matrix.md).

| file | holds |
|---|---|
| `manifest.json` | what shaped the run: targets, kernels, packages, digests, limits |
| `results.json` | every cell's result, with its numbers and times |
| `SHA256SUMS` | the digests of these files; `lab verify results/reference` checks them |

What the keys mean: [docs/results.md](../../docs/results.md).
What can be compared with them: [docs/compare.md](../../docs/compare.md).

The run was made on {manifest["started_at"][:10]} with

```sh
{shlex.join(manifest["command"])}
```

To make these files again:

```sh
lab run '*' --target '*'
scripts/write-reference results/latest
scripts/write-docs
```

Left out, as they are of one machine: paths, its kernel's build, its mirror. The evidence is too large to be kept here;
a run makes it again.
"""
