"""The layout of a record: from its files, by their paths, to the values. lab.guest.recorder writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lab.core.errors import ScenarioError
from lab.core.evidence import Snapshot
from lab.core.inspecting.model import Namespace, Record

VERSION = 1
_ERROR, _CUT = ".error", ".cut"
_NAMESPACE = re.compile(r"ns/(?P<inode>\d{1,20})/(?:(?P<later>later)/)?(?P<name>[\w.-]{1,100})")
_HOST = re.compile(r"host/(?P<name>[\w.-]{1,100})")
# a text that was cut is no text: what is missing of it could say the contrary. These say what they have.
_USEFUL_WHEN_CUT = frozenset({"entries", "kmsg", "modprobe.d"})


def is_record(files: Mapping[str, str]) -> bool:
    """Whether these files are a record's."""
    return "version" in files and any(path.startswith("host/") for path in files)


def record_of(files: Mapping[str, str], origin: str) -> Record:
    """The record in these files. Raises ScenarioError for one of a newer lab, or one that is damaged."""
    _check_version(files.get("version", ""), origin)
    host: dict[str, str] = {}
    namespaces: dict[int, tuple[dict[str, str], dict[str, str]]] = {}
    for path, text in files.items():
        if found := _HOST.fullmatch(path):
            host[found["name"]] = text
        elif found := _NAMESPACE.fullmatch(path):
            looks = namespaces.setdefault(int(found["inode"]), ({}, {}))
            looks[1 if found["later"] else 0][found["name"]] = text
    if not host or not namespaces:
        raise ScenarioError(f"{origin}: the record is incomplete: it has no texts of the host", hint="record it again")
    snapshot = _snapshot(host)
    found_here = [_namespace(inode, *looks, snapshot) for inode, looks in namespaces.items()]
    found_here.sort(key=lambda one: (not one.own, one.inode or 0))
    problems = tuple((files.get("namespaces.problems") or "").splitlines())
    return Record(origin, snapshot, tuple(found_here), problems)


def _check_version(text: str, origin: str) -> None:
    number = text.strip()
    if not re.fullmatch(r"\d{1,6}", number):
        raise ScenarioError(f"{origin}: {number[:40]!r} is no version of a record", hint="record the host again")
    if int(number) > VERSION:
        raise ScenarioError(
            f"{origin}: a record of version {number}, and this lab reads version {VERSION}",
            hint="read it with the lab that wrote it, or a newer one",
        )


def _snapshot(items: Mapping[str, str]) -> Snapshot:
    cut = {name.removesuffix(_CUT) for name in items if name.endswith(_CUT)}
    texts = {
        name: text
        for name, text in items.items()
        if not name.endswith((_ERROR, _CUT)) and (name not in cut or name in _USEFUL_WHEN_CUT)
    }
    errors = {name.removesuffix(_ERROR): text.strip() for name, text in items.items() if name.endswith(_ERROR)}
    errors.update(dict.fromkeys(cut, "only its beginning was recorded"))
    return Snapshot(texts, errors)


def _namespace(inode: int, first: Mapping[str, str], later: Mapping[str, str], host: Snapshot) -> Namespace:
    own = _snapshot({name: text for name, text in first.items() if name != "error"})
    count = (first.get("process_count") or "").strip()
    return Namespace(
        snapshot=Snapshot({**host.texts, **own.texts}, {**host.errors, **own.errors}),
        inode=inode,
        names=tuple((first.get("names") or "").splitlines()),
        processes=tuple((first.get("processes") or "").splitlines()),
        process_count=int(count) if re.fullmatch(r"\d{1,9}", count) else None,
        own=(first.get("own") or "").strip() == "1",
        initial=_is_initial(inode, host.texts.get("pid_1_namespace")),
        error=first["error"].strip() if "error" in first else None,
        later=_snapshot(later) if later else None,
        seconds=_seconds(first.get("at"), later.get("at")),
    )


def _is_initial(inode: int, link: str | None) -> bool | None:
    """Whether it is the first process's; None where that link could not be read."""
    found = re.search(r"net:\[(\d{1,20})\]", link or "")
    return None if found is None else int(found[1]) == inode


def _seconds(first: str | None, later: str | None) -> float | None:
    """Between two looks; None where there was one only."""
    try:
        between = float(later or "") - float(first or "")
    except ValueError:
        return None
    return between if 0 < between < 10**6 else None
