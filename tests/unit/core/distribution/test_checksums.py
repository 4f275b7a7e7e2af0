"""The files in which publishers name digests, in each of their forms."""

from __future__ import annotations

import pytest

from lab.core.distribution.checksums import algorithm, digest_of

A, B, LONG = "a" * 64, "b" * 64, "c" * 128


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        (f"{A} *ubuntu-24.04-server-cloudimg-amd64.img\n{B} *other.img\n", "ubuntu-24.04-*-amd64.img", A),
        (f"{LONG}  debian-13-genericcloud-amd64.qcow2\n", "debian-13-genericcloud-amd64.qcow2", LONG),
        (f"# AlmaLinux-9-latest: 3 bytes\nSHA256 (AlmaLinux-9-latest) = {A}\n", "AlmaLinux-9-latest", A),
        (f"{A.upper()}  ./x.qcow2\n", "x.qcow2", A),
        (f"{LONG}\n", "generic_alpine.qcow2", LONG),
    ],
)
def test_the_digest_of_a_file(text: str, pattern: str, expected: str) -> None:
    found = digest_of(text, pattern)
    assert found is not None
    assert found[1] == expected


def test_of_several_builds_the_last() -> None:
    text = f"{A}  al2023-kvm-2023.9.1-x86_64.qcow2\n{B}  al2023-kvm-2023.10.0-x86_64.qcow2\n"
    assert digest_of(text, "al2023-kvm-*-x86_64.qcow2") == ("al2023-kvm-2023.10.0-x86_64.qcow2", B)


@pytest.mark.parametrize("text", ["", "<html>404</html>", f"{A[:-1]}  x.img\n", f"{A}  y.img\n", f"{A}\n{B}\n"])
def test_what_names_none(text: str) -> None:
    assert digest_of(text, "x.img") is None


def test_a_bare_digest_is_of_no_pattern() -> None:
    assert digest_of(A, "x-*.img") is None


def test_the_algorithm_by_its_length() -> None:
    assert (algorithm(A), algorithm(LONG)) == ("sha256", "sha512")
