"""What the processes of a run are, and what they use."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

TOKEN = "LAB_SOAK_ID"


@dataclass(frozen=True)
class Use:
    """What a process has at a moment."""

    descriptors: int
    memory_kb: int


def processes_of(token: str) -> list[int]:
    """The processes that descend from a lab with this token in its environment."""
    entry = f"{TOKEN}={token}".encode()
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and entry in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def name_of(pid: int) -> str:
    """The program that a process runs; empty for one that has ended."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def use_of(pid: int) -> Use | None:
    """What a process uses now; None for one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        memory_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return Use(len(os.listdir(f"/proc/{pid}/fd")), memory_kb)
    except (OSError, StopIteration):
        return None
