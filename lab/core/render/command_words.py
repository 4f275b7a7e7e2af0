"""A command that was run, for people."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_MOST_CHARACTERS = 600  # of a command, in what people read


def command_words(argv: Sequence[str]) -> str:
    """A command that was run, as what one types; the middle of one with hundreds of rules is left out."""
    text = shlex.join(argv)
    left_out = len(text) - _MOST_CHARACTERS
    if left_out <= 0:
        return text
    half = _MOST_CHARACTERS // 2
    return f"{text[:half]} [{left_out:,} characters, which mitigation/plan.json has] {text[-half:]}"
