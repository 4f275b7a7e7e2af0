"""Mitigations: which commands remove what a cell found to hold conntrack, and what came of running them.

A cell names its holders with the command that removes each. That is tried in a second machine: the same state, then the
commands, then the same load. What both machines showed makes the outcome.
"""

from lab.core.mitigation.advice import command_words
from lab.core.mitigation.judged import Judged, judged
from lab.core.mitigation.outcome import OUTCOMES, called_for, outcome
from lab.core.mitigation.removal import Commands, Removal, mitigated, planned_commands, removal_of
from lab.core.result import Mitigation

__all__ = [
    "OUTCOMES",
    "Commands",
    "Judged",
    "Mitigation",
    "Removal",
    "called_for",
    "command_words",
    "judged",
    "mitigated",
    "outcome",
    "planned_commands",
    "removal_of",
]
