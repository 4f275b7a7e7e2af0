"""Reading what a scenario needs of a machine, and what it expects there."""

from __future__ import annotations

from collections.abc import Iterable

from lab.core.kernel.version import VersionSpec, parse_version_spec
from lab.core.scenario.condition import Condition, ConfigSpec, Requirement, parse_config_spec
from lab.core.scenario.expectation import FINDINGS, Expectation
from lab.core.scenario.model import Matrix
from lab.core.scenario.read_matrix import BACKENDS, read_axes
from lab.core.scenario.read_steps import MODULE_NAME
from lab.core.scenario.table import Table, did_you_mean, quoted, said


def read_requires(table: Table) -> Requirement:
    requirement = Requirement(
        condition=_read_condition(table),
        modules=_read_modules(table, "modules"),
        loadable=_read_modules(table, "loadable"),
        backends=tuple(one for one in table.texts("backends") or () if _is_backend(table, one)),
    )
    table.finish()
    return requirement


def _is_backend(table: Table, text: str) -> bool:
    if text not in BACKENDS:
        table.problem("backends", f"has {said(text)}, must be of {quoted(BACKENDS)}", did_you_mean(text, BACKENDS))
    return text in BACKENDS


def _read_modules(table: Table, key: str) -> tuple[str, ...]:
    modules = table.texts(key) or ()
    for index, module in enumerate(modules):
        if not MODULE_NAME.fullmatch(module):
            table.problem(f"{key}[{index}]", f"is {said(module)}, no name of a module", "use letters, digits and '_'")
    return tuple(module.replace("-", "_") for module in modules)


def _read_condition(table: Table) -> Condition:
    return Condition(
        kernel=_read_version_spec(table, "kernel"),
        target=table.line("target") or None,
        iptables_version=_read_version_spec(table, "iptables_version"),
        nft_version=_read_version_spec(table, "nft_version"),
        config=_read_config(table),
    )


def _read_config(table: Table) -> tuple[ConfigSpec, ...]:
    specs: list[ConfigSpec] = []
    for index, text in enumerate(table.texts("config") or ()):
        try:
            specs.append(parse_config_spec(text))
        except ValueError as error:
            table.problem(f"config[{index}]", str(error), 'write config = ["NF_CONNTRACK=m"]')
    return tuple(specs)


def read_expectations(tables: Iterable[Table], matrix: Matrix) -> tuple[Expectation, ...]:
    expectations: list[Expectation] = []
    complete = False
    for table in tables:
        expectation = Expectation(
            finding=_read_finding(table),
            because=table.line("because"),
            condition=_read_condition(table),
            axes=read_axes(table, matrix),
        )
        table.finish(also=matrix, what="key or axis")
        if complete:
            table.problem("", "is never reached: one before it always holds", "move it up, or remove one of them")
        complete = complete or (expectation.unconditional and table.sound)
        expectations.append(expectation)
    return tuple(expectations)


def _read_finding(table: Table) -> str:
    finding = table.text("finding", required=True)
    if finding and finding not in FINDINGS:
        hint = did_you_mean(finding, FINDINGS)
        table.problem("finding", f"is {said(finding)}, which is no finding", hint)
    return finding


def _read_version_spec(table: Table, key: str) -> VersionSpec | None:
    text = table.text(key)
    if key not in table or table.is_wrong(key):
        return None
    try:
        return parse_version_spec(text)
    except ValueError as error:
        table.problem(key, f"is {said(text)}: {error}", "write comparisons, as in '<4.14' or '>=5.1,<6.2'")
        return None
