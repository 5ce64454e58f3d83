"""How the server is started, and what it refuses to start with."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from sheetanchor.errors import ConfigError
from sheetanchor.repository.server.connection import Patience

DEFAULT_LISTEN = "127.0.0.1:8000"
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/\s]*):([0-9]{1,5})")


@dataclass(frozen=True)
class Options:
    """What is served, where, and how much of it."""

    directory: Path
    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes any free one."""
    certificate: Path | None = None
    certificate_key: Path | None = None
    private_repositories: bool = False
    append_only: bool = False
    """Nobody may do more than the right `append-only` allows, whatever their own."""
    quota: int | None = None
    """Bytes that the directory may hold."""
    largest_object: int = (1 << 30) + (1 << 20)
    """Bytes of one object: the largest sealed object; restic's packs have at most 128 MiB and a little."""
    connections: int = 64
    patience: Patience = field(default_factory=Patience)


def parse_listen(text: str) -> tuple[str, int]:
    """Read `host:port` or `[address]:port`; no host means every address. Raises ConfigError."""
    found = _LISTEN.fullmatch(text)
    if found is None or int(found[2]) > 65535:
        raise ConfigError(f"{text!r} is no address to listen on", hint=f"write it as {DEFAULT_LISTEN}")
    return found[1].strip("[]") or "0.0.0.0", int(found[2])  # noqa: S104 - refused without TLS and users


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach `host`; a name other than localhost is not trusted."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_options(options: Options, *, has_users: bool) -> None:
    """Raise ConfigError for what would be unsafe or cannot work."""
    if not options.directory.is_dir():
        raise ConfigError(
            f"{options.directory} is no directory", hint="make it first; `sheetanchor init` fills it"
        )
    if (options.certificate is None) != (options.certificate_key is None):
        raise ConfigError("TLS needs a certificate and its key", hint="give --tls-cert and --tls-key")
    if options.private_repositories and not has_users:
        raise ConfigError("private repositories need users", hint="give --users FILE")
    if is_loopback(options.host):
        return
    missing = [
        what
        for what, there in (
            ("users (--users FILE)", has_users),
            ("TLS (--tls-cert, --tls-key)", options.certificate),
        )
        if not there
    ]
    if missing:
        raise ConfigError(
            f"{options.host} can be reached from other machines: this needs {' and '.join(missing)}",
            hint=f"give them, or listen on {DEFAULT_LISTEN}",
        )
