"""The rows of the table, bounded, and without addresses unless they are asked for."""

import os
import re
import time
from typing import Dict, List

from lab.guest.files import error_name
from lab.guest.recorder.rulesets import output

PATH = "/proc/net/nf_conntrack"
MAX_BYTES = 32 * 1024 * 1024
MAX_SECONDS = 10.0
_CHUNK_BYTES = 1024 * 1024
_ADDRESS = re.compile(r"\b(src|dst)=\S+")


def entries(by_netlink: bool, addresses: bool) -> Dict[str, str]:
    """The rows as `entries`, with `entries.cut` where not all were read; `entries.error` where none can be.

    Where the kernel has no such file, `conntrack -L` is asked, but only when `by_netlink`: its module is there.
    """
    found = _rows()
    if found.get("entries.error") == "ENOENT" and by_netlink:
        found = output("entries", ["conntrack", "-L", "-o", "extended"], MAX_SECONDS, MAX_BYTES)
    if "entries" in found and not addresses:
        found["entries"] = _ADDRESS.sub(r"\1=-", found["entries"])
    return found


def _rows() -> Dict[str, str]:
    try:
        fd = os.open(PATH, os.O_RDONLY)
    except OSError as error:
        return {"entries.error": error_name(error)}
    chunks: List[bytes] = []
    size = 0
    deadline = time.monotonic() + MAX_SECONDS
    try:
        while size < MAX_BYTES and time.monotonic() < deadline:
            chunk = os.read(fd, _CHUNK_BYTES)
            if not chunk:
                return {"entries": b"".join(chunks).decode("utf-8", "backslashreplace")}
            chunks.append(chunk)
            size += len(chunk)
    except OSError as error:
        return {"entries.error": error_name(error)}
    finally:
        os.close(fd)
    whole = b"".join(chunks).rpartition(b"\n")[0] + b"\n"
    return {"entries": whole.decode("utf-8", "backslashreplace"), "entries.cut": "only the first rows were read\n"}
