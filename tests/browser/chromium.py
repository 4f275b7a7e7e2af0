"""A headless Chromium, driven over a pipe with its DevTools protocol (https://chromedevtools.github.io/devtools-protocol).

It has no network: every name resolves to nothing, and what a page asks for is noted.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-headless-shell")
_SECONDS = 120.0
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """The browser's program; None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Page:
    """One tab. `complaints` are a page's errors and what its policy refused, `requests` the addresses it asked for."""

    def __init__(self, write: int, read: int, process: int) -> None:
        self._write, self._read, self._process = write, read, process
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._loaded: set[str] = set()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Do something, and give its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def look_as(self, width: int, height: int, *, dark: bool = False, script: bool = True) -> None:
        """The window's size, the system's colours, and whether pages may run scripts."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.call("Emulation.setScriptExecutionDisabled", value=not script)

    def open(self, address: str) -> float:
        """Go to a page, wait until it is loaded and painted, and give how many seconds that took."""
        self._go("about:blank")
        started = time.monotonic()
        self._go(address)
        self.call("Page.captureScreenshot", format="jpeg", quality=10)  # waits for a frame
        return time.monotonic() - started

    def _go(self, address: str) -> None:
        loader = self.call("Page.navigate", url=address)["loaderId"]
        while loader not in self._loaded:
            self._note(self._next())

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def processor_seconds(self) -> float:
        """What the browser's processes have used so far: unlike a wait it does not depend on what else is running."""
        total, waiting = 0, [self._process]
        while waiting:
            process = waiting.pop()
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])  # utime, stime (proc_pid_stat(5))
                for children in Path(f"/proc/{process}/task").glob("*/children"):
                    waiting += map(int, children.read_text().split())
        return total / os.sysconf("SC_CLK_TCK")

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key, down and up."""
        for kind in ("keyDown", "keyUp"):
            arguments = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", **arguments, **({"text": text} if text and kind == "keyDown" else {}))

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """A PNG of what the window shows, or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))

    def _note(self, event: Mapping[str, Any]) -> None:
        method, said = event.get("method", ""), event.get("params", {})
        if method == "Page.lifecycleEvent" and said["name"] == "load":
            self._loaded.add(said["loaderId"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(said["entry"]["text"])
        elif method == "Audits.issueAdded" and said["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.complaints.append(json.dumps(said["issue"])[:500])

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._read, 1 << 20) if ready else b""
            assert data, "the browser ended, or gave no answer"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        content: dict[str, Any] = json.loads(message)
        return content


@contextlib.contextmanager
def browser(program: str) -> Iterator[Page]:
    """A browser with one page; it is gone, with its folder, when the block ends."""
    to_browser, from_us = os.pipe()
    to_us, from_browser = os.pipe()

    def descriptors() -> None:  # the protocol is spoken on 3 and 4
        moved = os.dup(to_browser), os.dup(from_browser)
        for wanted, had in zip((3, 4), moved, strict=True):
            os.dup2(had, wanted)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [program, *_OPTIONS, f"--user-data-dir={folder}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=descriptors,
        )
        for end in (to_browser, from_browser):
            os.close(end)
        try:
            yield Page(from_us, to_us, process.pid)
        finally:
            process.kill()
            process.wait()
            for end in (from_us, to_us):
                os.close(end)
