"""The machine's first process: answers the host's requests, one at a time, over a virtio-serial port."""

import os
import sys
import time
import traceback
from typing import Any, Callable, Dict, List, Optional

from lab.guest import disks, ends, machine, peer, shell, topology
from lab.guest.apply import apply_steps
from lab.guest.channel import AGENT_PORT, SHELL_PORT, Channel, Reply, find_port
from lab.guest.kernel_log import KernelLog
from lab.guest.load import Load, LoadError, LoadRequest
from lab.guest.namespaces import TopologyError, inside
from lab.guest.observe import observe
from lab.guest.paths import LOOPBACK

_PORT_SECONDS = 20.0
# keys of the request `load` that may be absent or null, which means what LoadRequest says
_LOAD_OPTIONS = (
    "kind",
    "rate_per_second",
    "hold_seconds",
    "close",
    "newcomers",
    "answered",
    "data",
    "during",
    "path",
    "family",
    "processes",
    "loop",
)


class Agent:
    """Keeps what outlives a request: the place in the kernel's log, and the load that goes on holding."""

    def __init__(self, problems: List[str]) -> None:
        self._problems = problems
        self._log: Optional[KernelLog] = None
        self._loaded: Optional[Load] = None
        self._kept: Dict[str, List[str]] = {}
        self._path_name = LOOPBACK
        self._operations: Dict[str, Callable[[Dict[str, Any], Reply], Any]] = {
            "hello": self._hello,
            "clock": self._clock,
            "begin": self._begin,
            "path": self._path,
            "keep": self._keep,
            "apply": self._apply,
            "untrack_ends": self._untrack_ends,
            "set": self._set,
            "observe": self._observe,
            "load": self._load,
            "check": self._check,
            "release": self._release,
            "peer": self._peer,
            "kernel_log": self._kernel_log,
            "shell": self._shell,
            "partitions": lambda request, reply: {"partitions": disks.partitions(request["disk"])},
            "mount": lambda request, reply: disks.mount(request["name"], request["filesystem"], request["options"]),
            "look": lambda request, reply: {"paths": disks.look(request["root"], request["patterns"])},
            "texts": lambda request, reply: disks.texts(request["root"], request["paths"], request["limit"]),
            "fetch": self._fetch,
            "run": lambda request, reply: disks.run(request["root"], request["argv"]),
        }

    def serve(self, channel: Channel, ends: bool = False) -> None:
        """Answer requests. The host ends the machine; a channel without a reader is only waited for, unless it `ends`:
        a connection has no second reader.
        """
        while True:
            try:
                request = channel.receive()
            except ValueError as error:
                Reply(channel, None).failed("no request: {}".format(error), [])
                continue
            if request is None:
                if ends:
                    return
                time.sleep(0.05)
                continue
            self._answer(request, Reply(channel, request.get("id")))

    def _answer(self, request: Dict[str, Any], reply: Reply) -> None:
        try:
            operation = self._operations.get(str(request.get("op")))
            if operation is None:
                raise LookupError("no such operation: {!r:.80}".format(request.get("op")))
            reply.done(operation(request, reply))
        except Exception as error:
            reply.failed("{}: {}".format(type(error).__name__, error), traceback.format_exc().splitlines())

    def close(self) -> None:
        """End what was left holding."""
        if self._loaded is not None:
            self._loaded.release()
            self._loaded = None

    def _hello(self, request: Dict[str, Any], reply: Reply) -> Any:
        missing = machine.missing_programs(request.get("programs") or [])
        return dict(machine.facts(), problems=self._problems, programs_missing=missing)

    def _clock(self, request: Dict[str, Any], reply: Reply) -> Any:
        return {"monotonic_seconds": time.monotonic()}

    def _begin(self, request: Dict[str, Any], reply: Reply) -> Any:
        if self._log is not None:
            self._log.close()
            self._log = None
        self._log = KernelLog(request["marker"])
        return {}

    def _path(self, request: Dict[str, Any], reply: Reply) -> Any:
        """Steps can run in its ends from now on."""
        self._path_name = request["name"]
        try:
            return topology.build(request["name"], request["families"])
        except TopologyError as error:
            return {"path": request["name"], "error": str(error)}

    def _untrack_ends(self, request: Dict[str, Any], reply: Reply) -> Any:
        try:
            return ends.untrack_ends(request["name"], request["families"], request["touched"])
        except TopologyError as error:
            return {"error": str(error)}

    def _keep(self, request: Dict[str, Any], reply: Reply) -> Any:
        """A part of a step's text, which is too long for one request."""
        self._kept.setdefault(request["key"], []).append(request["text"])
        return {}

    def _apply(self, request: Dict[str, Any], reply: Reply) -> Any:
        steps = request["steps"]
        for step in steps:
            if step.get("key") in self._kept:
                step["text"] = "".join(self._kept.pop(step["key"]))
        reached = apply_steps(
            steps, lambda outcome: reply.event("step", **outcome), lambda role: inside(self._path_name, role)
        )
        return {"reached": reached}

    def _set(self, request: Dict[str, Any], reply: Reply) -> Any:
        return machine.set_existing(request["values"])

    def _observe(self, request: Dict[str, Any], reply: Reply) -> Any:
        with inside(self._path_name, request.get("end") or ""):
            observe(lambda item: reply.event("evidence", **item), bool(request.get("list_hooks")))
        return {}

    def _load(self, request: Dict[str, Any], reply: Reply) -> Any:
        self._release(request, reply)
        options = {name: request[name] for name in _LOAD_OPTIONS if request.get(name) is not None}
        wanted = LoadRequest(request["connections"], request["load_seconds"], **options)
        try:
            load = Load(wanted, lambda sample: reply.event("sample", **sample))
            begins, ends = request.get("marks") or (None, None)
            self._mark(begins)
            result = load.run()
            self._mark(ends)
        except LoadError as error:
            return {"ended": "not-driven", "error": str(error)}
        self._loaded = load  # it goes on holding
        return result

    def _mark(self, text: Optional[str]) -> None:
        """What the kernel logs between two such lines it logged during the load."""
        if self._log is not None and text is not None:
            self._log.mark(text)

    def _release(self, request: Dict[str, Any], reply: Reply) -> Any:
        self.close()
        return {}

    def _peer(self, request: Dict[str, Any], reply: Reply) -> Any:
        self._release(request, reply)  # what a load of thousands sends again would be in the way
        return peer.try_peers()

    def _kernel_log(self, request: Dict[str, Any], reply: Reply) -> Any:
        if self._log is None:
            return {"text": None, "overwritten": None}
        return {"text": self._log.read(), "overwritten": self._log.overwritten, "truncated": self._log.truncated}

    def _check(self, request: Dict[str, Any], reply: Reply) -> Any:
        """What a worker of the load died of while it was to hold its connections."""
        return {"crash": None if self._loaded is None else self._loaded.crash()}

    def _fetch(self, request: Dict[str, Any], reply: Reply) -> Any:
        root, path, limit = request["root"], request["path"], request["limit"]
        return {"size_bytes": disks.fetch(root, path, limit, lambda part: reply.event("part", content=part))}

    def _shell(self, request: Dict[str, Any], reply: Reply) -> Any:
        path = find_port(SHELL_PORT)
        if path is None:
            raise FileNotFoundError("this machine has no port {}".format(SHELL_PORT))
        fd = os.open(path, os.O_RDWR)
        try:
            if request.get("script") is not None:
                status = shell.run_script(fd, request["script"])
            else:
                status = shell.run_shell(fd, request["rows"], request["columns"], request["terminal"])
        finally:
            os.close(fd)
        return {"exit_status": status}


def serve_stdio() -> int:
    """Prepare the machine and serve on standard input and output; returns when the other side is gone."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # nothing that is started here may read or write the channel
    os.dup2(2, 1)
    agent = Agent(machine.prepare())
    try:
        agent.serve(Channel(requests, replies), ends=True)
    except BrokenPipeError:
        pass
    agent.close()
    return 0


def main() -> int:
    """Prepare the machine and serve; returns only when there is no channel."""
    if os.getpid() == 1:
        machine.take_name()  # nothing else in this machine does
    problems = machine.prepare()
    deadline = time.monotonic() + _PORT_SECONDS
    while find_port(AGENT_PORT) is None:
        if time.monotonic() > deadline:
            sys.stderr.write("lab agent: no virtio-serial port named {}\n".format(AGENT_PORT))
            return 1
        time.sleep(0.02)
    fd = os.open(str(find_port(AGENT_PORT)), os.O_RDWR)
    sys.stderr.write("lab agent: ready\n")
    Agent(problems).serve(Channel(fd, fd))
    return 0
