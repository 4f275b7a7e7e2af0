"""Damage done to stored runs, as data: what a bad disk, a hostile sender or a slip of the hand may leave."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.edits import any_of, changed_value, values

CONTENTS = (b"", b"\0", b"\xff\xfe", b"{", b"[]", b"null", b"[" * 3000, b'{"a":' * 3000, b"9" * 6000)
_DOCUMENTS = frozenset({"manifest.json", "results.json", "SHA256SUMS", "plan.json", "result.json"})


def regular_files(run: Path) -> list[Path]:
    """All files of a run, in order."""
    return sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink())


@dataclass(frozen=True)
class Bytes:
    """Some bytes of a file are others."""

    name: str
    at: tuple[int, ...]
    byte: int

    def do(self, run: Path) -> None:
        path = run / self.name
        content = bytearray(path.read_bytes())
        for at in self.at if content else ():
            content[at % len(content)] = self.byte
        path.write_bytes(bytes(content))


@dataclass(frozen=True)
class Cut:
    """A file ends early."""

    name: str
    at: int

    def do(self, run: Path) -> None:
        path = run / self.name
        content = path.read_bytes()
        path.write_bytes(content[: self.at % (len(content) + 1)])


@dataclass(frozen=True)
class Content:
    """A file has another content."""

    name: str
    content: bytes

    def do(self, run: Path) -> None:
        (run / self.name).write_bytes(self.content)


@dataclass(frozen=True)
class Value:
    """A value of a JSON document, however deep, is another one, or has gone."""

    name: str
    way: tuple[int, ...]
    removed: bool
    value: Any = field(hash=False)

    def do(self, run: Path) -> None:
        path = run / self.name
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return
        if changed_value(content, self.way, self.value, removed=self.removed):
            path.write_text(json.dumps(content))


@dataclass(frozen=True)
class Kind:
    """Something else is in a file's place, or nothing."""

    name: str
    kind: str

    def do(self, run: Path) -> None:
        path = run / self.name
        path.unlink()
        _KINDS[self.kind](path)


@dataclass(frozen=True)
class NoFolder:
    """A file, or a link to elsewhere, is in a folder's place, or nothing."""

    name: str
    kind: str

    def do(self, run: Path) -> None:
        path = run / self.name
        shutil.rmtree(path)
        _KINDS[self.kind](path)


_KINDS: Mapping[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "folder": Path.mkdir,
    "file": lambda path: path.write_text("x"),
    "FIFO": os.mkfifo,
    "link": lambda path: path.symlink_to("/etc/hostname"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to a folder": lambda path: path.symlink_to("/tmp"),
    "dangling link": lambda path: path.symlink_to("/nonexistent/file"),
}

Damage = Bytes | Cut | Content | Value | Kind | NoFolder


def damages(run: Path) -> st.SearchStrategy[Damage]:
    """What may be done to a run; its documents, few and read most, are met as often as all other files."""
    names = [str(path.relative_to(run)) for path in regular_files(run)]
    documents = [name for name in names if name.rpartition("/")[2] in _DOCUMENTS]
    folders = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_dir() and not path.is_symlink())
    name = any_of(documents) | any_of(names)
    json_name = any_of([name for name in names if name.endswith(".json")])
    number = st.integers(0, 2**16)
    way = st.lists(number, min_size=1, max_size=6).map(tuple)
    value = st.builds(Value, json_name, way, st.sampled_from([False, False, False, True]), values)
    return st.one_of(
        value,
        value,
        st.builds(Bytes, name, st.lists(number, min_size=1, max_size=8).map(tuple), st.integers(0, 255)),
        st.builds(Cut, name, number),
        st.builds(Content, name, any_of(CONTENTS) | st.binary(max_size=20)),
        st.builds(Kind, name, st.sampled_from(sorted(_KINDS))),
        st.builds(NoFolder, any_of(folders), st.sampled_from(sorted(_KINDS))),
    )


def do_all(run: Path, found: Iterable[Damage]) -> None:
    """Damage a run; what has gone, or is no file any more, is passed over."""
    for damage in found:
        path = run / damage.name
        if any(parent.is_symlink() for parent in (path, *path.parents[: len(path.relative_to(run).parts)])):
            continue
        if path.is_dir() if isinstance(damage, NoFolder) else path.is_file():
            damage.do(run)
