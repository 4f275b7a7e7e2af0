"""The commits of a tree that a bisection goes through: a line from the good one to the bad one, by git itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.core.bisecting.points import Point
from lab.core.errors import PrerequisiteError, ScenarioError
from lab.host.programs import Program, require_programs

_GIT = (Program("git", "git"),)
_SECONDS = 300.0
_MOST_COMMITS = 50_000
_NAME_LENGTH = 12
_MOST_CHANGED = 3


@dataclass(frozen=True)
class Tree:
    """A clone whose work tree is as its HEAD has it; only commits are built."""

    path: Path

    @staticmethod
    def open(path: Path) -> Tree:
        """The tree at `path`. Raises ScenarioError where there is none, and for one with changes that no commit has."""
        require_programs(_GIT)
        if not path.is_dir():
            raise ScenarioError(
                f"--git {path}: there is no such folder", hint="name a clone of the kernel's repository"
            )
        tree = Tree(path.resolve())
        top = tree.git("rev-parse", "--show-toplevel", what=f"--git {path}: is no work tree of git")
        tree = Tree(Path(top))
        if changed := tree.git("status", "--porcelain", "--untracked-files=no").splitlines():
            some = ", ".join(line[3:] for line in changed[:_MOST_CHANGED])
            raise ScenarioError(
                f"--git {path}: has changes that no commit has: {some}{' ...' if len(changed) > _MOST_CHANGED else ''}",
                hint="only commits are built: git commit or git stash them first",
            )
        return tree

    def between(self, good: str, bad: str) -> tuple[Point, ...]:
        """The commits from the good to the bad one along the first parents, oldest first, both ends included.

        Raises ScenarioError for what is no commit, and where the good one does not lead to the bad one.
        """
        first, last = (self._commit(text, option) for text, option in ((good, "--good"), (bad, "--bad")))
        if first == last:
            raise ScenarioError(f"--good and --bad are the same commit, {first[:_NAME_LENGTH]}", hint="name two")
        argv = ("rev-list", "--first-parent", f"--max-count={_MOST_COMMITS}", last, f"^{first}")
        line = self.git(*argv).splitlines()
        parents = self.git("rev-list", "--first-parent", "--parents", "--max-count=1", line[-1]) if line else ""
        if first not in parents.split()[1:2]:
            raise ScenarioError(
                f"--good {good}: does not lead to --bad {bad} along the first parents of each commit",
                hint="name a good commit of the same branch: git merge-base --fork-point, or git log --first-parent",
            )
        return tuple(Point(commit[:_NAME_LENGTH], commit) for commit in (first, *reversed(line)))

    def tree_hash(self, commit: str) -> str:
        """What a commit holds, whatever its message and history."""
        return self.git("rev-parse", f"{commit}^{{tree}}")

    def about(self, commit: str) -> tuple[str, ...]:
        """Lines about a culprit: its author and subject, the files that it changes, and what to do with a merge."""
        shown = self.git("log", "-1", "--format=%h %an, %as: %s", commit)
        files = self.git("diff-tree", "--no-commit-id", "--stat", "-r", "-m", "--first-parent", commit).splitlines()
        lines = [f"  {shown}", *(f"  {line.strip()}" for line in files[:10])]
        parents = self.git("rev-list", "--parents", "--max-count=1", commit).split()[1:]
        if len(parents) > 1:
            base = self.git("merge-base", parents[0], parents[1])
            lines.append(f"  it is a merge: go on in its branch with --good {base[:12]} --bad {parents[1][:12]}")
        return tuple(lines)

    def git(self, *arguments: str, what: str | None = None) -> str:
        """What git prints, without the last newline. Raises ScenarioError that begins with `what`."""
        # only this tree and what was asked: no hooks' or callers' idea of another repository
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        argv: Sequence[str] = ("git", "-C", str(self.path), *arguments)
        try:
            ended = subprocess.run(
                argv,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                stdin=subprocess.DEVNULL,
                env={**environment, "LC_ALL": "C.UTF-8"},
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PrerequisiteError(
                f"git {arguments[0]} did not end within {_SECONDS:g} s", hint="try again"
            ) from error
        if ended.returncode:
            said = " ".join(ended.stderr.split())[:300]
            raise ScenarioError(f"{what or f'git {arguments[0]} failed'}: {said}", hint="look with git log, git status")
        return ended.stdout.rstrip("\n")

    def _commit(self, text: str, option: str) -> str:
        argv = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}")
        return self.git(*argv, what=f"{option} {text}: is no commit of {self.path}")
