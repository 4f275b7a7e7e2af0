"""The provisioner `host`, for real: on a machine that is thrown away, a box that a shell of the lab leads into."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import qemu.qmp
import vagrant

from tests.vagrant.conftest import BOXES, Lab

UNPACK = 'import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz").extractall()'
RUN = "python3 -m lab run module-only --provisioner host --target host --connections 500 --output out"


def test_a_disposable_host_is_used_and_told_of_its_changes(lab: Lab, project_root: Path, tmp_path: Path) -> None:
    script = f"""
        cd /root
        base64 --decode << END | python3 -c '{UNPACK}'
{base64.encodebytes(source_archive(project_root)).decode()}
END
        {RUN}; echo refused with $? >&2
        {RUN} --disposable-host; echo ended with $? >&2
        tar --create --dereference out/latest | base64
    """
    done = lab.run("shell", "pristine", "--target", f"vagrant:{BOXES[0]}", script=script)
    said, _, stored = done.stdout.rpartition("ended with ")
    assert "refused with 2" in said, done.stdout
    assert "only on a machine that is thrown away afterwards: --disposable-host" in said
    assert "changed on this machine, and left so: + module: nf_conntrack\n" in said
    status, _, archive = stored.partition("\n")
    assert status.strip() == "0", done.stdout
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive))) as results:
        results.extractall(tmp_path / "out", filter="data")
    (cell,) = (tmp_path / "out/out/latest/cells").iterdir()
    result = json.loads((cell / "result.json").read_text())
    assert (result["cell"], result["finding"], result["as_expected"]) == ("module-only@host", "untracked", True)
    changes = (cell / "host-changes.txt").read_text()
    assert "+ module: nf_conntrack\n" in changes
    assert "+ sysctl: net.netfilter.nf_conntrack_max = 100\n" in changes


def source_archive(project_root: Path) -> bytes:
    """What the lab needs to run elsewhere: itself, the scenarios, and the packages that it imports."""
    packages = [
        (Path(vagrant.__file__).parent, "vagrant"),
        (Path(qemu.qmp.__file__).parent, "qemu/qmp"),
        (Path(msgspec.__file__).parent, "msgspec"),  # its C module too: this Python and the box's are of one version
    ]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:xz") as archive:
        for folder, name in ((project_root / "lab", "lab"), (project_root / "scenarios", "scenarios"), *packages):
            for path in sources(folder):
                archive.add(path, f"{name}/{path.relative_to(folder)}")
        archive.add(project_root / "pyproject.toml", "pyproject.toml")
    return file.getvalue()


def sources(folder: Path) -> Iterator[Path]:
    """The files that are not made by running the rest."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
