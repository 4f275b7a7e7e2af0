"""Another kernel under a target's userspace: found or fetched, checked, unpacked and prepared once in the cache.

From left to right: `source` (what the user wrote), `fetch` with `apt` and `suites` (packages from a repository or a
URL), `unpack` (packages to a tree), `find` (kernel, modules and configuration in it), `requirements` (what a guest
needs), `modules` (lists and compression), `preparing` (all of it), `bundle` (the result).
"""

from lab.host.kernels.bundle import KernelBundle, bundles_of, kernels_folder, verify
from lab.host.kernels.find import KernelFiles, find_kernel
from lab.host.kernels.header import parse_release, read_release
from lab.host.kernels.preparing import PROGRAMS, prepare
from lab.host.kernels.source import is_local, local_path

__all__ = [
    "PROGRAMS",
    "KernelBundle",
    "KernelFiles",
    "bundles_of",
    "find_kernel",
    "is_local",
    "kernels_folder",
    "local_path",
    "parse_release",
    "prepare",
    "read_release",
    "verify",
]
