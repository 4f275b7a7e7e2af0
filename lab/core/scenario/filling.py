"""Whether a load can fill its table at all: an expectation that needs it full says nothing of a smaller load."""

from __future__ import annotations

from lab.core.scenario.model import Scenario

# findings that a table which is never full cannot have
NEEDS_FULL = ("table-full", "evicted")


def cannot_fill(scenario: Scenario, connections: object, newcomers: object, table_max: object) -> str | None:
    """Why a cell cannot fill the table that its scenario would fill; None where it can, or nobody changed either
    number, or one is not known.

    The numbers are those that the cell was planned with: --connections and --max may have set them.
    """
    own = (scenario.load.connections, scenario.conntrack.max)
    if not isinstance(connections, int) or not isinstance(table_max, int) or (connections, table_max) == own:
        return None
    opened = connections + (newcomers if isinstance(newcomers, int) else 0)
    if opened > table_max:
        return None
    return f"{opened} connections cannot fill a table of {table_max} entries"
