"""Compressed modules of a kernel, as a guest gets them."""

import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.core.errors import LabError
from lab.host.cache import Deadline
from lab.host.images.modules import module_files, unpack_modules

CONTENT = b"\x7fELF, and so on" * 100


def soon() -> Deadline:
    return Deadline.after(30, "a test")


def module(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class TestUnpackModules:
    @pytest.mark.parametrize("place", ["kernel/net/netfilter", "kernel/lib", "kernel/crypto/async_tx"])
    def test_what_states_load_is_unpacked_also_where_a_guest_could_read_it(self, tmp_path: Path, place: str) -> None:
        packed = module(tmp_path, f"{place}/nf_tables.ko.xz", lzma.compress(CONTENT))
        packed.chmod(0o444)
        assert unpack_modules(tmp_path, soon())
        (unpacked,) = module_files(tmp_path)
        assert unpacked == packed.with_name("nf_tables.ko")
        assert unpacked.read_bytes() == CONTENT
        assert unpacked.stat().st_mode & 0o777 == 0o444

    @pytest.mark.parametrize("place", ["kernel/drivers/net", "updates", "."])
    def test_what_a_guest_can_read_stays_as_it_is_elsewhere(self, tmp_path: Path, place: str) -> None:
        packed = module(tmp_path, f"{place}/e1000.ko.xz", lzma.compress(CONTENT))
        assert not unpack_modules(tmp_path, soon())
        assert list(module_files(tmp_path)) == [packed]

    def test_what_a_guest_cannot_read_is_unpacked_everywhere(self, tmp_path: Path) -> None:
        packed = module(tmp_path, "kernel/drivers/net/e1000.ko.gz", gzip.compress(CONTENT))
        assert unpack_modules(tmp_path, soon())
        assert [path.read_bytes() for path in module_files(tmp_path)] == [CONTENT]
        assert not packed.exists()

    @pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
    def test_zstd_is_unpacked_everywhere_and_its_modules_need_not_be_writable(self, tmp_path: Path) -> None:
        path = module(tmp_path, "kernel/fs/ext4.ko", CONTENT)
        subprocess.run(("zstd", "--quiet", "--rm", str(path)), check=True, timeout=10)
        path.with_name("ext4.ko.zst").chmod(0o444)
        assert unpack_modules(tmp_path, soon())
        assert [path.read_bytes() for path in module_files(tmp_path)] == [CONTENT]

    def test_lists_and_the_tree_that_modules_were_built_in_are_left_alone(self, tmp_path: Path) -> None:
        listed = module(tmp_path, "modules.dep", b"kernel/net/nf_tables.ko.xz:\n")
        source = module(tmp_path, "build/kernel/net/nf_tables.ko.xz", lzma.compress(CONTENT))
        assert not unpack_modules(tmp_path, soon())
        assert listed.exists() and source.exists()

    def test_it_ends_at_its_deadline(self, tmp_path: Path) -> None:
        module(tmp_path, "kernel/net/nf_tables.ko.xz", lzma.compress(CONTENT))
        with pytest.raises(LabError, match="a test"):
            unpack_modules(tmp_path, Deadline.after(-1, "a test"))
