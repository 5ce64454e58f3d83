"""Where a Redis or Valkey server is and how to log in, read from the configuration."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sheetanchor.config.models import RedisConfig
from sheetanchor.errors import ConfigError
from sheetanchor.secret import Secret

DEFAULT_PORT = 6379


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of a TLS connection; None leaves the system's certificate authorities."""

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Address:
    """One server: a TCP port, with or without TLS, or a Unix socket."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    unix_path: str | None = None
    tls: TlsFiles | None = None
    username: str | None = None
    password: Secret | None = None

    def __str__(self) -> str:
        if self.unix_path:
            return self.unix_path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(config: RedisConfig) -> Address:
    """Read the address, and the password from its file.

    Raises ConfigError for a malformed address or a password file that cannot be read.
    """
    parts = urlsplit(config.url)
    username = config.username or (unquote(parts.username) if parts.username else None)
    password = _password(config.password_file)
    if parts.scheme == "unix":
        return Address(unix_path=unquote(parts.path), username=username, password=password)
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise ConfigError(f"component {config.name}: url: {error}") from error
    tls = None
    if parts.scheme == "rediss":
        tls = TlsFiles(config.tls_ca_file, config.tls_certificate_file, config.tls_key_file)
    host = parts.hostname or "127.0.0.1"
    return Address(host=host, port=port, tls=tls, username=username, password=password)


def is_loopback(host: str) -> bool:
    """Say whether a numeric address belongs to this machine's loopback network."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _password(file: Path | None) -> Secret | None:
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}", hint="check password_file") from error
    return Secret(text.rstrip("\r\n"))
