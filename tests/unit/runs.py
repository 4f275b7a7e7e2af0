"""Runs for tests of comparisons: cells and manifests like those that real runs left, as far as a comparison reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lab.core.comparing.model import Run
from lab.core.result import CellResult
from tests.records import stored, stored_manifest

DIGEST, OTHER_DIGEST = "a" * 64, "b" * 64
EVIL = (
    "\x1b[2J\x07\nok  forged@debian12\r\t<script>|a](b)*`x```&amp;\u202e\x9b\ud800 @someone http://evil.example #1 "
    "]]>\x00"
)

HELD = {"untracked": 2000, "tracked": 2000, "table-full": 100, "evicted": 2000, "other-loss": 1900}


def cell(finding: str = "untracked", **changes: Any) -> CellResult:
    """A result as it is stored."""
    full = finding == "table-full"
    variant, target = changes.get("variant", "nat-flushed,iptables=nft"), changes.get("target", "debian12")
    repeat = changes.get("repeat", 1)
    held = HELD.get(finding)
    document = {
        "schema_version": 1,
        "cell": f"{variant}@{target.replace('/', '_')}{f'-r{repeat}' if repeat > 1 else ''}",
        "scenario": variant.partition(",")[0],
        "scenario_digest": DIGEST,
        "variant": variant,
        "target": target,
        "repeat": repeat,
        "kernel_release": "6.1.0-50-cloud-amd64",
        "versions": {"iptables": "1.8.9"},
        "finding": finding,
        "reason": f"it was {finding}",
        "expected": "untracked",
        "as_expected": None if finding == "skipped" else finding == "untracked",
        "message_logged": None if held is None else full,
        "drops": None if held is None else 1900 * full,
        "connections": None if held is None else {"held": held, "stalled": 2000 - held},
        "first_drop_seconds": 0.3 if full else None,
        **changes,
    }
    return stored(document)


def repeated(findings: Iterable[str], **changes: Any) -> list[CellResult]:
    """The repeats of one cell, by their findings."""
    return [cell(finding, repeat=number, **changes) for number, finding in enumerate(findings, start=1)]


def manifest(targets: Sequence[str] = ("debian12",)) -> dict[str, Any]:
    """A manifest as it is stored."""
    return {
        "schema_version": 1,
        "tool_version": "0.1.0",
        "command": ["lab", "run", "nat-flushed"],
        "started_at": "2026-11-21T00:54:46+00:00",
        "ended_at": "2026-11-21T00:55:07+00:00",
        "complete": True,
        "host": {"kernel_release": "6.18.44", "architecture": "x86_64", "python": "3.11.7", "processors": 2},
        "provisioner": {"name": "qemu", "qemu_version": "10.0.2", "accelerator": "tcg", "host_cpu": "a processor"},
        "agent_sha256": DIGEST,
        "deadlines_seconds": {"boot": 120.0, "load": 120.0},
        "overrides": {"connections": None, "max": None, "set": []},
        "targets": {
            name: {
                "image": name.partition("+")[0],
                "image_digest": DIGEST,
                "image_sha256s": {"root.ext4": DIGEST, "vmlinuz": DIGEST},
                "kernel_release": "6.1.0-50-cloud-amd64",
                "kernel_path": None,
                "kernel_digest": None,
                "packages": {"linux-image-6.1.0-50-cloud-amd64": "6.1.176-1", "iptables": "1.8.9-2"},
            }
            for name in targets
        },
        "scenarios": {"nat-flushed": DIGEST},
    }


def run(cells: Sequence[CellResult], name: str = "results/one", **changes: Any) -> Run:
    """A run with these cells; `changes` are the manifest's."""
    targets = tuple(dict.fromkeys(one.target for one in cells))
    return Run(name, stored_manifest({**manifest(targets), **changes}), tuple(cells))
