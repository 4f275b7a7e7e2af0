"""A tree of files as an ext4 file system that old kernels mount too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.host.cache import Deadline
from lab.host.images.recipe import EXT4_FEATURES
from lab.host.programs import run_program

_BLOCK_BYTES = 4096
_INODE_BYTES = 256


def make_disk(disk: Path, tree: Path, label: str, deadline: Deadline, sandbox_prefix: Sequence[str] = ()) -> None:
    """Write the ext4 file system `disk` with the content of `tree`, as small as it goes. Raises PrerequisiteError."""
    usage = run_program((*sandbox_prefix, "du", "-s", f"--block-size={_BLOCK_BYTES}", str(tree)), deadline)
    counted = run_program((*sandbox_prefix, "du", "-s", "--inodes", str(tree)), deadline)
    inodes = int(counted[-1].split()[0]) + 64
    # inode tables, then block groups' own blocks and indirect extents; spare blocks stay holes in the file
    blocks = int(usage[-1].split()[0]) + inodes * _INODE_BYTES // _BLOCK_BYTES
    blocks += blocks // 50 + 2048
    run_program(
        (
            *(*sandbox_prefix, "mke2fs", "-q", "-F", "-t", "ext4", "-O", EXT4_FEATURES, "-m", "0", "-L", label),
            *("-b", str(_BLOCK_BYTES), "-I", str(_INODE_BYTES), "-N", str(inodes)),
            *("-E", "lazy_itable_init=0,root_owner=0:0", "-d", str(tree), str(disk), str(blocks)),
        ),
        deadline,
    )
