"""What a record has; of this host, whatever it is."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from lab.core.inspecting.record import record_of
from lab.guest.recorder import FOLDER, collect, table
from lab.guest.recorder.archive import write_archive
from tests.unit.namespaces import in_namespace, track


def test_two_looks_and_the_time_between_them() -> None:
    record = record_of(collect.collect(collect.Options(watch_seconds=0.2)), "here")
    assert record.namespaces[0].own
    assert 0.1 < (record.namespaces[0].seconds or 0)
    assert record.namespaces[0].later is not None


def test_one_look_is_one() -> None:
    record = record_of(collect.collect(collect.Options(watch_seconds=0)), "here")
    assert record.namespaces[0].seconds is None


def test_past_its_time_no_namespace_is_begun() -> None:
    files = collect.collect(collect.Options(watch_seconds=0, total_seconds=-1))
    record = record_of(files, "here")
    assert all("not read" in (one.error or "") for one in record.namespaces)


def test_rows_come_without_addresses_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows"
    rows.write_text(
        "ipv4 2 udp 17 29 src=192.0.2.1 dst=192.0.2.2 sport=1 dport=53 [UNREPLIED] src=192.0.2.2 dst=192.0.2.1\n"
    )
    monkeypatch.setattr(table, "PATH", str(rows))
    assert "192.0.2" not in table.entries(False, False)["entries"]
    assert "sport=1 dport=53" in table.entries(False, False)["entries"]
    assert "192.0.2.2" in table.entries(False, True)["entries"]


def test_rows_are_bounded_at_a_line_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows"
    rows.write_text("row\n" * 1_000_000)
    monkeypatch.setattr(table, "PATH", str(rows))
    monkeypatch.setattr(table, "MAX_BYTES", 1000)
    found = table.entries(False, False)
    assert set(found) == {"entries", "entries.cut"}
    assert found["entries"].endswith("row\n")


def test_the_table_is_not_read_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(collect, "entries", fail)
    collect.collect(collect.Options(watch_seconds=0))


def test_a_rule_that_is_there_is_recorded() -> None:
    def body() -> list[str]:
        track()
        files = collect.collect(collect.Options(watch_seconds=0))
        own = next(path.rpartition("/")[0] for path, text in files.items() if path.endswith("/own") and text == "1\n")
        return [
            text for path, text in files.items() if (path.startswith(f"{own}/") and "-save" in path) or ".nft" in path
        ]

    assert any("ct state" in text or "ctstate" in text for text in in_namespace(body))


def test_an_archive_has_texts_for_its_owner(tmp_path: Path) -> None:
    write_archive(str(tmp_path / "a.tgz"), {"version": "1\n", "host/x": "é\n"})
    with tarfile.open(tmp_path / "a.tgz") as archive:
        assert archive.getnames() == [f"{FOLDER}/host/x", f"{FOLDER}/version"]
    with pytest.raises(FileExistsError):
        write_archive(str(tmp_path / "a.tgz"), {})
