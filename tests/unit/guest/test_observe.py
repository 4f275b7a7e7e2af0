"""Recording evidence: bounded, whole, and never by loading what is to be observed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from lab.guest import apply, files, hooks, kernel_log, loader, machine, observe
from lab.guest.kernel_log import KernelLog
from lab.guest.observe import Command

Items = dict[str, dict[str, Any]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel made of files: a loader that can be named, no modules, and a record of each program that is run."""
    (tmp_path / "modprobe").write_text("/sbin/modprobe\n")
    monkeypatch.setattr(loader, "LOADER_PATH", str(tmp_path / "modprobe"))
    monkeypatch.setattr(observe, "known_modules", list)
    monkeypatch.setattr(observe, "loaded_modules", list)

    def run_command(argv: list[str], _: float) -> dict[str, Any]:
        with (tmp_path / "loaded").open("a") as record:
            record.write(" ".join(argv) + "\n")
        return {"exit_status": 0}

    monkeypatch.setattr(observe, "run_command", run_command)
    return tmp_path


def collect() -> Items:
    items: list[dict[str, Any]] = []
    observe.observe(items.append)
    assert len({item["name"] for item in items}) == len(items)
    assert all(set(item) == {"name", "text", "error", "truncated"} for item in items)
    return {item["name"]: item for item in items}


def show(monkeypatch: pytest.MonkeyPatch, *commands: Command, present: tuple[str, ...] = ("nf_tables",)) -> None:
    monkeypatch.setattr(observe, "COMMANDS", commands)
    monkeypatch.setattr(observe, "loaded_modules", lambda: list(present))


def test_every_item_is_there_once_and_has_a_text_or_a_reason(here: Path) -> None:
    items = collect()
    assert set(items) == observe.ITEM_NAMES
    assert next(iter(items)) == "modules"
    assert list(items)[-1] == "modules_after"
    assert all((item["text"] is None) is (item["error"] is not None) for item in items.values())
    assert items["cmdline"]["text"] == Path("/proc/cmdline").read_text()


def test_a_program_whose_module_is_not_loaded_is_not_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(observe, "start_command", started.append)
    items = collect()
    assert started == []
    assert items["ruleset.nft"]["error"] == "nf_tables is not loaded"
    assert items["hooks.nft"]["error"] == "nfnetlink_hook is not loaded"


def test_a_module_that_is_built_in_counts_as_loaded(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, Command("ruleset.nft", ("echo", "rules"), ("nf_tables",)), present=())
    monkeypatch.setattr(observe, "known_modules", lambda: ["nf_tables"])
    assert collect()["ruleset.nft"]["text"] == "rules\n"


def test_while_programs_run_the_kernel_loads_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, Command("ruleset.nft", ("cat", loader.LOADER_PATH), ("nf_tables",)))
    assert collect()["ruleset.nft"]["text"] == loader.NO_LOADER
    assert (here / "modprobe").read_text() == "/sbin/modprobe\n"


def test_nothing_is_loaded_unless_hooks_shall_be_listed(here: Path) -> None:
    collect()
    assert not (here / "loaded").exists()


def test_the_only_module_that_is_loaded_lists_hooks(here: Path) -> None:
    observe.observe(lambda item: None, list_hooks=True)
    assert (here / "loaded").read_text() == "modprobe --quiet --ignore-install nfnetlink_hook\n"


def test_hooks_are_listed_where_their_lister_is_there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, present=("nfnetlink_hook",))
    monkeypatch.setattr(hooks, "list_hooks", lambda: (here / "modprobe").read_text())
    assert collect()["hooks.nft"]["text"] == loader.NO_LOADER, "while nothing can be loaded"


@pytest.mark.parametrize(
    ("error", "said"), [(OSError(errno.EPERM, "no"), "EPERM"), (ValueError("netlink: cut"), "netlink: cut")]
)
def test_why_no_hooks_are_listed(here: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    def refuse() -> str:
        raise error

    show(monkeypatch, present=("nfnetlink_hook",))
    monkeypatch.setattr(hooks, "list_hooks", refuse)
    item = collect()["hooks.nft"]
    assert (item["text"], item["error"]) == (None, said)


def test_hooks_past_the_bound_are_marked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, present=("nfnetlink_hook",))
    monkeypatch.setattr(observe, "MAX_TEXT_BYTES", 10)
    monkeypatch.setattr(hooks, "list_hooks", lambda: "0" * 20)
    item = collect()["hooks.nft"]
    assert (item["text"], item["truncated"]) == ("0" * 10, True)


def test_a_loader_that_was_empty_is_so_afterwards(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "modprobe").write_text("\n")
    show(monkeypatch, Command("ruleset.nft", ("cat", loader.LOADER_PATH), ("nf_tables",)))
    assert collect()["ruleset.nft"]["text"] == loader.NO_LOADER
    assert (here / "modprobe").read_text() == "\n"


def test_the_loader_is_restored_when_the_channel_breaks(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, Command("ruleset.nft", ("true",), ("nf_tables",)))

    def broken(item: dict[str, Any]) -> None:
        if item["name"] == "ruleset.nft":
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        observe.observe(broken)
    assert (here / "modprobe").read_text() == "/sbin/modprobe\n"


def test_where_the_loader_cannot_be_named_nothing_is_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = here / "run"
    show(monkeypatch, Command("ruleset.nft", ("touch", str(marker)), ("nf_tables",)))
    monkeypatch.setattr(loader, "LOADER_PATH", str(here))  # a folder: EISDIR, whoever writes
    item = collect()["ruleset.nft"]
    assert (item["text"], item["error"]) == (None, f"{here}: EISDIR")
    assert not marker.exists()


def test_a_kernel_without_module_loading_has_nothing_to_disable(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, Command("ruleset.nft", ("echo", "rules"), ("nf_tables",)))
    (here / "modprobe").unlink()
    assert collect()["ruleset.nft"]["text"] == "rules\n"
    assert not (here / "modprobe").exists()


def test_programs_that_fail_say_why(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "COMMAND_SECONDS", 0.3)
    show(
        monkeypatch,
        Command("ruleset.nft", ("sh", "-c", "echo half; echo no such table >&2; exit 2"), ("nf_tables",)),
        Command("ruleset.json", ("/nonexistent/nft",), ("nf_tables",)),
        Command("tc.filters", ("sleep", "60"), ("nf_tables",)),
        Command("iptables-nft-save", ("sleep", "60"), ("nf_tables",)),
    )
    items = collect()
    assert items["ruleset.nft"]["error"] == "exit status 2: no such table"
    assert items["ruleset.json"]["error"] == "ENOENT"
    assert items["tc.filters"]["error"] == items["iptables-nft-save"]["error"] == "exit status 124: "


def test_a_ruleset_past_the_bound_is_marked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "MAX_TEXT_BYTES", 10)
    show(monkeypatch, Command("ruleset.nft", ("printf", "%020d", "1"), ("nf_tables",)))
    item = collect()["ruleset.nft"]
    assert (item["text"], item["truncated"]) == ("0" * 10, True)


def test_a_ruleset_of_more_than_a_pipe_holds_is_whole(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = Command("ruleset.nft", ("printf", "%0200000d", "1"), ("nf_tables",))
    show(monkeypatch, command, command._replace(name="ruleset.json"))
    items = collect()
    assert {len(items[name]["text"]) for name in ("ruleset.nft", "ruleset.json")} == {200_000}
    assert not items["ruleset.nft"]["truncated"]


def test_groups_are_lines_of_path_and_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.conf").write_text("blacklist nf_conntrack\ninstall x /bin/false\n")
    (tmp_path / "a.conf").write_text("")
    (tmp_path / "c.conf").mkdir()
    text, error, truncated = observe.group_text((f"{tmp_path}/*.conf", f"{tmp_path}/none*"))
    assert text == f"{tmp_path}/b.conf: blacklist nf_conntrack\n{tmp_path}/b.conf: install x /bin/false\n"
    assert (error, truncated) == (None, False)


def test_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.conf").write_text("\n" * 60000)
    (tmp_path / "b.conf").write_text("x" * (observe._GROUP_FILE_BYTES + 1))
    text, _, truncated = observe.group_text((f"{tmp_path}/a.conf",))
    assert truncated is (60000 * (len(str(tmp_path)) + 10) > files.MAX_TEXT_BYTES)
    text, _, truncated = observe.group_text((f"{tmp_path}/b.conf",))
    assert truncated
    monkeypatch.setattr(observe, "MAX_TEXT_BYTES", 1000)
    text, _, truncated = observe.group_text((f"{tmp_path}/*.conf",))
    assert truncated
    assert 0 < len(text) <= 1000
    assert text.endswith("\n")


def test_slabs_keep_their_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slabinfo").write_text(
        "slabinfo - version: 2.1\n# name <x>\nTCP 1 2\nTCPv6 1 2\nnf_conntrack 3\next4 9\n"
    )
    monkeypatch.setattr(observe, "SLAB_PATH", str(tmp_path / "slabinfo"))
    text, _, _ = observe.slab_rows()
    assert text == "slabinfo - version: 2.1\n# name <x>\nTCP 1 2\nnf_conntrack 3\n"


def test_setting_what_exists(tmp_path: Path) -> None:
    (tmp_path / "max").write_text("262144\n")
    path, none = str(tmp_path / "max"), str(tmp_path / "none")
    assert machine.set_existing({path: 100, none: 1}) == {
        path: {"wanted": 100, "before": "262144", "after": "100", "error": None},
        none: {"wanted": 1, "before": None, "after": None, "error": "ENOENT"},
    }
    assert not (tmp_path / "none").exists()


def test_the_facts_of_this_machine() -> None:
    facts = machine.facts()
    assert facts["kernel_release"] == os.uname().release
    assert facts["cpus"] >= 1
    assert facts["memory_bytes"] > 0


class ScriptedLog(KernelLog):
    """The kernel's log as a list says: records, and errors by their number."""

    def __init__(self, script: list[bytes | int]) -> None:
        self.script = script
        self._fd = os.open("/dev/null", os.O_RDONLY)
        self._records, self._size, self.overwritten, self.truncated = [], 0, 0, False

    def _read_record(self) -> bytes:
        record = self.script.pop(0) if self.script else errno.EAGAIN
        if isinstance(record, int):
            raise OSError(record, os.strerror(record))
        return record


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Any:
    log = ScriptedLog([])
    yield log
    log.close()


def test_the_log_is_read_on_from_where_it_was(log: ScriptedLog) -> None:
    log.script = [b"5,1,1,-;one\n SUBSYSTEM=x\n", b"5,2,2,-;two \xff\n"]
    assert log.read() == "5,1,1,-;one\n SUBSYSTEM=x\n5,2,2,-;two \\xff\n"
    log.script = [b"5,3,3,-;three\n"]
    assert log.read().endswith("two \\xff\n5,3,3,-;three\n")
    assert (log.overwritten, log.truncated) == (0, False)


def test_a_log_that_was_overwritten_goes_on_with_what_there_is(log: ScriptedLog) -> None:
    log.script = [b"one\n", errno.EPIPE, b"nine\n"]
    assert log.read() == "one\nnine\n"
    assert log.overwritten == 1


def test_a_log_that_is_overwritten_for_ever_ends(log: ScriptedLog) -> None:
    log.script = [b"one\n", *[errno.EPIPE] * 5000]
    assert log.read() == "one\n"
    assert log.truncated


def test_a_flood_keeps_its_beginning(log: ScriptedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_log, "_MAX_BYTES", 10)
    log.script = [b"12345\n", b"78\n", b"too much\n", b"1\n"]
    assert log.read() == "12345\n78\n"
    assert log.truncated
    assert log.read() == "12345\n78\n"


def test_other_errors_of_the_log_are_raised(log: ScriptedLog) -> None:
    log.script = [errno.EINVAL]
    with pytest.raises(OSError, match="Invalid argument"):
        log.read()


def test_the_marker_is_written_at_the_end_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kmsg").write_text("old\n")
    monkeypatch.setattr(kernel_log, "KMSG", str(tmp_path / "kmsg"))
    KernelLog("cell a begins" + "x" * 2000).close()
    written = (tmp_path / "kmsg").read_text()
    assert written.startswith("old\n<5>cell a beginsxxx")
    assert len(written) < 992
    monkeypatch.setattr(kernel_log, "KMSG", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        KernelLog("cell a begins")


def test_what_is_beside_rulesets_is_listed_only_where_its_module_is_there(here: Path) -> None:
    """Not even tc is asked on a machine without act_ct: what it lists could not track anything."""
    items = collect()
    assert items["tc.filters"]["error"] == "act_ct is not loaded"
    assert items["ovs.flows"]["error"] == items["ovs.datapaths"]["error"] == "openvswitch is not loaded"


def test_filters_are_listed_under_their_devices(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "tc").write_text('#!/bin/sh\ntest "$4 $5" = "lo egress" && echo "filter $*"\nexit 2\n')
    (programs / "tc").chmod(0o755)
    monkeypatch.setitem(apply._ENVIRONMENT, "PATH", f"{programs}:{apply.STEP_PATH}")
    monkeypatch.setattr(observe, "loaded_modules", lambda: ["act_ct"])
    text = collect()["tc.filters"]["text"]
    assert "dev lo ingress\ndev lo egress\nfilter filter show dev lo egress\n" in text


def test_no_tc_is_no_empty_list(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = tmp_path / "sh"
    shell.symlink_to("/bin/sh")
    monkeypatch.setitem(apply._ENVIRONMENT, "PATH", str(tmp_path))
    monkeypatch.setattr(observe, "loaded_modules", lambda: ["act_ct"])
    item = collect()["tc.filters"]
    assert (item["text"], item["error"]) == (None, "exit status 127: ")
