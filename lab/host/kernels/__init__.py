"""Another kernel under a target's userspace: found or fetched, checked, unpacked and prepared once in the cache.

From left to right: `source` (what the user wrote), `fetch` with `apt` and `suites` (packages from a repository or a
URL), `unpack` (packages to a tree), `find` (kernel, modules and configuration in it), `requirements` (what a guest
needs), `modules` (lists and compression), `preparing` (all of it), `bundle` (the result).
"""
