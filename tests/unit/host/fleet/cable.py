"""Two hosts and the cable between them: this process's network namespace, and another that the test makes."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from lab.host.process import dying_with_parent
from tests.unit.namespaces import first_that_works

HERE, THERE = "198.18.0.1", "198.18.0.2"  # RFC 2544
_SECONDS = 30.0


class Cable:
    """Joins a namespace in which the test is already with a new one; `there` runs a program over there."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(dying_with_parent(["unshare", "--net", "sleep", "600"]))
        place = Path(f"/proc/{self._holder.pid}/ns/net")
        until = time.monotonic() + _SECONDS
        while os.readlink(place) == os.readlink("/proc/self/ns/net"):
            assert time.monotonic() < until and self._holder.poll() is None, "there is no other namespace"
            time.sleep(0.01)
        self.there = ("nsenter", f"--net={place}")
        first_that_works(["ip", "link", "add", "lab-here", "type", "veth", "peer", "name", "lab-there"])
        for words in (
            ["ip", "link", "set", "lab-there", "netns", str(self._holder.pid)],
            ["ip", "address", "add", f"{HERE}/24", "dev", "lab-here"],
            ["ip", "link", "set", "lab-here", "up"],
            [*self.there, "ip", "address", "add", f"{THERE}/24", "dev", "lab-there"],
            [*self.there, "ip", "link", "set", "lo", "up"],
        ):
            first_that_works(words)
        self.join()

    def cut(self) -> None:
        """From now on nothing gets through, and neither side is told."""
        first_that_works([*self.there, "ip", "link", "set", "lab-there", "down"])

    def join(self) -> None:
        """All gets through."""
        first_that_works([*self.there, "ip", "link", "set", "lab-there", "up"])

    def close(self) -> None:
        """End the other namespace; the programs there are the test's to end."""
        self._holder.kill()
        self._holder.wait(_SECONDS)
