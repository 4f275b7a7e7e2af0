"""Commits of a real repository of git, built by a real command: a kernel that is a header and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.core.errors import LabError, PrerequisiteError, ScenarioError
from lab.host.bisecting.builds import Builds
from lab.host.bisecting.commits import Tree
from lab.host.images.initrd import DRIVERS, parse_config
from lab.host.kernels.find import find_kernel
from lab.host.kernels.requirements import NEEDS
from tests import ROOT
from tests.unit.host.kernels.test_kernels import bz_image

# what stands for a compiler: the kernel is the file `source`, its modules have the same release
BUILD = """\
test -s "$LAB_KCONFIG"
test -n "$LAB_COMMIT"
test -n "$KBUILD_BUILD_TIMESTAMP"
echo built >> builds
mkdir -p arch/x86/boot modules/lib/modules/6.1.0/kernel
cp source arch/x86/boot/bzImage
cp note modules/lib/modules/6.1.0/modules.order
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four commits, of which the last two hold the same files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "A Builder")
        monkeypatch.setenv(f"{name}_EMAIL", "builder@example.org")
    folder = tmp_path / "linux"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "source").write_bytes(bz_image("6.1.0"))
    for number in range(3):
        (folder / "note").write_text(str(number))
        commit(folder, f"change {number}")
    git(folder, "commit", "--quiet", "--allow-empty", "--message=change nothing")
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, message: str) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", f"--message={message}")
    return git(folder, "rev-parse", "HEAD")


def builds(repository: Path, command: str = BUILD, lines: list[str] | None = None) -> Builds:
    return Builds(Tree.open(repository), command, 60.0, (lines if lines is not None else []).append)


class TestCommits:
    def test_they_go_from_the_good_to_the_bad_one(self, repository: Path) -> None:
        points = Tree.open(repository).between("HEAD~3", "main")
        commits = git(repository, "rev-list", "--reverse", "main").split()
        assert [point.source for point in points] == commits
        assert [point.name for point in points] == [one[:12] for one in commits]

    def test_a_branch_is_its_merge_and_the_answer_leads_into_it(self, repository: Path) -> None:
        git(repository, "checkout", "--quiet", "-b", "side", "HEAD~2")
        (repository / "other").write_text("x")
        side = commit(repository, "on the side")
        base = git(repository, "rev-parse", "HEAD~1")
        git(repository, "checkout", "--quiet", "main")
        git(repository, "merge", "--quiet", "--no-ff", "--message=merge side", "side")
        tree = Tree.open(repository)
        points = tree.between("HEAD~3", "HEAD")
        assert side not in [point.source for point in points]
        about = tree.about(points[-1].source)
        assert "A Builder" in about[0]
        assert "merge side" in about[0]
        assert about[-1] == f"  it is a merge: go on in its branch with --good {base[:12]} --bad {side[:12]}"

    @pytest.mark.parametrize(
        ("good", "bad", "message"),
        [
            ("v9.9", "HEAD", "--good v9.9: is no commit"),
            ("HEAD~1", "--output=x", "--bad --output=x: is no commit"),
            ("HEAD", "main", "are the same commit"),
            ("HEAD", "HEAD~2", "does not lead to --bad"),
        ],
    )
    def test_wrong_ends_are_refused(self, repository: Path, good: str, bad: str, message: str) -> None:
        with pytest.raises(ScenarioError, match=message) as caught:
            Tree.open(repository).between(good, bad)
        assert caught.value.hint

    def test_a_tree_with_changes_is_refused(self, repository: Path) -> None:
        (repository / "untracked").touch()
        Tree.open(repository)
        (repository / "note").write_text("dirty")
        with pytest.raises(ScenarioError, match="has changes that no commit has: note") as caught:
            Tree.open(repository)
        assert "git stash" in caught.value.hint

    def test_what_is_no_tree_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ScenarioError, match="is no work tree of git"):
            Tree.open(tmp_path)
        with pytest.raises(ScenarioError, match="there is no such folder"):
            Tree.open(tmp_path / "gone")


class TestBuilds:
    def test_a_commit_is_built_once_and_an_equal_tree_never(self, repository: Path) -> None:
        made = builds(repository)
        first = made.of(git(repository, "rev-parse", "HEAD"))
        assert find_kernel(first).release == "6.1.0"
        assert (first / "lib/modules/6.1.0/modules.order").read_text() == "2"
        assert made.of(git(repository, "rev-parse", "HEAD~1")) == first
        assert builds(repository).of(git(repository, "rev-parse", "HEAD")) == first
        assert len(made.seconds) == 1
        other = made.of(git(repository, "rev-parse", "HEAD~2"))
        assert (other / "lib/modules/6.1.0/modules.order").read_text() == "1"
        # both were built in one tree of the lab's, and the user's is as it was
        (tree,) = (repository.parent / "cache/conntrack-lab/builds").glob("tree-*")
        assert (tree / "builds").read_text() == "built\nbuilt\n"
        assert git(repository, "status", "--porcelain") == ""
        assert git(repository, "branch", "--show-current") == "main"

    def test_another_command_is_another_build(self, repository: Path) -> None:
        head = git(repository, "rev-parse", "HEAD")
        assert builds(repository).of(head) != builds(repository, f"{BUILD}\ntrue").of(head)

    def test_a_build_that_fails_says_where_its_words_are(self, repository: Path) -> None:
        made = builds(repository, "echo compiling; echo 'error: no such header' >&2; exit 7")
        with pytest.raises(LabError, match=r"failed \(status 7\): error: no such header; all of it is in ") as caught:
            made.of(git(repository, "rev-parse", "HEAD"))
        log = Path(str(caught.value).rpartition(" ")[2])
        assert log.read_text() == "compiling\nerror: no such header\n"

    def test_a_build_that_leaves_nothing_is_told_also_after_one_that_did(self, repository: Path) -> None:
        commits = git(repository, "rev-list", "HEAD").split()
        made = builds(repository, f"grep -q 2 note || exit 0\n{BUILD}")
        made.of(commits[0])
        with pytest.raises(PrerequisiteError, match="ended well and left no kernel in") as caught:
            made.of(commits[2])
        assert "arch/x86/boot/bzImage" in caught.value.hint

    def test_the_configuration_for_guests_has_what_they_need(self) -> None:
        options = parse_config((ROOT / "lab/host/data/guest.config").read_text())
        needed = {need.option for need in NEEDS} | {driver.option for driver in DRIVERS if driver.mandatory}
        assert {option for option in needed if options.get(option) != "y"} == set()
        assert options["CONFIG_NF_CONNTRACK"] == "m"
