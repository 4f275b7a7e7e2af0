"""Damage done to stored runs: what a bad disk, a hostile sender or a slip of the hand may leave."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# what takes the place of a value in a JSON document
STRANGE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**70,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "\x1b[2J\ud800",
    "../../outside",
    "a" * 5000,
    [],
    [[]],
    {},
    {"": {}},
    [None] * 3,
)
BYTES = (b"", b"\0", b"\xff\xfe", b"{", b"[]", b"null", b"[" * 3000, b'{"a":' * 3000, b"9" * 6000)

Mutation = Callable[[random.Random, Path], str]


def regular_files(run: Path) -> list[Path]:
    """All files of a run, in order."""
    return sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink())


def _any_file(chance: random.Random, run: Path) -> Path:
    files = regular_files(run)
    # the documents are few, and read most
    documents = [path for path in files if path.suffix in (".json", ".jsonl", ".toml") or path.name == "SHA256SUMS"]
    return chance.choice(documents if documents and chance.random() < 0.7 else files)


def flip_bytes(chance: random.Random, run: Path) -> str:
    path = _any_file(chance, run)
    content = bytearray(path.read_bytes() or b"\0")
    for _ in range(chance.randint(1, 8)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    path.write_bytes(bytes(content))
    return f"bytes of {path.name} changed"


def cut(chance: random.Random, run: Path) -> str:
    path = _any_file(chance, run)
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content) + 1)])
    return f"{path.name} cut"


def replace_content(chance: random.Random, run: Path) -> str:
    path = _any_file(chance, run)
    path.write_bytes(chance.choice(BYTES))
    return f"{path.name} replaced"


def strange_value(chance: random.Random, run: Path) -> str:
    """A value of a JSON document, however deep, becomes another one, or goes."""
    path = chance.choice([path for path in regular_files(run) if path.suffix == ".json"] or regular_files(run))
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return "nothing"
    place: Any = content
    key: Any = None
    while isinstance(place, dict | list) and place:
        key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
        if not isinstance(place[key], dict | list) or not place[key] or chance.random() < 0.35:
            break
        place = place[key]
    if key is None or not isinstance(place, dict | list):
        return "nothing"
    if chance.random() < 0.25:
        del place[key]
    else:
        place[key] = chance.choice(STRANGE)
    path.write_text(json.dumps(content))
    return f"{path.name}: {key!r:.40} is another"


def remove(chance: random.Random, run: Path) -> str:
    path = _any_file(chance, run)
    path.unlink()
    return f"{path.name} removed"


def no_file(chance: random.Random, run: Path) -> str:
    """A folder, a FIFO, a link or a device's name in a file's place."""
    path = _any_file(chance, run)
    path.unlink()
    kinds: Mapping[str, Callable[[], object]] = {
        "folder": path.mkdir,
        "FIFO": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/etc/hostname"),
        "link to a device": lambda: path.symlink_to("/dev/zero"),
        "dangling link": lambda: path.symlink_to("/nonexistent/file"),
    }
    name = chance.choice(sorted(kinds))
    kinds[name]()
    return f"{path.name} is a {name}"


def no_folder(chance: random.Random, run: Path) -> str:
    """A file, or a link to elsewhere, in a folder's place."""
    folders = sorted(path for path in run.rglob("*") if path.is_dir() and not path.is_symlink())
    if not folders:
        return "nothing"
    path = chance.choice(folders)
    shutil.rmtree(path)
    if chance.random() < 0.5:
        path.write_text("x")
    else:
        path.symlink_to("/tmp")
    return f"{path.name} is no folder"


MUTATIONS: tuple[Mutation, ...] = (
    flip_bytes,
    cut,
    replace_content,
    strange_value,
    strange_value,
    strange_value,
    remove,
    no_file,
    no_folder,
)


def mutate(chance: random.Random, run: Path) -> list[str]:
    """Damage a run in one to three ways; what was done."""
    count = chance.choice((1, 1, 2, 3))
    return [chance.choice(MUTATIONS)(chance, run) for _ in range(count) if regular_files(run)]


def another_text(chance: random.Random, text: str) -> str:
    """A text with pieces cut, doubled, moved, or filled with what parsers look for."""
    pieces = ("\0", "\n", " " * 500, "\t", '"', "{", "}", "[", "]", "\\", "-", ":", ",", "=", "0x", "9" * 40, "é", "#")
    for _ in range(chance.randint(1, 6)):
        at, end = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        text = chance.choice(
            (
                text[:at] + text[end:],
                text[:end] + text[at:end] + text[end:],
                text[:at] + chance.choice(pieces) * chance.choice((1, 2, 40)) + text[at:],
                text[:at] + text[at:end][::-1] + text[end:],
            )
        )[:60_000]
    return text
