"""An interactive shell on a second port: raw bytes each way between the port and a pseudo-terminal."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import tempfile
import termios
from typing import List

from lab.guest.apply import STEP_PATH

_SHELLS = (("/bin/bash", "--login"), ("/bin/sh", "-l"))
_ENVIRONMENT = {
    "PATH": STEP_PATH,
    "HOME": "/root",
    "TERM": "linux",
    "PS1": r"\h:\w\$ ",
}


def run_shell(port_fd: int, rows: int, columns: int, terminal: str) -> int:
    """Run a login shell until it ends or the port is closed; returns its exit status."""
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.chdir("/root")
            argv = _argv()
            os.execve(argv[0], argv, dict(_ENVIRONMENT, TERM=terminal))
        finally:
            os._exit(127)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    try:
        _relay(master, port_fd)
    finally:
        os.close(master)
    _, status = os.waitpid(pid, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def run_script(port_fd: int, script: str) -> int:
    """Run the script in a login shell, its output going to the port as it comes; returns the shell's exit status.

    For input that is no terminal: a pseudo-terminal would echo it, and lose what was typed ahead.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        process = subprocess.Popen(
            [*_argv(), file.name],
            stdin=subprocess.DEVNULL,
            stdout=port_fd,
            stderr=port_fd,
            env=_ENVIRONMENT,
            cwd="/root",
        )
        status = process.wait()
    return status if status >= 0 else 128 - status


def _argv() -> List[str]:
    return list(next((argv for argv in _SHELLS if os.path.exists(argv[0])), _SHELLS[-1]))


def _relay(master: int, port_fd: int) -> None:
    while True:
        readable, _, _ = select.select([master, port_fd], [], [])
        if master in readable:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: the shell has ended
                return
            if not data:
                return
            _write_all(port_fd, data)
        if port_fd in readable:
            data = os.read(port_fd, 65536)
            if not data:
                return
            _write_all(master, data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
