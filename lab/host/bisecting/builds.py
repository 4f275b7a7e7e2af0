"""Kernels built from commits, each kept in the cache by the hash of its tree and the command that built it."""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from lab.core.errors import LabError, PrerequisiteError
from lab.host.bisecting.commits import Tree
from lab.host.cache import Deadline, Progress, cache_root, exclusive, make_folder, remove_stale, remove_tree, staging
from lab.host.kernels.find import find_kernel
from lab.host.programs import run_program

FRAGMENT_VARIABLE = "LAB_KCONFIG"
COMMIT_VARIABLE = "LAB_COMMIT"
_LOCK = "builds"
# so that commits which change no code give equal kernels (Documentation/kbuild/reproducible-builds.rst)
_REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
    "KBUILD_BUILD_VERSION": "1",
    "KBUILD_BUILD_USER": "lab",
    "KBUILD_BUILD_HOST": "lab",
}
# what an earlier commit's build has left must not be taken for this one's
_LEFT_BEHIND = ("vmlinuz*", "bzImage*", "arch/x86/boot/bzImage", "boot", "modules", "lib/modules", "MODULES")


@dataclass
class Builds:
    """Builds commits one after the other in a work tree of the lab's own, so that most of a build is kept for the next.

    `command` is run by sh there; the tree that the user named is left as it is. `seconds` are those that builds took.
    """

    tree: Tree
    command: str
    deadline_seconds: float
    say: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, commit: str) -> Path:
        """The folder with the commit's kernel, its modules and configuration, built if the cache has none.

        Raises LabError where the command fails, or leaves no kernel.
        """
        key = hashlib.sha256(f"{self.tree.tree_hash(commit)}\0{self.command}".encode()).hexdigest()[:24]
        parent = make_folder(cache_root() / "builds")
        final = parent / key
        if not final.is_dir():
            deadline = Deadline.after(self.deadline_seconds, f"building {commit[:12]}")
            with exclusive(_LOCK, deadline, on_wait=lambda: self.say("waiting for another build")):
                remove_stale(parent, _LOCK)
                if not final.is_dir():
                    self._build(commit, final, deadline)
        return final

    def _build(self, commit: str, final: Path, deadline: Deadline) -> None:
        started = time.monotonic()
        work = self._work_tree(commit)
        self.say(f"building {commit[:12]}")
        self._run(work, commit, final.parent / f"{final.name}.log", deadline)
        try:
            files = find_kernel(work)
        except LabError as error:
            raise PrerequisiteError(
                f"the build of {commit[:12]} ended well and left no kernel in {work}: {error}",
                hint="the command must leave arch/x86/boot/bzImage, and modules in modules/ "
                "(make INSTALL_MOD_PATH=modules modules_install)",
            ) from error
        with staging(final, _LOCK) as folder:
            shutil.copyfile(files.vmlinuz, folder / f"vmlinuz-{files.release}")
            if files.config is not None:
                shutil.copyfile(files.config, folder / f"config-{files.release}")
            if files.modules is not None:
                links = shutil.ignore_patterns("build", "source")
                shutil.copytree(files.modules, folder / "lib" / "modules" / files.release, ignore=links)
        self.seconds[commit] = time.monotonic() - started
        self.say(f"built {commit[:12]} in {self.seconds[commit]:.0f} s: {files.release}")

    def _work_tree(self, commit: str) -> Path:
        """The lab's own work tree of the repository at this commit, without what an earlier build left to be found."""
        name = hashlib.sha256(str(self.tree.path).encode()).hexdigest()[:12]
        work = cache_root() / "builds" / f"tree-{name}"
        if not (work / ".git").exists():
            self.tree.git("worktree", "prune")
            self.tree.git("worktree", "add", "--force", "--detach", str(work), commit)
        own = Tree(work)
        own.git("checkout", "--quiet", "--force", "--detach", commit)
        for pattern in _LEFT_BEHIND:
            for path in work.glob(pattern):
                if not own.git("ls-files", "--", str(path.relative_to(work))):
                    remove_tree(path)
        return work

    def _run(self, work: Path, commit: str, log: Path, deadline: Deadline) -> None:
        """Run the command in the work tree; what it prints goes to a file, which a failure names."""
        fragment = resources.files("lab.host").joinpath("data/guest.config")
        with resources.as_file(fragment) as config, log.open("w") as file:
            try:
                run_program(
                    ("env", f"--chdir={work}", "sh", "-ec", self.command),
                    deadline,
                    on_line=lambda line: file.writelines((line, "\n")),
                    environment={**_REPRODUCIBLE, COMMIT_VARIABLE: commit, FRAGMENT_VARIABLE: str(config)},
                )
            except PrerequisiteError as error:
                raise PrerequisiteError(f"{error}; all of it is in {log}", hint="run the command by hand") from error
