"""Files of the web, bounded in size and time. What they are is for the caller to check, by their digest."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

from lab.core.errors import PrerequisiteError
from lab.host.cache import Deadline

if TYPE_CHECKING:
    from http.client import HTTPResponse

_CHUNK_BYTES = 1 << 20
_WAIT_SECONDS = 30.0  # for a server that says nothing


def download(url: str, file: Path, most_bytes: int, deadline: Deadline, hint: str) -> None:
    """Write what is at a URL of http or https to `file`. Raises PrerequisiteError, with the hint, and LabError past the
    deadline.
    """
    import urllib.error  # only here: it takes time to import
    import urllib.request
    from http.client import HTTPException

    try:
        # the protocol is one of the web's: no caller lets another through
        with urllib.request.urlopen(url, timeout=_WAIT_SECONDS) as answer, file.open("wb") as target:
            _copy(answer, target, url, most_bytes, deadline)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the server's answer, too
        raise PrerequisiteError(f"cannot fetch {url}: {getattr(error, 'reason', None) or error}", hint=hint) from error


def _copy(answer: HTTPResponse, target: IO[bytes], url: str, most_bytes: int, deadline: Deadline) -> None:
    size = 0
    while chunk := answer.read1(_CHUNK_BYTES):  # what there is: the deadline holds also where it comes byte by byte
        deadline.check()
        size += len(chunk)
        if size > most_bytes:
            raise PrerequisiteError(f"{url}: is larger than {most_bytes // 10**6} MB", hint="is it the right file?")
        target.write(chunk)
