"""Redis over TLS, with client certificates and encrypted replication."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sheetanchor.errors import UnreachableError
from support.directory_store import DirectorySink, DirectorySource
from support.redis import component, free_port, live_server, programs, state
from support.redis_cases import DATABASES, fill

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
A_DAY = timedelta(days=1)


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for 127.0.0.1 and its key; it is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - A_DAY)
        .not_valid_after(now + A_DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "server.key").write_bytes(private)
    return directory / "server.crt", directory / "server.key"


def test_capture_and_restore_over_tls(tmp_path: Path) -> None:
    """Both certificates are checked; encrypted replication is on again afterwards."""
    if "redis" not in programs():
        pytest.skip("needs the program redis-server (Debian package redis-server)")
    certificate, key = make_certificate(tmp_path)
    port = free_port()
    settings = (
        f"tls-port {port}",
        f"tls-cert-file {certificate}",
        f"tls-key-file {key}",
        f"tls-ca-cert-file {certificate}",
        "tls-auth-clients yes",
        "tls-replication yes",
    )
    url = {"url": f"rediss://127.0.0.1:{port}/0"}
    files = {"tls_ca_file": certificate, "tls_certificate_file": certificate, "tls_key_file": key}
    with live_server(programs()["redis"], tmp_path / "live", *settings) as server:
        fill(server)
        before = state(server, DATABASES)
        target = component(server, tmp_path / "work", **url, **files)
        proof = target.capture(DirectorySink(tmp_path / "store"))
        with server.client() as connection:
            connection.flushall()
        staged = target.stage(DirectorySource(tmp_path / "store"), proof, "token")
        staged.verify(proof)
        staged.swap()
        assert state(server, DATABASES) == before
        with server.client() as connection:
            assert connection.config_get("tls-replication") == {"tls-replication": "yes"}
        for options in ({}, {"tls_ca_file": certificate}):
            with pytest.raises(UnreachableError):
                component(server, tmp_path / "work", **url, **options).check()
