"""bench/load: how close the load engine comes to C, and how far it is ahead of what one would use instead.

Everything that is compared runs in turn, A B A B; a ratio is of one turn, and the median of these is the result. The
floor (floor.c) is run in the fastest of several ways, which is found out first, on this machine.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import floor
from bench.common import MIN_PAIRS, ROOT, BenchError, Metric, Summary, Table, progress, ratio_of_each, report, summary
from bench.floor import Place, Way
from lab.guest import packets

COUNTS = (5_000, 20_000, 100_000)
# of the floor with epoll, by place
TARGETS = {"native": {20_000: 1.05, 100_000: 1.0}, "guest": {20_000: 1.1}}
RING_TARGET = 0.85  # of the floor with io_uring
COUNT = 20_000  # at which everything else is compared
KINDS = {"churn": 40_000, packets.HALF_OPEN: 60_000, packets.UDP: 60_000}
KIND_RATE = 20_000.0
KIB_PER_CONNECTION = 0.2
KIND_RATIO = 0.8  # of C, without a socket for each connection
PEER_RATIO = 1.5
CHOICE_ROUNDS = 3
MEMORY_TURNS = 3  # it hardly differs from one to the next
GUEST_FD_LIMIT = 1_048_576  # fs.nr_open of lab.guest.machine.LIMITS, which the agent takes whole
GUEST_MEMORY_MB = 3072  # 100,000 connections are 200,000 sockets
GUEST_VCPUS = 2

ENGINE, UVLOOP, BY_EPOLL = "engine", "engine, uvloop", "engine, epoll"
FLOOR, RING_FLOOR = "C floor", "C floor, ring"
PACKAGES = {"h2load": "nghttp2-client", "wrk": "wrk"}  # Debian's names
_LIMIT_SECONDS = {"native": 120.0, "guest": 900.0}

Run = dict[str, Any]
Result = dict[str, Any]
Results = dict[str, list[Result]]
Execute = Callable[[Sequence[Run]], list[Result]]


@dataclass(frozen=True)
class Bench:
    """A place to measure in: natively or in a guest."""

    name: str
    execute: Execute  # makes runs, one after the other
    floor: str  # the program's path there
    place: Place
    pairs: int

    def compare(self, variants: Mapping[str, Run], count: int | None = None) -> Results:
        """Each variant's results, made in turn. Raises BenchError for a run that failed."""
        runs = [{**run, "label": label} for label, run in variants.items()]
        results = self.execute(runs * (count or self.pairs))
        by_label: Results = {label: [] for label in variants}
        for result in results:
            if "error" in result:
                raise BenchError(f"{self.name}: {result['label']}: {result['error']}")
            by_label[result["label"]].append(result)
        return by_label

    def floor_run(self, way: Way, mode: str, connections: int, memory: bool = False) -> Run:
        """A run of the floor."""
        argv = way.argv(self.floor, mode, connections, self.place)
        return {"what": "program", "argv": argv, "connections": connections, "memory": memory}


@dataclass
class Report:
    """What is printed and written in the end."""

    metrics: list[Metric] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def engine_run(
    connections: int, kind: str = "hold", loop: str = "asyncio", engine: str = "", memory: bool = False
) -> Run:
    """A run of the load engine."""
    request = {"connections": connections, "kind": kind, "loop": loop, "engine": engine}
    return {"what": "engine", "request": request, "memory": memory}


def rate(result: Result) -> float:
    """Connections per second."""
    return float(result["connections"] / result["seconds"])


def cpu_us(result: Result) -> float:
    """Microseconds of CPU for each connection, user and system, of all processes."""
    return float(result["cpu_seconds"] / result["connections"] * 1e6)


def memory_kib(result: Result) -> float:
    """KiB for each connection, of both sides, by which the proportional set size of all processes has grown."""
    return float(result["grown_kib"]["Pss"] / result["connections"])


def of(results: Results, label: str, value: Callable[[Result], float], other: str | None = None) -> Summary:
    """The summary of a variant's values, or of their ratios to another's of the same turn."""
    if other is None:
        return summary([value(result) for result in results[label]])
    return summary(ratio_of_each(list(zip(results[label], results[other], strict=True)), value))


def choose_way(bench: Bench, mode: str, connections: int, ways: Sequence[Way], rounds: int) -> Way:
    """The fastest way to run the floor here."""
    variants = {way.text: bench.floor_run(way, mode, connections) for way in ways}
    results = bench.compare(variants, rounds)
    best = max(ways, key=lambda way: of(results, way.text, rate).median)
    progress(f"{bench.name}: the floor for {mode}, {connections:,}, is the fastest of {len(ways)}: {best.text}")
    return best


def choose_ring_way(bench: Bench, connections: int, ways: Sequence[Way], rounds: int) -> Way | None:
    """The fastest way to run the floor through io_uring; None where it cannot be run."""
    try:
        return choose_way(bench, "hold", connections, ways, rounds)
    except BenchError as error:
        progress(f"{bench.name}: no floor with io_uring: {error}")
        return None


def measure_hold(
    bench: Bench, connections: int, ways: tuple[Way, Way | None], engines: Sequence[str], into: Report
) -> None:
    """The rates of engine and floors at one count, their ratios, and the CPU time of each."""
    way, ring_way = ways
    floors = {FLOOR: bench.floor_run(way, "hold", connections)}
    if ring_way is not None:
        floors[RING_FLOOR] = bench.floor_run(ring_way, "hold", connections)
    progress(f"{bench.name}: {connections:,} held, {bench.pairs} turns of {', '.join([*engines, *floors])}")
    results = bench.compare({**{label: _run_of(label, connections) for label in engines}, **floors})
    name = f"hold-{connections}-{bench.name}"
    rows = []
    for label in results:
        speed, cpu = of(results, label, rate), of(results, label, cpu_us)
        ratio, cpu_ratio = of(results, label, rate, FLOOR), of(results, FLOOR, cpu_us, label)
        of_ring = of(results, label, rate, RING_FLOOR) if ring_way is not None else None
        shown = "?" if of_ring is None else of_ring.text(2)
        rows.append((label, speed.text(), ratio.text(2), shown, cpu.text(1), cpu_ratio.text(2)))
        if label in engines:
            suffix = label.removeprefix(ENGINE).replace(", ", "-")
            targets = {} if suffix else TARGETS[bench.name]
            into.metrics.append(Metric.of(name + suffix, ratio, "ratio", targets.get(connections)))
            into.metrics.append(Metric.of(f"{name}{suffix}-cpu", cpu, "us"))
            if of_ring is not None:
                target = RING_TARGET if connections in targets else None
                into.metrics.append(Metric.of(f"{name}{suffix}-of-ring", of_ring, "ratio", target))
    # the floor's CPU time in the engine's does not depend on who else wants the processors
    columns = ("", "connections/s", "of the floor", "of io_uring's", "CPU us/connection", "floor's CPU in this")
    into.tables.append(Table(f"{bench.name}: {connections:,} held", columns, rows, _how(results, way)))
    into.details[name] = {"way": way.text, "ring_way": ring_way and ring_way.text, "results": results}


# the loop and the engine that are asked for
_ENGINES = {ENGINE: ("asyncio", ""), UVLOOP: ("uvloop", ""), BY_EPOLL: ("asyncio", "epoll")}


def _run_of(label: str, connections: int) -> Run:
    loop, engine = _ENGINES[label]
    return engine_run(connections, loop=loop, engine=engine)


def _how(results: Results, way: Way) -> str:
    """What the numbers are of, and how far they can be trusted."""
    counted = summary([result["count_up_seconds"] for result in results[ENGINE]]).median
    return (
        f"engine: {results[ENGINE][0]['engine']}, {_processes(results[ENGINE])} processes, which then count up "
        f"for {counted * 1000:.0f} ms; "
        f"floor: {_processes(results[FLOOR])}, {way.text}, its own spread {of(results, FLOOR, rate).spread:.0%}"
        f"{_retried(results)}"
    )


def measure_memory(bench: Bench, way: Way, into: Report, count: int = MEMORY_TURNS) -> None:
    """What a held connection costs in memory, in runs of their own: to ask takes time."""
    progress(f"{bench.name}: memory of {COUNT:,} held")
    variants = {ENGINE: engine_run(COUNT, memory=True), FLOOR: bench.floor_run(way, "hold", COUNT, memory=True)}
    results = bench.compare(variants, count)
    name = f"memory-{COUNT}-{bench.name}"
    rows = [(label, of(results, label, memory_kib).text(3)) for label in variants]
    into.tables.append(Table(f"{bench.name}: memory at {COUNT:,} held, both sides", ("", "KiB/connection (PSS)"), rows))
    into.metrics.append(Metric.of(name, of(results, ENGINE, memory_kib), "KiB", KIB_PER_CONNECTION, "lower"))
    into.details[name] = {"results": results}


def measure_peers(bench: Bench, clients: Sequence[str], styles: Sequence[str], into: Report) -> None:
    """The engine and what one would use instead, each against what suits it best."""
    variants: dict[str, Run] = {ENGINE: engine_run(COUNT)}
    variants.update({client: _client_run(bench, client) for client in clients})
    for style in styles:
        for loop in ("asyncio", "uvloop"):
            variants[f"{style}, {loop}"] = _asyncio_run(bench, style, loop)
    progress(f"{bench.name}: {COUNT:,} held, {bench.pairs} turns of {', '.join(variants)}")
    results = bench.compare(variants)
    rows = []
    for label in variants:
        ratio = of(results, ENGINE, rate, label)
        cpu = of(results, label, cpu_us).text(1) if "cpu_seconds" in results[label][0] else "?"
        rows.append((label, of(results, label, rate).text(), ratio.text(2), cpu))
        if label in clients:
            into.metrics.append(Metric.of(f"ahead-of-{label}-{COUNT}", ratio, "ratio", PEER_RATIO))
    columns = ("", "connections/s", "engine is ahead by", "CPU us/connection")
    note = "h2load and wrk: two processes against the C server, from the first accepted connection to the last"
    into.tables.append(Table(f"{bench.name}: {COUNT:,} held, against others", columns, rows, note + _retried(results)))
    into.details["peers"] = {"results": results}


def measure_kinds(bench: Bench, ways: Sequence[Way], rounds: int, into: Report) -> None:
    """The other kinds of load, each beside what C makes of it."""
    rows = []
    for kind, count in KINDS.items():
        way = choose_way(bench, kind, count, ways, rounds) if kind == "churn" else ways[0]
        progress(f"{bench.name}: {kind}, {count:,}, {bench.pairs} turns of {ENGINE}, {FLOOR}")
        results = bench.compare({ENGINE: engine_run(count, kind), FLOOR: bench.floor_run(way, kind, count)})
        ours, limit, ratio = of(results, ENGINE, rate), of(results, FLOOR, rate), of(results, ENGINE, rate, FLOOR)
        cpu = [of(results, label, cpu_us).text(1) for label in (ENGINE, FLOOR)]
        rows.append((kind, ours.text(), limit.text(), ratio.text(2), *cpu))
        target = min(KIND_RATE, limit.median)
        note = "" if target == KIND_RATE else f"the floor itself makes {limit.text()} per second here"
        into.metrics.append(Metric.of(f"{kind}-{bench.name}", ours, "1/s", target, note=note))
        of_c = None if kind == "churn" else KIND_RATIO
        into.metrics.append(Metric.of(f"{kind}-{bench.name}-of-c", ratio, "ratio", of_c))
        into.details[f"{kind}-{bench.name}"] = {"way": way.text, "results": results}
    columns = ("", "engine, 1/s", "C floor, 1/s", "of the floor", "engine's CPU us each", "floor's CPU us each")
    into.tables.append(Table(f"{bench.name}: other kinds", columns, rows))


def measure_native(options: argparse.Namespace, into: Report) -> None:
    """Everything that can be measured on this host itself."""
    place = Place(os.sysconf("SC_NPROCESSORS_ONLN"), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    bench = Bench("native", _native(options.priority), str(floor.build()), place, options.pairs)
    ways, rounds = (floor.QUICK_WAYS, 1) if options.quick else (floor.WAYS, CHOICE_ROUNDS)
    ring_ways = floor.QUICK_RING_WAYS if options.quick else floor.RING_WAYS
    engines = (ENGINE, BY_EPOLL) if options.quick else (ENGINE, UVLOOP, BY_EPOLL)
    chosen: dict[int, Way] = {}
    for count in options.counts:
        chosen[count] = choose_way(bench, "hold", count, ways, rounds)
        ring_way = choose_ring_way(bench, count, ring_ways, rounds)
        measure_hold(bench, count, (chosen[count], ring_way), engines, into)
    measure_memory(bench, chosen.get(COUNT, ways[0]), into, 1 if options.quick else MEMORY_TURNS)
    measure_kinds(bench, ways, rounds, into)
    clients = _clients(install=not options.quick)
    measure_peers(bench, clients, () if options.quick else ("streams", "protocol"), into)


def measure_guest(options: argparse.Namespace, into: Report) -> None:
    """The same in an emulated guest, as far as it is not about what the guest lacks."""
    place = Place(GUEST_VCPUS, GUEST_FD_LIMIT)
    program = floor.build(static=True)
    bench = Bench("guest", _guest(options.target, program, options.priority), "./floor", place, options.pairs)
    way = choose_way(bench, "hold", COUNT, floor.GUEST_WAYS, CHOICE_ROUNDS)
    ring_way = choose_ring_way(bench, COUNT, floor.RING_WAYS, CHOICE_ROUNDS)
    for count in options.counts:
        measure_hold(bench, count, (way, ring_way), (ENGINE, BY_EPOLL), into)
    measure_memory(bench, way, into)


def _processes(results: Sequence[Result]) -> int:
    return max(int(result["processes"]) for result in results)


def _retried(results: Results) -> str:
    """What would make a rate mean something else than it says: backlogs that overflowed, SYNs sent again."""
    found = [
        f"{label}: {name} {result['tcp'][name]}"
        for label, every in results.items()
        for result in every
        for name in ("ListenOverflows", "TCPSynRetrans")
        if result["tcp"][name]
    ]
    return "; " + "; ".join(found) if found else ""


def _client_run(bench: Bench, client: str) -> Run:
    """Two processes of a client, each against a server of its own: 10,000 for each, as descriptors are limited."""
    processes, first_port = bench.place.processors, 7777
    each = COUNT // processes
    server = {"mode": "serve", "connections": each * processes, "processes": processes, "listeners": 1}
    argv = {
        "h2load": ["h2load", "--h1", "-t", "1", "-c", str(each), "-n", str(each)],
        "wrk": ["wrk", "-t", "1", "-c", str(each), "-d", "60s"],
    }
    urls = [f"http://127.0.0.1:{first_port + number}/" for number in range(processes)]
    return {
        "what": "clients",
        "server": [bench.floor, *(word for name, value in server.items() for word in (f"--{name}", str(value)))],
        "clients": [[*argv[client], url] for url in urls],
        "connections": each * processes,
    }


def _asyncio_run(bench: Bench, style: str, loop: str) -> Run:
    processes = bench.place.processors
    options = {"style": style, "loop": loop, "connections": COUNT, "processes": processes, "listeners": 4}
    argv = [sys.executable, "-m", "bench.asyncio_peers", "--first-port", "7777"]
    argv += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return {"what": "program", "argv": argv, "connections": COUNT}


def _clients(install: bool) -> list[str]:
    """Those of h2load and wrk that are there, or could be installed."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing and install and os.geteuid() == 0 and shutil.which("apt-get"):
        progress(f"installing {' '.join(missing)}")
        argv = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            progress(f"not compared with {program}, which is not here: install {package} (Debian's name)")
    return [program for program in PACKAGES if shutil.which(program)]


def _native(priority: bool) -> Execute:
    prefix = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]

    def execute(runs: Sequence[Run]) -> list[Result]:
        plan = {"limit_seconds": _LIMIT_SECONDS["native"], "runs": runs}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(plan, file)
            file.flush()
            argv = [*prefix, sys.executable, "-m", "bench.drive", file.name]
            return _results_of(argv, "", _real_time if priority else None, len(runs))

    return execute


def _guest(target: str, program: Path, priority: bool) -> Execute:
    """Runs in one and the same guest, restored anew for each call: `lab shell` takes the whole as a script."""
    packed = _packed(program.read_bytes())
    drive = _packed((ROOT / "bench" / "drive.py").read_bytes())

    def execute(runs: Sequence[Run]) -> list[Result]:
        plan = {"limit_seconds": _LIMIT_SECONDS["guest"], "runs": runs}
        files = {"floor": packed, "drive.py": drive, "plan.json": _packed(json.dumps(plan).encode())}
        script = "".join(f"base64 -d <<'END' | gunzip > {name}\n{text}END\n" for name, text in files.items())
        script = f'set -e\ncd "$(mktemp -d)"\n{script}chmod +x floor{_START_IN_GUEST}'
        with tempfile.TemporaryDirectory() as folder:
            scenario = Path(folder) / "bench-load.toml"
            scenario.write_text(_SCENARIO, encoding="utf-8")
            argv = [sys.executable, "-m", "lab", "shell", str(scenario), "--target", target]
            return _results_of(argv, script, _nicest if priority else None, len(runs))

    return execute


# the agent's zipapp is an argument of the first process, and brings lab.guest
_START_IN_GUEST = r"""
export PYTHONPATH=$(tr '\0' '\n' < /proc/1/cmdline | grep '\.pyz$')
exec python3 drive.py plan.json
"""

_SCENARIO = f"""version = 1
name = "bench-load"
summary = "A machine in which nothing was configured, to measure in."
[machine]
memory_mb = {GUEST_MEMORY_MB}
vcpus = {GUEST_VCPUS}
[load]
[[expect]]
finding = "untracked"
because = "nothing is loaded"
"""


def _packed(data: bytes) -> str:
    return base64.encodebytes(gzip.compress(data, mtime=0)).decode("ascii")


def _results_of(argv: Sequence[str], text: str, prepare: Callable[[], None] | None, expected: int) -> list[Result]:
    """What bench/drive.py prints, as run by a command that gets `text`; tells of each run. Raises BenchError.

    Interrupted, it ends the command first.
    """
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as errors:
        given.write(text)
        given.seek(0)
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            preexec_fn=prepare,
        )
        results: list[Result] = []
        said: list[str] = []
        try:
            for line in process.stdout or ():
                if line.startswith("{"):
                    results.append(json.loads(line))
                    progress(_told(results[-1]))
                else:
                    said.append(line)
            process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        errors.seek(0)
        if len(results) != expected:
            what = f"{' '.join(argv[:6])} ended with {process.returncode} after {len(results)} of {expected} runs"
            raise BenchError(f"{what}: {(errors.read() + ''.join(said)).strip()[-2000:]}")
        return results


def _told(result: Result) -> str:
    return f"  {result['label']}: {result.get('error') or f'{rate(result):,.0f}/s'}"


def _real_time() -> None:
    """Before every process that is not real-time (sched(7)): runs take seconds, and nobody else's are waited for."""
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def _nicest() -> None:
    """As far ahead as goes without stopping everything else, for minutes."""
    os.nice(-20)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: bench/load --only native --pairs 9",
    )
    parser.add_argument("--quick", action="store_true", help="under a minute: natively only, 3 pairs, no 100,000")
    parser.add_argument("--only", choices=["native", "guest"], help="leave the other part out")
    parser.add_argument("--pairs", type=int, help=f"turns of each comparison (default {MIN_PAIRS})")
    parser.add_argument("--counts", help="held connections, with commas (default 5000,20000,100000)")
    parser.add_argument("--target", default="debian12", help="the guest (default debian12)")
    parser.add_argument("--priority", action="store_true", help="root: before everybody else's processes")
    parser.add_argument("--output", type=Path, help="the JSON file (default in bench/results)")
    options = parser.parse_args(argv)
    options.pairs = options.pairs or (3 if options.quick else MIN_PAIRS)
    counts = options.counts or ("5000,20000" if options.quick else ",".join(map(str, COUNTS)))
    try:
        options.counts = [int(count) for count in counts.split(",")]
    except ValueError:
        parser.error(f"--counts {counts}: numbers with commas between them")
    if options.priority and os.geteuid() != 0:
        parser.error("--priority needs root")
    return options


def main(argv: Sequence[str]) -> int:
    """Measure what is asked for; returns the exit status (bench.common)."""
    options = _options(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that what was started is ended
    into = Report()
    try:
        if options.only != "guest":
            measure_native(options, into)
        if options.only != "native" and not options.quick:
            measure_guest(options, into)
    except BenchError as error:
        progress(f"bench/load: {error}")
        return 2
    name = "load-quick" if options.quick else "load"
    status = report(name, into.metrics, into.tables, options.output, into.details)
    if options.quick:
        progress("quick: few turns, natively only; a figure to rely on takes the whole of bench/load")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
