"""Reading [matrix]: the axes, their values, and the placeholders that they give."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

from lab.core.scenario.condition import BACKEND_NEEDS
from lab.core.scenario.expectation import AxisValue, Chosen
from lab.core.scenario.model import Axes, Matrix
from lab.core.scenario.table import MAX_NUMBER, Table, did_you_mean, quoted, said

MAX_VARIANTS = 256
MAX_AXES_LENGTH = 100  # of ",axis=value" for all axes: a variant's name is part of a folder's

# The axis `iptables` chooses a backend; its placeholders are program names. Any other axis `x` gives {x}, its value.
BACKEND_AXIS = "iptables"
BACKENDS = tuple(BACKEND_NEEDS)
_BACKEND_PROGRAMS: Mapping[str, str] = {"iptables": "iptables-{}", "ip6tables": "ip6tables-{}"}

# Axes stand among these keys in [[expect]], and {ip6tables} is the backend's own.
_RESERVED_AXES = (
    *("kernel", "target", "config", "iptables_version", "nft_version"),
    *("finding", "because", "ip6tables"),
)

_AXIS = re.compile(r"[a-z][a-z0-9_]{0,31}")
_AXIS_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


def placeholder_values(axes: Axes) -> Mapping[str, str]:
    """What `{name}` stands for in a variant with these axes."""
    values: dict[str, str] = {}
    for axis, value in axes.items():
        forms = _BACKEND_PROGRAMS if axis == BACKEND_AXIS else {axis: "{}"}
        values |= {name: form.format(value) for name, form in forms.items()}
    return values


def placeholder_names(matrix: Matrix) -> Collection[str]:
    return placeholder_values(dict.fromkeys(matrix, "")).keys()


def read_matrix(table: Table) -> Matrix:
    matrix: dict[str, tuple[AxisValue, ...]] = {}
    for axis in table.names():
        if not _AXIS.fullmatch(axis) or axis in _RESERVED_AXES:
            table.take(axis)
            table.problem(axis, "cannot be the name of an axis", "use another: small letters, digits and '_'")
            continue
        matrix[axis] = _read_axis(table, axis)
    table.finish()
    count = math.prod(len(values) for values in matrix.values())
    if count > MAX_VARIANTS:
        table.problem("", f"makes more than {MAX_VARIANTS} variants", "take values away")
    longest = (len(axis) + 2 + max((len(str(value)) for value in matrix[axis]), default=0) for axis in matrix)
    if sum(longest) > MAX_AXES_LENGTH:
        table.problem("", "makes names that are too long for folders", "shorten axes and values")
    return matrix


def _read_axis(table: Table, axis: str) -> tuple[AxisValue, ...]:
    values: dict[str, AxisValue] = {}
    given = table.items(axis)
    if given == ():
        table.problem(axis, "is an empty list", f"give it values, or remove {axis}")
    for index, value in enumerate(given or ()):
        key = f"{axis}[{index}]"
        if problem := _axis_value_problem(axis, value):
            table.problem(key, *problem)
        elif str(value) in values:
            table.problem(key, f"{value!r} stands there twice", "remove one of them")
        elif isinstance(value, str | int):
            values[str(value)] = value
    return tuple(values.values())


def _axis_value_problem(axis: str, value: object) -> tuple[str, str] | None:
    if axis == BACKEND_AXIS and value not in BACKENDS:
        return f"is {said(value)}, must be one of {quoted(BACKENDS)}", did_you_mean(value, BACKENDS)
    if isinstance(value, str):
        if not _AXIS_TEXT.fullmatch(value):
            return f"is {said(value)}, but values become folder names", "use up to 32 of: letters, digits, '._-'"
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        return f"is {said(value)}, must be text or a whole number", f'write {axis} = ["one", "two"]'
    return None if 0 <= value <= MAX_NUMBER else (f"is {said(value)}", f"use 0 to {MAX_NUMBER}")


def read_when(table: Table, matrix: Matrix) -> Chosen:
    when = table.table("when")
    conditions = read_axes(when, matrix)
    when.finish(also=matrix, what="axis")
    return conditions


def read_axes(table: Table, matrix: Matrix) -> Chosen:
    """The axes that a table fixes, each to one of its values, or to a list of them."""
    conditions: dict[str, AxisValue | tuple[AxisValue, ...]] = {}
    for axis, values in matrix.items():
        given = table.take(axis)
        if given is None or not values:
            continue
        listed = given if isinstance(given, list) else [given]
        if not listed:
            table.problem(axis, "is an empty list", f"give it values of {quoted(values)}")
        found = _known_values(table, axis, listed, values)
        if found:
            conditions[axis] = found[0] if len(found) == 1 else found
    return conditions


def _known_values(
    table: Table, axis: str, given: Sequence[object], values: Sequence[AxisValue]
) -> tuple[AxisValue, ...]:
    """Those of the given values that the axis has, in the axis' order; the others are noted as problems."""
    known = {(type(value), value) for value in values}
    for other in given:
        if not isinstance(other, str | int) or (type(other), other) not in known:
            hint = did_you_mean(other, [str(value) for value in values])
            table.problem(axis, f"is {said(other)}, must be one of {quoted(values)}", hint)
    asked = {(type(one), one) for one in given if isinstance(one, str | int)}
    return tuple(value for value in values if (type(value), value) in asked)
