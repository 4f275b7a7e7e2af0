"""A fleet's own CA, and the certificates of its scheduler, workers and clients, as PEM files in a folder.

Every side checks that the other's certificate is of this CA; names of hosts are not compared, as is Dask's way
(distributed/security.py). So the CA is the fleet's own, and signs nothing else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.core.errors import LabError

CA = "ca"
ROLES = SCHEDULER, WORKER, CLIENT = ("scheduler", "worker", "client")
_CLOCKS_DIFFER = timedelta(hours=1)


@dataclass(frozen=True)
class _Signer:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def certificate_file(folder: Path, name: str) -> Path:
    """The file of a role's certificate, or the CA's."""
    return folder / f"{name}.pem"


def key_file(folder: Path, name: str) -> Path:
    """The file of its private key."""
    return folder / f"{name}.key"


def make_keys(folder: Path, days: int) -> list[Path]:
    """Make a CA and a certificate for each role, good for some days; the files, keys with mode 600.

    Raises LabError where the folder has a file of that name, and OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = (CA, *ROLES)
    for path in (file(folder, name) for name in names for file in (certificate_file, key_file)):
        if path.exists():
            raise LabError(f"{path}: is there already", hint="name another folder, or remove the keys of the old fleet")
    until = datetime.now(UTC) + timedelta(days=days)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _Signer(ca_key, _ca_certificate(ca_key, until))
    files = _write(folder, CA, ca)
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        files += _write(folder, role, _Signer(key, _certificate(role, key, ca, until)))
    return files


def check_keys(folder: Path, role: str) -> None:
    """Return if a folder has what a role needs: the CA's certificate, its own, and its key, which nobody else can read.

    Raises LabError that names the first file that is missing or open to others.
    """
    for path in (certificate_file(folder, CA), certificate_file(folder, role), key_file(folder, role)):
        if not path.is_file():
            raise LabError(
                f"{path}: there is no such file", hint=f"lab fleet keys {folder} makes it; copy it from there"
            )
    key = key_file(folder, role)
    if key.stat().st_mode & 0o077:
        raise LabError(f"{key}: others can read this key", hint=f"chmod 600 {key}")


def _ca_certificate(key: ec.EllipticCurvePrivateKey, until: datetime) -> x509.Certificate:
    name = _name("ca")
    uses = _key_usage(signs_certificates=True)
    return (
        _builder(name, key, until)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(uses, critical=True)
        .sign(key, hashes.SHA256())
    )


def _certificate(role: str, key: ec.EllipticCurvePrivateKey, ca: _Signer, until: datetime) -> x509.Certificate:
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    return (
        _builder(_name(role), key, until)
        .issuer_name(ca.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(both, critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(ca.key, hashes.SHA256())
    )


def _builder(name: x509.Name, key: ec.EllipticCurvePrivateKey, until: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _CLOCKS_DIFFER)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(role: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"conntrack-lab fleet {role}")])


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(folder: Path, name: str, made: _Signer) -> list[Path]:
    certificate, key = certificate_file(folder, name), key_file(folder, name)
    private = made.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # the mode from the beginning: between a write and a chmod others could open it
    descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(private)
    certificate.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
    return [certificate, key]
