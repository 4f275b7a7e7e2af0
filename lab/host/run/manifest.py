"""A run's manifest: what shaped it, and all by which `lab replay` runs the same again."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import lab
from lab.core.manifest import MANIFEST_VERSION, Host, Manifest
from lab.core.scenario import scenario_digest
from lab.host.machines.agent_package import agent_sha256
from lab.host.machines.machine import Prepared
from lab.host.options import RunOptions, stored_options
from lab.host.results.records import whole_manifest
from lab.host.results.store import now
from lab.host.run.planned import PlannedRun


def manifest_of(
    planned: PlannedRun, options: RunOptions, provisioner: Mapping[str, Any], targets: Mapping[str, Prepared]
) -> Manifest:
    """The manifest of a run that begins now; `provisioner` is what shapes its machines."""
    document = {
        "schema_version": MANIFEST_VERSION,
        "tool_version": lab.__version__,
        "command": ["lab", *options.command[1:]],  # by whatever path it was called
        "started_at": now(),
        "ended_at": None,
        "complete": False,
        "host": _host_document(),
        "provisioner": provisioner,
        "agent_sha256": agent_sha256(),
        "deadlines_seconds": vars(planned.kind.deadlines_with(options)),
        **stored_options(options),
        "targets": {name: target.manifest() for name, target in targets.items()},
        "scenarios": {scenario.name: scenario_digest(scenario) for scenario in planned.scenarios},
        "cells": [plan.cell for plan in planned.plans],
        "scenario_files": {
            scenario.name: {"path": scenario.path, "text": planned.texts[scenario.name]}
            for scenario in planned.scenarios
        },
        "replay_of": planned.replay_of,
    }
    return replace(whole_manifest(document), shard=planned.shard)


def host() -> Host:
    """The machine that the lab runs on."""
    return Host(**_host_document())


def _host_document() -> dict[str, Any]:
    uname = os.uname()
    return {
        "kernel_release": uname.release,
        "architecture": uname.machine,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
    }
