"""`lab kernel`: kernels of distributions, listed and fetched."""

from __future__ import annotations

import argparse
from typing import Any

from lab.host.cli.console import voice
from lab.host.cli.parsing import add_loudness, command

_FETCH_SECONDS = 900.0


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    parser = commands.add_parser("kernel", help="list and fetch kernels of distributions")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    what = "list suites, and what kernels a suite has"
    listing = command(actions, "list", _list, what, "lab kernel list bookworm-security")
    listing.add_argument("suite", nargs="?", metavar="SUITE", help="without: all suites, and what is in the cache")
    add_loudness(listing)
    what = "fetch kernels into the cache, verified"
    fetch = command(actions, "fetch", _fetch, what, "lab kernel fetch apt:bookworm/linux-image-rt-amd64")
    fetch.add_argument("kernels", nargs="+", metavar="KERNEL", help="apt:SUITE[/PACKAGE] or URL#sha256=HEX")
    add_loudness(fetch)


def _list(options: argparse.Namespace) -> int:
    from lab.host.cache import Deadline
    from lab.host.kernels.fetch import kernels_in
    from lab.host.kernels.listing import kernel_lines, suite_lines

    if options.suite is None:
        lines = suite_lines()
    else:
        deadline = Deadline.after(_FETCH_SECONDS, f"reading the lists of {options.suite}")
        lines = kernel_lines(options.suite, kernels_in(options.suite, voice(options), deadline))
    print("\n".join(lines))
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from lab.host.cache import Deadline
    from lab.host.kernels.fetch import fetch_source

    for source in options.kernels:
        deadline = Deadline.after(_FETCH_SECONDS, f"fetching {source}")
        for file in fetch_source(source, voice(options), deadline):
            print(f"{file.path}  sha256={file.sha256}", flush=True)
    return 0
