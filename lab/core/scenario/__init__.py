"""What the user wrote: scenario files, their meaning, and when they hold."""

from lab.core.scenario.digest import scenario_digest, scenario_meaning
from lab.core.scenario.model import (
    CLOSES,
    DEFAULT_CONNECTIONS,
    LOAD_KINDS,
    SCENARIO_VERSION,
    TIMEOUT_SYSCTLS,
    TOPOLOGIES,
    Axes,
    ConntrackSpec,
    FileStep,
    LoadSpec,
    MachineSpec,
    Matrix,
    RunStep,
    Scenario,
    Step,
    SysctlStep,
    UnloadStep,
)
from lab.core.scenario.read import MAX_PACKAGES_LENGTH, MAX_SCENARIO_BYTES, PACKAGE_NAME, parse_scenario
from lab.core.scenario.read_matrix import BACKEND_AXIS, MAX_AXES_LENGTH, MAX_VARIANTS, placeholder_values
from lab.core.scenario.table import did_you_mean
from lab.core.scenario.toml_text import parse_toml, with_sources

__all__ = [
    "BACKEND_AXIS",
    "CLOSES",
    "DEFAULT_CONNECTIONS",
    "LOAD_KINDS",
    "MAX_AXES_LENGTH",
    "MAX_PACKAGES_LENGTH",
    "MAX_SCENARIO_BYTES",
    "MAX_VARIANTS",
    "PACKAGE_NAME",
    "SCENARIO_VERSION",
    "TIMEOUT_SYSCTLS",
    "TOPOLOGIES",
    "Axes",
    "ConntrackSpec",
    "FileStep",
    "LoadSpec",
    "MachineSpec",
    "Matrix",
    "RunStep",
    "Scenario",
    "Step",
    "SysctlStep",
    "UnloadStep",
    "did_you_mean",
    "parse_scenario",
    "parse_toml",
    "placeholder_values",
    "scenario_digest",
    "scenario_meaning",
    "with_sources",
]
