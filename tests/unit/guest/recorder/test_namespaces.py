"""Namespaces of the host: found, named, entered; what cannot be is said."""

from __future__ import annotations

import os
import time

import pytest

from lab.guest.recorder.namespaces import OWN, Namespace, inside, namespaces
from tests.unit.namespaces import in_namespace


def test_the_own_namespace_is_the_first() -> None:
    found, _ = namespaces()
    assert (found[0].path, found[0].inode) == (OWN, os.stat(OWN).st_ino)
    assert any(str(os.getpid()) == line.split()[0] for line in found[0].processes) or found[0].process_count > 5


def test_what_is_inside_is_done_there() -> None:
    outer = os.stat(OWN).st_ino

    def body() -> list[int]:
        found = {one.inode: one for one in namespaces()[0]}
        return [inside(found[outer], lambda: os.stat(OWN).st_ino, 10.0), os.stat(OWN).st_ino]

    there, here = in_namespace(body)
    assert there == outer
    assert here != outer


def test_a_namespace_that_is_gone_is_an_error() -> None:
    gone = Namespace(1, "/proc/1/ns/no-such", [], [], 0)
    with pytest.raises(OSError, match="cannot be entered"):
        inside(gone, lambda: 1, 5.0)


def test_one_that_does_not_answer_is_left() -> None:
    with pytest.raises(OSError, match="does not answer"):
        inside(Namespace(1, "/proc/self/ns/./net", [], [], 0), lambda: time.sleep(60), 0.2)
