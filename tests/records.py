"""Records as they are read from documents; what a test leaves out of one is as in a cell of no interest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lab.core.manifest import Manifest
from lab.core.plan.stored import StoredPlan
from lab.core.result import CellResult
from lab.host.results.records import readable_parts, to_json, whole
from lab.host.results.stored_run import StoredRun
from tests import ROOT

Json = Mapping[str, Any]

_CELL: Json = {
    "cell": "a@debian12",
    "scenario": "a",
    "scenario_digest": "0" * 64,
    "variant": "a",
    "axes": {},
    "target": "debian12",
    "repeat": 1,
    "finding": "tracked",
    "reason": "for a test",
    "max_changed": [],
    "stages_seconds": {},
    "tries": [],
    **dict.fromkeys(("kernel_release", "cause", "expected", "because", "as_expected", "message_logged", "max")),
    **dict.fromkeys(("entries_before", "entries_peak", "drops", "early_drops", "insert_failed", "connections")),
    **dict.fromkeys(("first_drop_seconds", "holders", "proofs")),
}
_CONNECTIONS = dict.fromkeys(("attempted", "held", "failed", "lost", "accepted", "stalled", "untried"), 0)
_PROOFS = dict.fromkeys(("hooks", "holders", "behaviour", "disagreement"))
_HOLDER: Json = {
    **dict.fromkeys(("backend", "family", "table", "chain", "rule"), ""),
    **{"kind": "rule", "handle": None, "number": None, "depends_on": [], "families": [], "reachable": None},
    "remove": [],
}
_TRY: Json = {"number": 1, "lost": None, "stages_seconds": {}}


def stored(document: Json) -> CellResult:
    """The result that a document is."""
    cell = {**_CELL, **document}
    for name, rest in (("connections", _CONNECTIONS), ("proofs", _PROOFS)):
        cell[name] = cell[name] and {**rest, **cell[name]}
    cell["holders"] = cell["holders"] and [{**_HOLDER, **holder} for holder in cell["holders"]]
    cell["tries"] = [{**_TRY, **attempt} for attempt in cell["tries"]]
    return whole(CellResult, cell)


def changed(cell: CellResult, /, **changes: Any) -> CellResult:
    """The same result, with other values under these keys of its document."""
    return stored({**to_json(cell), **changes})


def stored_manifest(document: Json) -> Manifest:
    """The manifest that a document is, as far as it can be read."""
    found = readable_parts(Manifest, document).record
    assert found is not None
    return found


def stored_plan(document: Json) -> StoredPlan:
    """The plan that a document is."""
    return whole(StoredPlan, document)


def document(record: object) -> dict[str, Any]:
    """A record as it is after it was written and read."""
    content: dict[str, Any] = json.loads(json.dumps(to_json(record)))
    return content


def reference_cells() -> list[CellResult]:
    """The results of the reference run."""
    return list(StoredRun(ROOT / "results" / "reference").results)
