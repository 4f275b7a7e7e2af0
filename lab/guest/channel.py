"""JSON lines over a file descriptor: the only way in and out of the machine, and none that netfilter can cut."""

import json
import os
from typing import Any, Dict, List, Optional

AGENT_PORT, SHELL_PORT = "org.conntrack-lab.agent", "org.conntrack-lab.shell"
VIRTIO_PORTS = "/sys/class/virtio-ports"
MAX_REQUEST_BYTES = 4 * 1024 * 1024


def find_port(name: str) -> Optional[str]:
    """The device of the virtio-serial port called `name`, or None when there is no such port (yet)."""
    try:
        ports = os.listdir(VIRTIO_PORTS)
    except OSError:
        return None
    for port in ports:
        try:
            with open(os.path.join(VIRTIO_PORTS, port, "name")) as file:
                if file.read().strip() == name:
                    return "/dev/" + port
        except OSError:
            continue
    return None


class Channel:
    """One JSON object per line, ASCII only, blocking in both directions."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._pending = bytearray()

    def receive(self) -> Optional[Dict[str, Any]]:
        """The next message, or None when the other side is gone: what it left unfinished is forgotten.

        A line that is no JSON object, or too long, raises ValueError; the next call goes on with the line after it.
        """
        line = self._line()
        if line is None:
            return None
        try:
            message = json.loads(line.decode("ascii"))
        except RecursionError:
            raise ValueError("a request is nested too deeply")
        if not isinstance(message, dict):
            raise ValueError("a request is not a JSON object")
        return message

    def _line(self) -> Optional[bytes]:
        searched = size = 0
        while True:
            end = self._pending.find(b"\n", searched)
            if end >= 0:
                line = bytes(self._pending[:end])
                del self._pending[: end + 1]
                if size + end > MAX_REQUEST_BYTES:
                    raise ValueError("a request is longer than {} bytes".format(MAX_REQUEST_BYTES))
                return line
            searched = len(self._pending)
            if size + searched > MAX_REQUEST_BYTES:  # its rest is read and dropped, or it would be the next request
                size += searched
                searched = 0
                del self._pending[:]
            chunk = os.read(self._read_fd, 65536)
            if not chunk:
                del self._pending[:]
                return None
            self._pending += chunk

    def send(self, message: Dict[str, Any]) -> None:
        """Write one message whole; blocks while the other side does not read."""
        data = json.dumps(message).encode("ascii") + b"\n"
        view = memoryview(data)
        while view:
            view = view[os.write(self._write_fd, view) :]


class Reply:
    """The answers to one request: any number of events, then one end. Every message carries the request's id."""

    def __init__(self, channel: Channel, request_id: Any) -> None:
        self._channel = channel
        self._id = request_id

    def event(self, kind: str, **fields: Any) -> None:
        """Send something that happened meanwhile."""
        self._channel.send(dict(fields, id=self._id, event=kind))

    def done(self, result: Any) -> None:
        """End the request with its result."""
        self._channel.send({"id": self._id, "ok": True, "result": result})

    def failed(self, error: str, lines: List[str]) -> None:
        """End the request with an error of the agent's own (a bug or a broken machine, not a finding)."""
        self._channel.send({"id": self._id, "ok": False, "error": error, "traceback": lines})
