"""A record as one file: a tar archive, compressed, with no more in it than texts."""

import io
import os
import tarfile
from typing import Dict

from lab.guest.recorder import FOLDER

MAX_BYTES = 256 * 1024 * 1024  # of all texts together


def write_archive(path: str, files: Dict[str, str]) -> None:
    """Write the texts to a new file that only its owner can read. Raises OSError: FileExistsError for one that is
    there; ValueError where they are too large.
    """
    total = sum(map(len, files.values()))
    if total > MAX_BYTES:
        raise ValueError("the texts are {} MB, {} is the limit".format(total // 2**20, MAX_BYTES // 2**20))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in sorted(files):
            data = files[name].encode("utf-8", "backslashreplace")
            member = tarfile.TarInfo("{}/{}".format(FOLDER, name))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
