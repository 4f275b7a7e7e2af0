"""What the kernel says about connection tracking in /proc and /sys: text in, value out."""

from lab.core.kernel.counters import LEVEL_COLUMN, counter_delta, mib, stat_totals
from lab.core.kernel.entries import Entry, Flow, entries
from lab.core.kernel.lines import integer
from lab.core.kernel.modules import (
    CONNTRACK_MODULES,
    MODULE_STATES,
    Module,
    ModuleFact,
    conntrack_module,
    conntrack_modules,
    modules,
)
from lab.core.kernel.slab import Slab, cache_objects, slab

__all__ = [
    "CONNTRACK_MODULES",
    "LEVEL_COLUMN",
    "MODULE_STATES",
    "Entry",
    "Flow",
    "Module",
    "ModuleFact",
    "Slab",
    "cache_objects",
    "conntrack_module",
    "conntrack_modules",
    "counter_delta",
    "entries",
    "integer",
    "mib",
    "modules",
    "slab",
    "stat_totals",
]
