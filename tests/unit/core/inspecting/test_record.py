"""The layout of a record."""

from __future__ import annotations

import pytest

from lab.core.errors import ScenarioError
from lab.core.inspecting.record import is_record, record_of
from tests.unit.core.inspecting.hosts import OWN, files


def test_the_own_namespace_is_the_first_and_is_named() -> None:
    record = record_of(
        files({"pid_1_namespace": f"net:[{OWN}]\n"}, {}, n5={"names": "blue\n", "process_count": "2\n"}), "x"
    )
    assert [one.label for one in record.namespaces] == ["host", "blue"]
    assert record.namespaces[1].process_count == 2


def test_a_namespace_that_is_not_the_first_processs_says_so() -> None:
    record = record_of(files({"pid_1_namespace": "net:[7]\n"}), "x")
    assert record.namespaces[0].label == "this namespace"


def test_what_was_cut_is_no_text_unless_its_beginning_is_of_use() -> None:
    own = {"ruleset.nft": "table ip t {", "ruleset.nft.cut": "", "entries": "rows\n", "entries.cut": ""}
    snapshot = record_of(files(own=own), "x").namespaces[0].snapshot
    assert "ruleset.nft" not in snapshot.texts
    assert snapshot.texts["entries"] == "rows\n"
    assert {"ruleset.nft", "entries"} <= set(snapshot.errors)


def test_names_that_no_record_has_are_passed_over() -> None:
    odd = {"ns/../../etc": "x", "host/a b": "x", "ns/1/2/3": "x", "ns/٣/x": "x"}
    assert "a b" not in record_of({**files(), **odd}, "x").host.texts


def test_seconds_are_those_between_two_looks() -> None:
    assert record_of(files(own={"later/at": "12.5\n"}), "x").namespaces[0].seconds == 2.5
    assert record_of(files(own={"later/at": "x\n"}), "x").namespaces[0].seconds is None
    assert record_of(files(own={"later/at": "1\n"}), "x").namespaces[0].seconds is None


@pytest.mark.parametrize("version", ["", "2\n", "one\n", "9" * 50])
def test_another_version_is_refused(version: str) -> None:
    with pytest.raises(ScenarioError):
        record_of({**files(), "version": version}, "x")


def test_what_is_a_record() -> None:
    assert is_record(files())
    assert not is_record({"version": "1\n"})
