"""A load by hand: driven on this machine's loopback, or on a path that is there, its result printed as JSON."""

import argparse
import json
import sys
from typing import Any, Dict, List

from lab.guest.churn import CLOSES, FIN
from lab.guest.engines import ENGINES
from lab.guest.kinds import KINDS
from lab.guest.load import Load, LoadError, LoadRequest
from lab.guest.paths import BOTH, FAMILIES, IPV4, LOOPBACK, PATHS
from lab.guest.spread import FIRST_PORT


def main(argv: List[str]) -> int:
    """`load`: drive a load on this machine's loopback and print its result as JSON (for tests and benchmarks)."""
    request = _request(argv)
    samples: List[Dict[str, Any]] = []
    try:
        load = Load(request, samples.append)
        result = load.run()
    except LoadError as error:
        sys.stderr.write("load: {}\n".format(error))
        return 1
    crash = load.crash()
    load.release()
    if crash:
        sys.stderr.write("load: {}\n".format(crash))
        return 1
    sys.stdout.write(json.dumps(dict(result, samples=len(samples))) + "\n")
    return 0


def _request(argv: List[str]) -> LoadRequest:
    parser = argparse.ArgumentParser(prog="load", description="Drive connections against this machine's own table.")
    parser.add_argument("--kind", default="hold", choices=list(KINDS))
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=0, help="per second; 0: as fast as it goes")
    parser.add_argument("--hold-seconds", type=float, default=0.0, help="churn: how long each connection stays open")
    parser.add_argument("--close", default=FIN, choices=CLOSES, help="churn: how each connection ends")
    parser.add_argument("--newcomers", type=int, default=0, help="half-open, udp: TCP connections opened afterwards")
    parser.add_argument("--path", default=LOOPBACK, choices=list(PATHS))
    parser.add_argument("--family", default=IPV4, choices=[*FAMILIES, BOTH])
    parser.add_argument("--answered", action="store_true", help="udp: with answers")
    parser.add_argument("--data", action="store_true", help="hold: a byte there and back at the end")
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--loop", default="asyncio", choices=["asyncio", "uvloop"])
    parser.add_argument("--engine", default="", choices=["", *ENGINES], help="default: the best that there is")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds")
    parser.add_argument("--first-port", type=int, default=FIRST_PORT)
    options = parser.parse_args(argv)
    return LoadRequest(
        options.connections,
        options.deadline,
        kind=options.kind,
        rate_per_second=options.rate,
        hold_seconds=options.hold_seconds,
        close=options.close,
        newcomers=options.newcomers,
        answered=options.answered,
        data=options.data,
        path=options.path,
        family=options.family,
        processes=options.processes,
        loop=options.loop,
        engine=options.engine,
        first_port=options.first_port,
    )
