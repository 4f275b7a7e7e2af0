"""The saved states of booted machines, in the cache: complete or made again, and the ones used longest ago go first."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import LabError
from lab.host.cache import cache_root
from lab.host.results.plain_files import sha256_of

# Raised when a saved state of the last version must not be restored any more.
STATE_VERSION = 1
# Each takes 150 to 350 MB; one is needed for each target, kernel, set of boot arguments and version of the lab.
KEPT_STATES = 16


@dataclass(frozen=True)
class SavedState:
    """A machine's memory at the moment when its agent was ready."""

    folder: Path

    @property
    def memory(self) -> Path:
        """The guest's memory, mapped by every machine restored from it."""
        return self.folder / "memory"

    @property
    def devices(self) -> Path:
        """The state of the devices, as QEMU's migration stream without the memory."""
        return self.folder / "devices"

    @property
    def console(self) -> Path:
        """What the console showed from power-on to the save."""
        return self.folder / "console.log"

    def mark_used(self) -> None:
        """Remember that the state was used now; the ones used longest ago are the first to go."""
        with contextlib.suppress(OSError):
            os.utime(self.folder)

    def complete(self) -> bool:
        """Whether every file is there as it was recorded when the state was saved: the memory, of a gigabyte and more,
        by its size, all others by their digests.
        """
        try:
            recorded = json.loads((self.folder / "state.json").read_text())
            sizes, digests = recorded["sizes"], recorded["sha256s"]
            return all((self.folder / name).stat().st_size == size for name, size in sizes.items()) and all(
                sha256_of(self.folder / name) == digest for name, digest in digests.items()
            )
        except (OSError, ValueError, KeyError, AttributeError, LabError):
            return False


def recorded_state(state: SavedState) -> str:
    """What state.json says of the other files, by which `SavedState.complete` knows them."""
    sizes = {path.name: path.stat().st_size for path in (state.memory, state.devices, state.console)}
    digests = {path.name: sha256_of(path) for path in (state.devices, state.console)}
    return json.dumps({"sizes": sizes, "sha256s": digests, "saved_at": time.time()})


def state_folder(key: str) -> Path:
    """Where the state of a machine with this key lies, or would."""
    return cache_root() / "states" / key


def saved_states() -> list[Path]:
    """The folders of all saved states, the one used last first."""
    used: dict[Path, float] = {}
    for path in (cache_root() / "states").glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):  # another lab removes them, too
            if path.is_dir():
                used[path] = path.stat().st_mtime
    return sorted(used, key=lambda path: used[path], reverse=True)


def prune_saved_states(keep: int) -> int:
    """Remove all but the `keep` states used last; how many went. A machine restored from one of them lives on: it has
    the files open. One that is needed again is made again.
    """
    stale = saved_states()[keep:]
    for folder in stale:
        shutil.rmtree(folder, ignore_errors=True)
    return len(stale)
