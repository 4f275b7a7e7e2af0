"""Mitigations: which commands remove what a cell found to hold conntrack, and what came of running them.

A cell names its holders with the command that removes each. That is tried in a second machine: the same state, then the
commands, then the same load. What both machines showed makes the outcome.
"""
