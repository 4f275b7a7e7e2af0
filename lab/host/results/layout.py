"""The names of the files in a run's folder; no other module spells them."""

from __future__ import annotations

# -- of a run
MANIFEST = "manifest.json"
RESULTS = "results.json"
CELLS = "cells"
LOCK = ".lock"
PAGE, MARKDOWN = "report.html", "report.md"
PARTIAL = ".partial-"  # what is being written begins with it
RUN_FILES = (MANIFEST, RESULTS)

# -- of a cell
RESULT = "result.json"
PLAN = "plan.json"
SCENARIO = "scenario.toml"
SAMPLES_CSV = "samples.csv"
KERNEL_LOG = "kmsg.log"
CONSOLE = "console.log"
VAGRANT_LOG = "vagrant.log"
HOST_CHANGES = "host-changes.txt"
TRIES = "tries"  # a folder for what each try recorded whose machine was lost
MITIGATION = "mitigation"  # the second machine, in which the holders are removed
KEPT_MACHINE = "machine"  # a whole machine, as it was at the end

# -- of a cell's evidence
EVIDENCE = "evidence"
SAMPLES = f"{EVIDENCE}/samples.jsonl"
ERRORS = "errors.json"  # in each snapshot
BEFORE, AFTER = SNAPSHOTS = ("before", "after")
# of those ends of the path in which the state does something, by role, after the load
ENDS = {"client": "after-client", "server": "after-server"}
# the parts that are JSON files as the guest said them
PARTS = ("machine", "topology", "settings", "load", "kernel_log_holes", "peer")
WHY = ("lost", "skipped")

# what a try records; `lab judge` makes what is DERIVED of it, again and again
RECORDED = (PLAN, SCENARIO, CONSOLE, KERNEL_LOG, VAGRANT_LOG, HOST_CHANGES, EVIDENCE)
DERIVED = (RESULT, SAMPLES_CSV, f"{MITIGATION}/{RESULT}", f"{MITIGATION}/{SAMPLES_CSV}")


def part(name: str) -> str:
    """The file of a part of a cell's evidence: `steps`, one of PARTS, or of WHY."""
    return f"{EVIDENCE}/{name}.json"


# what a report links, as far as a cell has it; folders end with a slash
LINKED = (
    *(RESULT, PLAN, SCENARIO, SAMPLES_CSV, KERNEL_LOG, CONSOLE, VAGRANT_LOG),
    *map(part, ("machine", "steps", "settings", "topology")),
    SAMPLES,
    *map(part, ("load", *WHY)),
    *(f"{EVIDENCE}/{name}/" for name in (*SNAPSHOTS, *ENDS.values())),
    *(f"{TRIES}/1/", f"{MITIGATION}/"),
)
