"""Hosts to inspect: this one, and what was recorded of others."""
