"""Where a REST server is and as whom to talk to it: a URL as restic writes it, and variables."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sheetanchor.errors import ConfigError
from sheetanchor.secret import Secret

FORM = "rest:https://host:8000/path/"
_PASSWORD = "SHEETANCHOR_REST_PASSWORD"  # noqa: S105 - a name
_PASSWORD_FILE = "SHEETANCHOR_REST_PASSWORD_FILE"  # noqa: S105 - a name
_INSECURE = "SHEETANCHOR_REST_INSECURE"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class RestLocation:
    """A server's address and the credentials for it."""

    scheme: str
    host: str
    port: int
    path: str
    """Begins and ends with a slash."""
    username: str | None = None
    password: Secret | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """Certificates to trust, instead of the system's."""
    insecure: bool = False
    """Do not check the server's certificate."""

    @property
    def url(self) -> str:
        """The URL without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"rest:{self.scheme}://{host}:{self.port}{self.path}"


def parse_rest_url(url: str, environment: Mapping[str, str]) -> RestLocation:
    """Read `rest:http(s)://[user@]host[:port]/path/` and the variables that go with it.

    SHEETANCHOR_REST_USERNAME, _PASSWORD and _PASSWORD_FILE stand above RESTIC_REST_USERNAME and
    _PASSWORD; SHEETANCHOR_REST_CACERT (else RESTIC_CACERT) names a file of trusted certificates;
    SHEETANCHOR_REST_INSECURE=1 lets a password go in clear text and accepts any certificate.
    Raises ConfigError, which never shows the URL's password.
    """
    parts = urlsplit(url.removeprefix("rest:"))
    if parts.password is not None:
        raise ConfigError("the repository URL holds a password", hint=f"set {_PASSWORD_FILE} or {_PASSWORD}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in _PORTS or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise ConfigError(f"{url!r} is no URL of a REST server", hint=f"write it as {FORM}")
    path = re.sub("/+", "/", f"/{parts.path}/")
    if not re.fullmatch(r"[A-Za-z0-9._~/-]*", path):
        raise ConfigError(f"the path {path!r} cannot be one of a REST server", hint=f"write it as {FORM}")
    username = unquote(parts.username) if parts.username else None
    location = RestLocation(
        parts.scheme,
        parts.hostname,
        port or _PORTS[parts.scheme],
        path,
        username or _first(environment, "SHEETANCHOR_REST_USERNAME", "RESTIC_REST_USERNAME"),
        _password(environment),
        _ca_file(environment),
        environment.get(_INSECURE, "") not in ("", "0"),
    )
    _refuse_clear_text(location)
    return location


def _password(environment: Mapping[str, str]) -> Secret | None:
    if named := environment.get(_PASSWORD_FILE):
        try:
            text = Path(named).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{_PASSWORD_FILE}: {named} cannot be read") from error
        return Secret(text)
    value = _first(environment, _PASSWORD, "RESTIC_REST_PASSWORD")
    return Secret(value) if value is not None else None


def _ca_file(environment: Mapping[str, str]) -> Path | None:
    named = _first(environment, "SHEETANCHOR_REST_CACERT", "RESTIC_CACERT")
    return Path(named) if named else None


def _refuse_clear_text(location: RestLocation) -> None:
    if location.scheme == "https" or location.username is None or location.insecure:
        return
    try:
        local = location.host == "localhost" or ipaddress.ip_address(location.host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ConfigError(
            f"{location.url} would get the password in clear text",
            hint=f"use https, or set {_INSECURE}=1 on a network that nobody else can listen to",
        )


def _first(environment: Mapping[str, str], *names: str) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)
