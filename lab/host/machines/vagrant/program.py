"""python-vagrant with deadlines. To be imported only to use Vagrant: without Vagrant that import prints a complaint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import vagrant

from lab.host import programs
from lab.host.cache import Deadline

_Vagrant: Any = vagrant.Vagrant  # it has no types


class Commands(_Vagrant):  # type: ignore[misc]
    """python-vagrant, with what it lacks: a deadline for every call, its output kept, a failing exit that raises.

    Its own calls wait for ever, and some of them swallow the exit status. A call raises LabError past its deadline and
    PrerequisiteError, with the last lines, for a failing exit.
    """

    def __init__(self, root: Path, env: Mapping[str, str], deadline: Deadline, log: Callable[[str], None]) -> None:
        super().__init__(root=str(root), env=dict(env))
        self.deadline = deadline
        self._log = log

    def call(self, *arguments: str) -> None:
        """`vagrant ARGUMENTS`, for what python-vagrant has no method for."""
        self._run(arguments)

    def _call_vagrant_command(self, args: Sequence[str | None]) -> None:
        self._run(args)

    def _run_vagrant_command(self, args: Sequence[str | None]) -> str:
        return "".join(f"{line}\n" for line in self._run(args))

    def _run(self, args: Sequence[str | None]) -> list[str]:
        argv = self._make_vagrant_command(args)
        self._log(f"$ vagrant {' '.join(argv[1:])}")
        environment = {**self.env, "VAGRANT_CWD": self.root, "VAGRANT_CHECKPOINT_DISABLE": "1"}
        return programs.run_program(argv, self.deadline, on_line=self._log, environment=environment)
