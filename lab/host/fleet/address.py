"""Where a scheduler is: `tls://HOST:PORT`, or `tcp://` on loopback alone."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from lab.core.errors import LabError

TLS, TCP = "tls", "tcp"
DEFAULT_PORT = 8786  # Dask's own
LOOPBACK = "127.0.0.1"
_EXAMPLE = f"for example tls://{LOOPBACK}:{DEFAULT_PORT}"


@dataclass(frozen=True)
class Address:
    """A scheme, a host and a port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine itself, for every name but `localhost` by its address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_address(text: str) -> Address:
    """A scheduler's address. Raises LabError for anything that is none, and for `tcp://` off loopback: whoever reaches
    a scheduler can run programs on its workers.
    """
    try:
        parts = urlsplit(text)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORT
        is_plain = bool(host) and not (parts.path or parts.query or parts.fragment or parts.username)
    except ValueError:
        scheme, host, port, is_plain = "", "", 0, False
    if scheme not in (TLS, TCP) or not is_plain:
        raise LabError(f"{text!r:.200}: is no address of a fleet", hint=_EXAMPLE)
    if scheme == TCP and not is_loopback(host):
        raise LabError(
            f"{text}: tcp:// has no keys, and is for loopback only",
            hint=f"tls://{parts.netloc}, with the keys that lab fleet keys makes",
        )
    return Address(scheme, host, port)
