"""The recorder's command line: `python3 recorder.pyz OUT.tar.gz`, as root for all of it."""

import argparse
import os
import sys
from typing import List

from lab.guest.recorder.archive import write_archive
from lab.guest.recorder.collect import Options, collect


def main(argv: List[str]) -> int:
    """Record this host into a file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="recorder",
        description="Record what this host's connection tracking depends on, without changing anything.",
        epilog="Then, where the lab is: lab inspect --from OUT.tar.gz",
    )
    parser.add_argument("file", metavar="OUT.tar.gz")
    parser.add_argument("--watch", type=float, default=1.0, metavar="SECONDS", help="between two looks (1)")
    parser.add_argument("--entries", action="store_true", help="also the rows of the table")
    parser.add_argument(
        "--addresses", action="store_true", help="keep addresses: rules have pseudonyms without it, and rows none"
    )
    options = parser.parse_args(argv[1:])
    if not 0 <= options.watch <= 3600:
        parser.error("--watch is 0 to 3600 seconds")
    files = collect(Options(options.watch, options.entries, options.addresses, pseudonyms=not options.addresses))
    try:
        write_archive(options.file, files)
    except (OSError, ValueError) as error:
        sys.stderr.write("{}: {}\n".format(options.file, error))
        return 2
    if os.geteuid() != 0:
        sys.stderr.write("not root: rules and other namespaces are missing in it\n")
    sys.stderr.write("{}: {} texts\n".format(options.file, len(files)))
    return 0
