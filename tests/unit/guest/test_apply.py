"""Steps of a starting state: what each reports, what is refused, and that nothing they start can hold the agent up."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.guest import apply, files
from lab.guest.apply import apply_steps, finish_command, run_command, start_command

PYTHON = sys.executable


def steps(*wanted: Mapping[str, Any]) -> tuple[bool, list[dict[str, Any]]]:
    outcomes: list[dict[str, Any]] = []
    return apply_steps([dict(step) for step in wanted], outcomes.append), outcomes


def run(*argv: str, **more: Any) -> dict[str, Any]:
    return {"kind": "run", "argv": list(argv), **more}


@pytest.fixture
def proc_sys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where sysctls are written, so that no test touches those of this machine."""
    monkeypatch.setattr(files, "PROC_SYS", f"{tmp_path}/sys/")
    folder = tmp_path / "sys" / "net" / "ipv4"
    folder.mkdir(parents=True)
    (folder / "tcp_syncookies").write_text("1\n")
    return tmp_path / "sys"


def test_steps_run_in_order_until_one_does_not_do_what_it_should(tmp_path: Path) -> None:
    reached, outcomes = steps(
        run("sh", "-c", "echo one; echo two >&2"), run("sh", "-c", "exit 3"), run("touch", str(tmp_path / "never"))
    )
    assert not reached
    assert [(o["number"], o["exit_status"], o["as_wanted"]) for o in outcomes] == [(0, 0, True), (1, 3, False)]
    assert (outcomes[0]["stdout"], outcomes[0]["stderr"]) == ("one\n", "two\n")
    assert outcomes[0]["seconds"] >= 0
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("step", "as_wanted"),
    [
        (run("false", refused=True), True),
        (run("true", refused=True), False),
        (run("sh", "-c", "kill -9 $$", refused=True), False),
        (run("sh", "-c", "kill -SEGV $$; sleep 9", refused=True), False),
        (run("sh", "-c", "sh -c 'kill -SEGV $$'; exit $?", refused=True), False),
        (run("sh", "-c", "exit 255", refused=True), True),
        (run("/nonexistent/program", refused=True), False),
        (run("sleep", "60", refused=True, deadline_seconds=0.1), False),
    ],
    ids=[
        "it fails",
        "it succeeds",
        "it is killed",
        "it crashes",
        "what it started crashes",
        "a status of its own",
        "it is not there",
        "it hangs",
    ],
)
def test_a_step_that_should_be_refused(step: dict[str, Any], as_wanted: bool) -> None:
    reached, outcomes = steps(step)
    assert (reached, outcomes[0]["as_wanted"]) == (as_wanted, as_wanted)


@pytest.mark.parametrize(
    ("argv", "status", "stderr"),
    [
        (["/nonexistent/program"], 127, "/nonexistent/program: No such file or directory"),
        (["no-such-program-on-the-path"], 127, "no-such-program-on-the-path: No such file or directory"),
        (["/etc"], 126, "/etc: Permission denied"),
        (["tr\0ue"], 126, "tr\0ue: embedded null byte"),
        (["sh", "-c", "kill -TERM $$"], 143, ""),
    ],
)
def test_exit_statuses_are_the_shells(argv: list[str], status: int, stderr: str) -> None:
    outcome = run_command(argv, 10.0)
    assert (outcome["exit_status"], outcome["stderr"]) == (status, stderr)


def test_an_argument_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    assert run_command(["printf", "%s", "mañana"], 10.0)["stdout"] == "mañana"
    assert "surrogates not allowed" in run_command(["true", "\ud800"], 10.0)["stderr"]


def test_a_program_that_hangs_is_killed_with_its_children() -> None:
    started = time.monotonic()
    outcome = run_command(["sh", "-c", "sleep 60 & echo $!; sleep 60"], 0.3)
    assert time.monotonic() - started < 5
    assert outcome["exit_status"] == 124
    assert outcome["stderr"] == "\nkilled: it had not ended after 0.3 s"
    assert has_ended(int(outcome["stdout"]))


def has_ended(pid: int) -> bool:
    """Gone, or dead and not yet reaped, within a second."""
    for _ in range(100):
        text, _, _ = files.read_text(f"/proc/{pid}/stat")
        if text is None or text.rpartition(")")[2].split()[0] in "ZX":
            return True
        time.sleep(0.01)
    return False


def test_a_daemon_that_keeps_the_pipes_open_is_not_waited_for() -> None:
    started = time.monotonic()
    outcome = run_command(["sh", "-c", "setsid sleep 3 & echo started"], 60.0)
    assert time.monotonic() - started < 2
    assert (outcome["exit_status"], outcome["stdout"]) == (0, "started\n")


def test_a_daemon_that_left_the_group_does_not_outlast_the_deadline() -> None:
    started = time.monotonic()
    outcome = run_command(["sh", "-c", "setsid sh -c 'for i in 1 2 3 4 5 6; do echo; sleep 0.5; done' & sleep 60"], 0.3)
    assert time.monotonic() - started < 2
    assert outcome["exit_status"] == 124


def test_a_program_that_never_stops_printing_fills_no_memory() -> None:
    outcome = run_command(["yes"], 0.5)
    assert outcome["exit_status"] == 124
    assert len(outcome["stdout"]) == apply._MAX_OUTPUT + len("\n[cut]")
    assert outcome["stdout"].endswith("y\n[cut]") or outcome["stdout"].endswith("\n\n[cut]")


def test_output_of_just_the_limit_is_whole() -> None:
    ended = finish_command(start_command(["printf", "12345"]), 10.0, 5)
    assert ended.stdout == ("12345", False)
    ended = finish_command(start_command(["printf", "123456"]), 10.0, 5)
    assert ended.stdout == ("12345", True)


def test_output_that_is_no_text() -> None:
    assert run_command(["printf", r"\377\0a"], 10.0)["stdout"] == "\\xff\0a"


def test_a_program_that_closes_its_output_early_is_waited_for() -> None:
    outcome = run_command(["sh", "-c", "exec >&- 2>&-; sleep 0.2; exit 5"], 10.0)
    assert outcome["exit_status"] == 5


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "modprobe.d" / "lab.conf"
    reached, _ = steps({"kind": "file", "path": str(path), "text": "# naïve\n"})
    assert reached
    assert path.read_bytes() == "# naïve\n".encode()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    reached, outcomes = steps({"kind": "file", "path": f"{tmp_path}/file/below", "text": ""})
    assert not reached
    assert outcomes[0]["stderr"] in (f"{tmp_path}/file/below: {name}" for name in ("ENOTDIR", "EEXIST"))


def test_sysctls(proc_sys: Path) -> None:
    wanted = {"net.ipv4.tcp_syncookies": 0, "net.netfilter.nf_conntrack_max": 100}
    reached, outcomes = steps({"kind": "sysctl", "values": wanted})
    assert not reached
    assert outcomes[0]["stderr"] == "net.netfilter.nf_conntrack_max: ENOENT"
    assert (proc_sys / "net/ipv4/tcp_syncookies").read_text() == "0"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.tcp_syncookies", "net/ipv4/tcp_syncookies"),
        ("net/ipv4/tcp_syncookies", "net/ipv4/tcp_syncookies"),
        ("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
        ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
    ],
)
def test_where_a_sysctl_lies(name: str, path: str) -> None:
    assert files.sysctl_path(name) == "/proc/sys/" + path


class FakeModprobe:
    """Modules that are loaded, and one that stays in use for some tries."""

    def __init__(self, loaded: list[str], busy: int = 0, status: int = 1) -> None:
        self.loaded, self.busy, self.status = loaded, busy, status
        self.calls: list[list[str]] = []

    def __call__(self, argv: list[str], _: float) -> dict[str, Any]:
        self.calls.append(argv)
        outcome = {"argv": argv, "exit_status": 0, "ended_by_itself": True, "stdout": "", "stderr": ""}
        if self.busy:
            self.busy -= 1
            return dict(outcome, exit_status=self.status, ended_by_itself=self.status != 127, stderr="in use")
        self.loaded.remove(argv[-1].replace("-", "_"))
        return outcome


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use_fake(fake: FakeModprobe) -> FakeModprobe:
        monkeypatch.setattr(apply, "run_command", fake)
        monkeypatch.setattr(apply, "loaded_modules", lambda: list(fake.loaded))
        return fake

    return use_fake


def test_modules_are_removed_in_order_where_loaded(use: Any) -> None:
    fake = use(FakeModprobe(["nf_conntrack", "iptable_nat", "nf_nat"]))
    reached, outcomes = steps({"kind": "unload", "modules": ["iptable-nat", "nf_nat_ipv4", "nf_nat"]})
    assert reached
    assert outcomes[0]["removed"] == ["iptable-nat", "nf_nat"]
    assert fake.loaded == ["nf_conntrack"]


def test_a_module_that_is_in_use_for_a_moment_is_tried_again(use: Any) -> None:
    fake = use(FakeModprobe(["nf_tables"], busy=2))
    reached, _ = steps({"kind": "unload", "modules": ["nf_tables"]})
    assert reached
    assert len(fake.calls) == 3


def test_a_module_that_stays_in_use_is_a_refusal(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "_BUSY_SECONDS", 0.1)
    use(FakeModprobe(["nft_ct", "nf_tables"], busy=1000))
    reached, outcomes = steps({"kind": "unload", "modules": ["nft_ct", "nf_tables"]})
    assert not reached
    assert (outcomes[0]["exit_status"], outcomes[0]["stderr"], outcomes[0]["removed"]) == (1, "in use", [])


def test_a_modprobe_that_is_not_there_is_not_tried_again(use: Any) -> None:
    fake = use(FakeModprobe(["nf_tables"], busy=1000, status=127))
    reached, outcomes = steps({"kind": "unload", "modules": ["nf_tables"]})
    assert (reached, outcomes[0]["exit_status"], len(fake.calls)) == (False, 127, 1)


def test_the_modules_of_this_kernel_are_names() -> None:
    assert all(name.isidentifier() or name[0].isdigit() for name in apply.loaded_modules())


def test_files_are_read_bounded_and_their_absence_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345\xff")
    assert files.read_text(str(tmp_path / "file")) == ("12345\\xff", None, False)
    assert files.read_text(str(tmp_path / "file"), 6) == ("12345\\xff", None, False)
    assert files.read_text(str(tmp_path / "file"), 4) == ("1234", None, True)
    assert files.read_text(str(tmp_path / "none")) == (None, "ENOENT", False)
    assert files.read_text(str(tmp_path)) == (None, "EISDIR", False)
    assert files.read_text("/dev/zero", 10) == ("\0" * 10, None, True)
    assert files.error_name(OSError(errno.EPERM, "no")) == "EPERM"


class TestProgramHere:
    """Where `iptables-legacy` has no program of its own."""

    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A PATH with nothing but what the test puts there."""
        monkeypatch.setattr(apply, "OWN_PATH", str(tmp_path))
        monkeypatch.setattr(apply, "_ENVIRONMENT", {"PATH": f"{tmp_path}:/usr/bin:/bin"})
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return tmp_path

    @staticmethod
    def place(path: Path, name: str, version: str) -> None:
        (path / name).write_text(f"#!/bin/sh\necho '{version}'\n")
        (path / name).chmod(0o755)

    def test_before_1_8_it_was_called_iptables(self, path: Path) -> None:
        for name in ("iptables", "iptables-save", "ip6tables"):
            self.place(path, name, f"{name} v1.4.21")
        names = ("iptables-legacy", "iptables-legacy-save", "ip6tables-legacy", "iptables-nft", "nft")
        assert [apply.program_here(name) for name in names] == [
            *("iptables", "iptables-save", "ip6tables", "iptables-nft", "nft")
        ]

    def test_the_other_backend_is_not_taken_for_it(self, path: Path) -> None:
        self.place(path, "iptables", "iptables v1.8.10 (nf_tables)")
        assert apply.program_here("iptables-legacy") == "iptables-legacy"

    def test_where_it_is_it_is_taken(self, path: Path) -> None:
        for name in ("iptables", "iptables-legacy"):
            self.place(path, name, "iptables v1.8.9 (legacy)")
        assert apply.program_here("iptables-legacy") == "iptables-legacy"

    def test_where_nothing_is_the_name_stays_for_the_message(self, path: Path) -> None:
        assert apply.program_here("iptables-legacy") == "iptables-legacy"
