"""Vagrant without Vagrant: a program of that name that does what a test wants, and what is made of it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from lab.core.errors import LabError, PrerequisiteError, ScenarioError
from lab.core.scenario import MachineSpec as MachineWish
from lab.host.cli.main import main
from lab.host.images import BuildOptions, boxes
from lab.host.machines import ssh_channel
from lab.host.machines.kinds import expand_targets, kind_of, parse_target
from lab.host.machines.machine import ConsoleLog, Unsuitable
from lab.host.machines.this_host import provisioner as host
from lab.host.machines.vagrant import boxes as vagrant_boxes
from lab.host.machines.vagrant import commands as vagrant
from lab.host.machines.vagrant import leftovers, libvirt, preparing
from lab.host.machines.vagrant.provisioner import VagrantProvisioner
from lab.host.options import Deadlines
from lab.host.releases import TARGETS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vagrant.Folder:
    """A machine's folder; `vagrant` is the script `vagrant` beside it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr("vagrant.get_vagrant_executable", lambda: str(programs / "vagrant"))
    (tmp_path / "lab-1").mkdir()
    return vagrant.Folder(tmp_path / "lab-1", {"LAB_BOX": "a-box"})


def program(folder: vagrant.Folder, script: str) -> None:
    path = folder.path.parent / "bin" / "vagrant"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_call_past_its_deadline_is_ended_with_all_that_it_started(folder: vagrant.Folder) -> None:
    program(folder, "sleep 61 & echo begun; wait")
    started = time.monotonic()
    with pytest.raises(LabError, match=r"vagrant up did not end within 0\.5 s"):
        folder.commands(0.5, "vagrant up").up()
    assert time.monotonic() - started < 5
    assert folder.log == "$ vagrant up\nbegun\n"


def test_a_failing_exit_is_an_error_whatever_python_vagrant_makes_of_it(folder: vagrant.Folder) -> None:
    program(folder, "echo the reason >&2; exit 3")
    for name in ("up", "destroy", "status", "ssh_config", "box_list"):
        with pytest.raises(PrerequisiteError, match=r"status 3\): the reason"):
            getattr(folder.commands(10, name), name)()


def test_a_call_can_be_cancelled(folder: vagrant.Folder) -> None:
    program(folder, "exec sleep 61")
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    started = time.monotonic()
    with pytest.raises(LabError, match="interrupted"):
        folder.commands(60, "vagrant up", cancelled).up()
    assert time.monotonic() - started < 5


def test_what_vagrant_prints_is_kept_without_its_progress_bars(folder: vagrant.Folder) -> None:
    program(
        folder,
        r"""printf '\rProgress: 1%%\r\033[K==> default: \033[1mready\033[0m\n'; echo "$LAB_BOX in $VAGRANT_CWD" """,
    )
    folder.commands(10, "vagrant up").up(provider="libvirt")
    path = folder.path
    assert folder.log == f"$ vagrant up --provider=libvirt\n==> default: ready\na-box in {path}\n"
    assert (path / vagrant.LOG).read_text() == folder.log


def test_a_folder_whose_lab_lives_is_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = vagrant.machines_folder() / "lab-1"
    path.mkdir(parents=True)
    (path / "lab.json").write_text('{"provider": "libvirt", "environment": {"LAB_BOX": "a"}}')
    vagrant.hold(path)
    assert list(leftovers.leftovers()) == []
    vagrant.release(path)
    (left,) = leftovers.leftovers()
    assert (left.folder.path, left.folder.domain, left.provider) == (path, "lab-1-default", "libvirt")


class TestTargets:
    def test_boxes_and_the_host_are_targets(self) -> None:
        specs = expand_targets(["vagrant:debian12", "vagrant:/srv/a*.box", "debian1[23]", "host"])
        made = [(spec.name, spec.kind) for spec in specs]
        assert made == [
            ("vagrant:debian12", "vagrant"),
            ("vagrant:/srv/a*.box", "vagrant"),
            ("debian12", "qemu"),
            ("debian13", "qemu"),
            ("host", "host"),
        ]

    def test_a_box_must_be_named(self) -> None:
        with pytest.raises(ScenarioError, match="names no box"):
            parse_target("vagrant:")

    def test_a_run_has_one_provisioner(self) -> None:
        assert kind_of(expand_targets(["vagrant:debian12"])).name == "vagrant"
        with pytest.raises(ScenarioError, match="cannot have machines of qemu and vagrant"):
            kind_of(expand_targets(["debian12", "vagrant:debian12"]))
        with pytest.raises(ScenarioError, match="--provisioner vagrant: cannot make debian12"):
            kind_of(expand_targets(["debian12"]), "vagrant")


class TestFindingABox:
    @pytest.fixture(autouse=True)
    def no_vagrant(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(preparing, "vagrant_version", lambda: "2")
        monkeypatch.setattr(preparing, "added_boxes", lambda: frozenset({"generic/rocky9"}))

    def find(self, text: str) -> preparing.PreparedBox:
        return preparing.find_box(parse_target(f"vagrant:{text}"), BuildOptions(print, deadline_seconds=1.0))

    def test_by_path_its_checksum_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "a.box").write_bytes(b"box")
        box = self.find(str(tmp_path / "a.box")).box
        assert box.url == (tmp_path / "a.box").as_uri()
        assert box.sha256 is not None and box.name == f"conntrack-lab-{box.sha256[:12]}"

    def test_another_checksum_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.box").write_bytes(b"box")
        with pytest.raises(PrerequisiteError, match=r"sha256 is [0-9a-f]{64}, expected 0{64}"):
            self.find(f"{tmp_path}/a.box#sha256={'0' * 64}")

    def test_a_url_needs_a_checksum(self) -> None:
        with pytest.raises(ScenarioError, match="has no checksum"):
            self.find("https://example.org/a.box")
        assert self.find(f"https://example.org/a.box#sha256={'a' * 64}").box.sha256 == "a" * 64

    def test_by_name_it_must_have_been_added(self) -> None:
        assert self.find("generic/rocky9").box == vagrant_boxes.Box("generic/rocky9")
        with pytest.raises(ScenarioError, match="no box of that name"):
            self.find("generic/rocky8")


def test_the_boot_loader_names_the_partition_that_was_made(tmp_path: Path) -> None:
    grub = tmp_path / "grub"
    grub.mkdir()
    (grub / "boot.img").write_bytes(b"B" * 512)
    (grub / "core.img").write_bytes(b"C" * 1000)
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(2 * 2**20)
    boxes._write_loader(disk, grub)
    data = disk.read_bytes()
    assert data[:440] == b"B" * 440 and data[510:512] == b"\x55\xaa"
    assert data[446] == 0x80 and data[450] == 0x83
    assert int.from_bytes(data[454:458], "little") * 512 == 2**20
    assert data[512:1512] == b"C" * 1000


def test_a_box_is_told_apart_by_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = {boxes._final_folder(target) for target in TARGETS.values()}
    assert len(folders) == len(TARGETS)


class TestHost:
    def test_it_is_refused_without_a_word_that_the_machine_is_disposable(self) -> None:
        with pytest.raises(PrerequisiteError, match="changes this machine's own kernel"):
            host.require_disposable(False)

    def test_what_changed_is_listed(self) -> None:
        before = frozenset({"sysctl: a = 1", "module: x"})
        after = frozenset({"sysctl: a = 2", "module: x", "module: y"})
        assert host.difference(before, after) == ["+ module: y", "- sysctl: a = 1", "+ sysctl: a = 2"]

    def test_what_a_module_brought_along_is_told_by_the_module_alone(self) -> None:
        after = frozenset({"module: y", "sysctl: net.y.timeout = 5", "sysctl: net.netfilter.nf_conntrack_max = 9"})
        assert host.difference(frozenset(), after) == ["+ module: y", "+ sysctl: net.netfilter.nf_conntrack_max = 9"]

    def test_the_state_of_this_machine_can_be_read(self) -> None:
        assert any(line.startswith("sysctl: net.core.somaxconn = ") for line in host.state())


def answers(folder: vagrant.Folder, name: str, script: str) -> None:
    """A program of that name on PATH; what it was asked comes to the file `asked` beside the machine's folder."""
    path = folder.path.parent / "bin" / name
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder.path.parent}/asked\n{script}\n')
    path.chmod(0o755)


def asked(folder: vagrant.Folder) -> list[str]:
    return (folder.path.parent / "asked").read_text().splitlines()


class TestLibvirt:
    def test_what_virsh_complains_of_is_the_error_and_the_mend_names_a_check(self, folder: vagrant.Folder) -> None:
        answers(folder, "virsh", "echo 'error: no connection' >&2; exit 1")
        with pytest.raises(LabError, match="virsh list: error: no connection") as caught:
            libvirt.virsh("list")
        assert "list --all must work for this user" in caught.value.hint

    def test_a_missing_virsh_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(LabError, match="virsh is missing"):
            libvirt.virsh("list")

    def test_only_the_domain_s_own_disks_go(self, folder: vagrant.Folder) -> None:
        answers(
            folder,
            "virsh",
            'case "$*" in *pool-list*) echo p;; *vol-list*) printf "lab-1-default.img /a\\nlab-2-default.img /b\\n";;'
            " *list*) printf 'lab-1-default\\nlab-2-default\\n';; esac",
        )
        seen = libvirt.remove_domain("lab-1-default", print)
        assert seen == ["domain lab-1-default", "volume lab-1-default.img"]
        words = [line.removeprefix("--quiet --connect qemu:///system ") for line in asked(folder)]
        assert [line for line in words if line.split()[0] in ("destroy", "undefine", "vol-delete")] == [
            "destroy lab-1-default",
            "undefine lab-1-default --snapshots-metadata --nvram",
            "vol-delete --pool p lab-1-default.img",
        ]

    def test_a_machine_is_not_gone_while_libvirt_does_not_answer(self, folder: vagrant.Folder) -> None:
        answers(folder, "virsh", "echo gone away >&2; exit 1")
        assert libvirt.remove_domain("lab-1-default", folder.note) == ["virsh list --all --name: gone away"]
        assert "gone away" in folder.log


class TestLeftovers:
    @pytest.fixture(autouse=True)
    def cache(self, folder: vagrant.Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(libvirt, "_GONE_SECONDS", 0.2)
        answers(folder, "vagrant", "")

    def left(self, name: str) -> Path:
        made = vagrant.new_folder(name, "libvirt", {"LAB_BOX": "conntrack-lab-1"}, network=False)
        vagrant.release(made.path)
        return made.path

    def test_what_cannot_be_removed_does_not_keep_the_rest(self, folder: vagrant.Folder) -> None:
        stays, goes = self.left("lab-1"), self.left("lab-2")
        answers(folder, "virsh", 'case "$*" in *" list "*) echo lab-1-default;; esac')
        said: list[str] = []
        with pytest.raises(LabError, match=r"lab-1-default: the machine is not gone: domain lab-1-default"):
            leftovers.clean(said.append)
        assert said == ["removed the machine lab-2-default"]
        assert stays.exists() and not goes.exists()

    def test_a_lab_that_was_killed_before_it_wrote_anything_down_leaves_nothing(self, folder: vagrant.Folder) -> None:
        path = vagrant.machines_folder() / "lab-1"
        path.mkdir(parents=True)
        answers(folder, "virsh", "")
        assert leftovers.clean(print) == 1
        assert not path.exists()

    def test_a_disk_that_is_still_being_written_is_waited_for(
        self, folder: vagrant.Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(libvirt, "_GONE_SECONDS", 60.0)
        box = vagrant_boxes.own_box("file:///a.box", "1" * 64)
        disk = f"{box.name}_vagrant_box_image_0_box.img"
        busy = folder.path.parent / "busy"
        busy.touch()
        answers(
            folder,
            "virsh",
            f'case "$*" in *pool-list*) echo p;; *vol-list*) [ -e {busy}.gone ] || echo {disk};;'
            f" *vol-delete*) if [ -e {busy} ]; then rm {busy}; exit 1; fi; touch {busy}.gone;; esac",
        )
        with vagrant_boxes.added(box, "libvirt", threading.Event()):
            pass
        vagrant_boxes.remove_unused()
        assert len([line for line in asked(folder) if "vol-delete" in line]) == 2

    def test_a_disk_that_stays_is_told_and_tried_again(self, folder: vagrant.Folder) -> None:
        box = vagrant_boxes.own_box("file:///a.box", "1" * 64)
        answers(
            folder,
            "virsh",
            f'case "$*" in *pool-list*) echo p;; *vol-list*) echo {box.name}_vagrant_box_image_0;; esac',
        )
        with vagrant_boxes.added(box, "libvirt", threading.Event()):
            pass
        for _ in range(2):
            with pytest.raises(LabError, match=f"box {box.name}: libvirt keeps {box.name}_vagrant_box_image_0"):
                vagrant_boxes.remove_unused()

    def test_a_box_stays_while_a_lab_or_a_machine_uses_it(self, folder: vagrant.Folder) -> None:
        box = vagrant_boxes.own_box("file:///a.box", "1" * 64)
        answers(folder, "virsh", 'case "$*" in *pool-list*) echo default;; *vol-list*) echo other.img;; esac')
        lock = vagrant.machines_folder().parent / f"{box.name}.lock"
        with vagrant_boxes.added(box, "libvirt", threading.Event()):
            vagrant_boxes.remove_unused()
            assert lock.read_text() == "libvirt"
        made = vagrant.new_folder("lab-1", "libvirt", {"LAB_BOX": box.name}, network=False)
        vagrant_boxes.remove_unused()
        assert lock.exists()
        leftovers.destroy(made, "libvirt", 1.0, orderly=False)
        vagrant_boxes.remove_unused()
        assert not lock.exists()
        assert f"box remove --force --all {box.name}" in asked(folder)
        assert any(line.startswith(f"box add --name {box.name} --checksum {'1' * 64}") for line in asked(folder))


def test_a_machine_without_python_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start() -> None:
        command = ssh_channel.boot_command(["agent", "stdio"], str(tmp_path), become_root=False)
        async with ssh_channel.agent_over(["/bin/sh", "-c", command], ConsoleLog()) as channel:
            await channel.call("hello", deadline_seconds=30)

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsuitable, match="has no python3"):
        asyncio.run(start())
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 98\n")
    (tmp_path / "python3").chmod(0o755)
    with pytest.raises(Unsuitable, match=r"older than 3\.6"):
        asyncio.run(start())


def test_the_lab_and_the_user_see_the_same_variables() -> None:
    """Each variable that the lab sets is one that the Vagrantfile's head explains."""
    provisioner = VagrantProvisioner("libvirt", Deadlines(), driver="qemu")
    spec = preparing.planned_box(parse_target("vagrant:debian12"), MachineWish((), 1536, 2))
    up, destroy = provisioner.describe(spec)
    names = {word.partition("=")[0] for word in up.split() if word.startswith("LAB_")}
    head = vagrant.vagrantfile().read_text().split("\n\n")[0]
    assert "LAB_LIBVIRT_DRIVER" in names
    assert [name for name in names if f"#   {name} " not in head] == []
    assert destroy == "vagrant destroy --force"


def test_a_box_with_boot_arguments_is_refused_before_anything_starts() -> None:
    async def start() -> None:
        async with VagrantProvisioner("libvirt", Deadlines(), share=True) as provisioner:
            spec = preparing.planned_box(parse_target("vagrant:debian12"), MachineWish(("panic=1",), 1536, 2))
            await provisioner.prepare(spec, lambda line: None)

    with pytest.raises(Unsuitable, match="boots with its own arguments"):
        asyncio.run(start())


class TestOptions:
    def plan(self, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        status = main(["run", "pristine", *arguments, "--dry-run"])
        said = capsys.readouterr()
        return status, said.out + said.err

    def test_a_dry_run_shows_how_vagrant_would_be_called(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, said = self.plan("--target", "vagrant:debian12", "--provider", "virtualbox", capsys=capsys)
        assert status == 0
        assert "  boot: LAB_BOOT_SECONDS=900 LAB_BOX=debian12 " in said
        assert " vagrant up --provider=virtualbox\n  destroy: vagrant destroy --force\n" in said

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--share-machine",), "--share-machine: machines of qemu are not shared"),
            (("--target", "vagrant:debian12", "--share-machine", "--keep-failed"), "--keep-failed cannot keep"),
            (("--target", "vagrant:debian12", "--kernel", "/boot/vmlinuz"), "boot their own kernel"),
        ],
    )
    def test_options_that_contradict_each_other_are_refused(
        self, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status, said = self.plan(*arguments, capsys=capsys)
        assert status == 2
        assert words in said
