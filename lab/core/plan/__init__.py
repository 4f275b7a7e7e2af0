"""What will be run: scenarios on targets as cells, and each cell as a plan."""

from lab.core.plan.cells import (
    MAX_CELLS,
    MAX_REPEAT,
    Cell,
    Variant,
    cells,
    folder_of_target,
    parse_chosen,
    select_variants,
    variants,
)
from lab.core.plan.describe import describe, describe_load, describe_outcome
from lab.core.plan.plan import (
    PLAN_VERSION,
    CellPlan,
    ExpectedRule,
    Overrides,
    PlannedStep,
    RemoveStep,
    plan_cell,
    requirement,
    step_request,
)
from lab.core.plan.reach import memory_needed_mb, open_at_once, reachable_connections

__all__ = [
    "MAX_CELLS",
    "MAX_REPEAT",
    "PLAN_VERSION",
    "Cell",
    "CellPlan",
    "ExpectedRule",
    "Overrides",
    "PlannedStep",
    "RemoveStep",
    "Variant",
    "cells",
    "describe",
    "describe_load",
    "describe_outcome",
    "folder_of_target",
    "memory_needed_mb",
    "open_at_once",
    "parse_chosen",
    "plan_cell",
    "reachable_connections",
    "requirement",
    "select_variants",
    "step_request",
    "variants",
]
