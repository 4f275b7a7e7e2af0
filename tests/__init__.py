"""The tests: of units beside the tree of lab/, in real guests, in a browser, with Vagrant."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
