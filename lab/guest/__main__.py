"""Entry of the zipapp: `agent` as the machine's first process, or one part of it by hand."""

import sys
from typing import List

from lab.guest import PROTOCOL_VERSION


def main(argv: List[str]) -> int:
    """Run the part that `argv[1]` names; returns its exit status."""
    part = argv[1] if len(argv) > 1 else "version"
    if part == "agent":
        from lab.guest import agent

        return agent.serve_stdio() if argv[2:] == ["stdio"] else agent.main()
    if part == "load":
        from lab.guest import load_by_hand

        return load_by_hand.main(argv[2:])
    if part == "version":
        sys.stdout.write("conntrack-lab guest agent, protocol {}\n".format(PROTOCOL_VERSION))
        return 0
    sys.stderr.write("unknown part {!r}: agent, load or version\n".format(part))
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
