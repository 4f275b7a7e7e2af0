"""Benchmarks: each is an executable in this folder that measures, prints a table and metric lines, and writes JSON."""
