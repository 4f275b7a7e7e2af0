"""Runs in their folders, made of the recorded cells in tests/golden: a small one, large ones, and a hostile one."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

from lab.host.results.judging import judge_run
from tests.recordings import GOLDEN

TARGETS = ("debian11", "debian12", "debian13", "forky")

# What runs a script, or ends what it stands in, wherever a page forgets that it is a text.
EVIL = (
    "\x1b[2J\u202e\x00\ud800{{ 7*7 }}{% x %}]]>--></title></style></script></noscript></pre></code></template>"
    "</textarea><script>evil = 1</script><img src=x onerror='evil = 1'><svg onload=evil=1>"
    "<a href=javascript:evil=1>x</a><iframe srcdoc='<script>parent.evil = 1</script>'></iframe>"
    "<style>*{display:none}</style>\" onmouseover=\"evil = 1\" ' autofocus onfocus='evil = 1' `<b>ticks</b>` &lt;b&gt;"
)

Json = dict[str, Any]


def small_run(folder: Path) -> Path:
    """Every recorded cell, judged, with a manifest."""
    shutil.copytree(GOLDEN / "cells", folder / "cells", ignore=shutil.ignore_patterns("README.md"))
    manifest = read(GOLDEN / "results" / "manifest.json")
    manifest["targets"] = {name: {**manifest["targets"]["debian12"], "kernel_release": None} for name in TARGETS}
    write(folder / "manifest.json", manifest)
    judge_run(folder)
    return folder


def large_run(folder: Path, count: int, small: Path) -> Path:
    """`count` cells: those of a small run again and again, under other states."""
    cells = sorted((small / "cells").iterdir())
    (folder / "cells").mkdir(parents=True)
    shutil.copy(small / "manifest.json", folder)
    results = []
    for number, cell in enumerate(itertools.islice(itertools.cycle(cells), count)):
        again = number // len(cells)
        results.append(_once_more(cell, folder / "cells", f"-{again}" if again else ""))
    write(folder / "results.json", {"schema_version": 1, "cells": results})
    return folder


def hostile_run(folder: Path, small: Path, cell: str) -> Path:
    """One cell of a small run in which every text that comes from a guest, a file or a command line is `EVIL`."""
    name = "<b onclick='evil=1'>#?%41 javascript:"
    target = folder / "cells" / name
    shutil.copytree(small / "cells" / cell, target)
    result = read(target / "result.json")
    holder = {**(result["holders"] or [{}])[0], "rule": EVIL, "remove": [EVIL], "chain": EVIL, "reachable": False}
    mitigation = {"outcome": "fixes", "reason": EVIL, "commands": [[EVIL, EVIL]], "finding": "untracked"}
    proofs = {"hooks": False, "holders": True, "behaviour": None, "notrack": False, "disagreement": EVIL}
    tries: list[dict[str, Any]] = [{"number": number, "lost": EVIL, "stages_seconds": {}} for number in (1, 2)]
    texts = dict.fromkeys(("scenario", "variant", "target", "kernel_release", "expected", "because", "cause"), EVIL)
    result.update(texts, cell=name, reason=f"{EVIL}\n{EVIL}", axes={EVIL: EVIL}, errors={EVIL: 3}, tries=tries)
    result.update(holders=[holder], mitigation=mitigation, proofs=proofs, as_expected=False)
    write(target / "result.json", result)
    plan = read(target / "plan.json")
    plan["steps"] = [
        {"key": "state[0]", "kind": "run", "argv": [EVIL, EVIL], "refused": True},
        {"key": "state[1]", "kind": "file", "path": EVIL, "text": EVIL},
        {"key": "state[2]", "kind": EVIL, EVIL: EVIL},
    ]
    write(target / "plan.json", plan)
    said = {"exit_status": EVIL, "stdout": EVIL, "stderr": EVIL}
    write(target / "evidence" / "steps.json", {"reached": False, "steps": [{**said, "number": n} for n in range(2)]})
    (target / "scenario.toml").write_text(f"summary = {json.dumps(EVIL)}")
    line = EVIL.replace("\ud800", "").replace("\x00", "").replace("\x1b", "")
    (target / "kmsg.log").write_text(f"4,1,1000,-;{line}\n4,2,2000,-;{line}\n4,3,3000,-;other\n", encoding="utf-8")
    manifest = read(small / "manifest.json")
    manifest.update(tool_version=EVIL, started_at=EVIL, ended_at=EVIL, command=[EVIL], complete=False)
    manifest["provisioner"].update(qemu_version=EVIL, accelerator=EVIL)
    manifest["overrides"].update(set=[EVIL])
    manifest["targets"] = {EVIL: {"packages": {EVIL: EVIL}, "image_digest": EVIL, "kernel_release": EVIL}}
    write(folder / "manifest.json", manifest)
    return folder


def read(path: Path) -> Json:
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content


def write(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _once_more(cell: Path, cells: Path, suffix: str) -> Json:
    """A cell as of a scenario with another name; gives its result."""
    result = read(cell / "result.json")
    scenario = result["scenario"] + suffix
    name, variant = (result[key].replace(result["scenario"], scenario, 1) for key in ("cell", "variant"))
    result.update(cell=name, scenario=scenario, variant=variant)
    shutil.copytree(cell, cells / name, copy_function=_linked)
    (cells / name / "result.json").unlink()
    write(cells / name / "result.json", result)
    return result


def _linked(source: str, target: str) -> str:
    Path(target).hardlink_to(source)
    return target
