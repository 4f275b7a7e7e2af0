"""Keys of a fleet: nobody else reads them, and who has none of this CA does not get in."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

from lab.core.errors import LabError
from lab.host.fleet.address import Address, parse_address
from lab.host.fleet.keys import CA, ROLES, certificate_file, check_keys, key_file, make_keys
from lab.host.fleet.settings import security

TLS = parse_address("tls://127.0.0.1")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "fleet"
    make_keys(folder, 2)
    return folder


def test_keys_are_their_owners(keys: Path) -> None:
    assert {stat.S_IMODE(key_file(keys, name).stat().st_mode) for name in (CA, *ROLES)} == {0o600}
    for role in ROLES:
        check_keys(keys, role)


def test_keys_are_not_made_over_others(keys: Path) -> None:
    before = key_file(keys, CA).read_bytes()
    with pytest.raises(LabError, match="is there already"):
        make_keys(keys, 2)
    assert key_file(keys, CA).read_bytes() == before


@pytest.mark.parametrize("role", ROLES)
def test_a_key_that_others_can_read_is_refused(role: str, tmp_path: Path) -> None:
    make_keys(tmp_path, 2)
    key_file(tmp_path, role).chmod(0o640)
    with pytest.raises(LabError, match="others can read this key") as refused:
        security(TLS, role, tmp_path)
    assert refused.value.hint == f"chmod 600 {key_file(tmp_path, role)}"


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    make_keys(tmp_path, 2)
    certificate_file(tmp_path, "client").unlink()
    with pytest.raises(LabError, match=r"client\.pem: there is no such file"):
        security(TLS, "client", tmp_path)


def test_tls_needs_keys_and_loopback_none() -> None:
    with pytest.raises(LabError, match="needs keys"):
        security(TLS, "client", None)
    assert security(Address("tcp", "127.0.0.1", 1), "client", None) is None


def context(keys: Path, role: str, which: str) -> ssl.SSLContext:
    """The very context that Dask makes of a role's keys."""
    found = security(TLS, role, keys)
    assert found is not None
    config = getattr(found, f"get_{'listen' if which == 'server' else 'connection'}_args")(role)
    made = config["ssl_context"]
    assert isinstance(made, ssl.SSLContext)
    return made


def is_let_in(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    """Whether a client gets a word from a server."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as served:
                served.sendall(b"hello")
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    ours.settimeout(20)
    try:
        with client.wrap_socket(ours) as connected:
            return connected.recv(5) == b"hello"
    except OSError:
        return False
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize(
    ("server", "client"), [("scheduler", "client"), ("scheduler", "worker"), ("worker", "scheduler")]
)
def test_who_has_keys_of_the_fleet_gets_in(server: str, client: str, keys: Path) -> None:
    assert is_let_in(context(keys, server, "server"), context(keys, client, "client"))


@pytest.mark.parametrize("server", ["scheduler", "worker"])
def test_a_certificate_of_another_ca_does_not_get_in(server: str, keys: Path, tmp_path: Path) -> None:
    make_keys(tmp_path, 2)
    other = context(tmp_path, "client", "client")
    other.check_hostname, other.verify_mode = False, ssl.CERT_NONE  # a client that takes any server
    assert not is_let_in(context(keys, server, "server"), other)
    assert not is_let_in(context(tmp_path, server, "server"), context(keys, "client", "client"))


@pytest.mark.parametrize("server", ["scheduler", "worker"])
def test_without_a_certificate_nobody_gets_in(server: str, keys: Path) -> None:
    none = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    none.check_hostname, none.verify_mode = False, ssl.CERT_NONE
    assert not is_let_in(context(keys, server, "server"), none)
