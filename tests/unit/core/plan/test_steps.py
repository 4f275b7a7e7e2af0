"""A step that was broken off says nothing about the kernel, whatever it expected."""

from __future__ import annotations

from typing import Any

import pytest

from lab.core.plan.steps import broken_step


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, None),
        (1, None),
        (4, None),
        (128, None),
        (193, None),
        (255, None),  # what a program gives that returns -1
        (124, "did not end in time"),
        (126, "cannot be executed"),
        (127, "is not in this machine"),
        (137, "was killed by SIGKILL"),
        (139, "was killed by SIGSEGV"),
        (-11, "was killed by SIGSEGV"),
        (192, "was killed by signal 64"),
        (None, None),
        (True, None),
        ("139", None),
        ([139], None),
    ],
)
@pytest.mark.parametrize("refused", [{}, {"as_wanted": True}, {"refused": True}])
def test_what_broke_a_step_off(status: Any, said: str | None, refused: dict[str, bool]) -> None:
    assert broken_step({"exit_status": status, **refused}) == said


def test_a_step_without_a_status_was_not_broken_off() -> None:
    assert broken_step({}) is None
