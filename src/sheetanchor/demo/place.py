"""The directory that a demonstration lives in, and where everything in it is."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from sheetanchor.demo.servers import Servers
from sheetanchor.errors import UsageError

STACK = "demo"
_MARK = "made-by-sheetanchor-demo"


@dataclass(frozen=True)
class Place:
    """Paths below the demonstration's directory."""

    directory: Path

    @property
    def servers(self) -> Path:
        """Where the database's and the cache's own files are."""
        return self.directory / "servers"

    @property
    def volume(self) -> Path:
        """The application's files."""
        return self.directory / "uploads"

    @property
    def settings(self) -> Path:
        """A configuration file of the application."""
        return self.directory / "docker-compose.prod.yml"

    @property
    def repository(self) -> Path:
        """Where the backups are."""
        return self.directory / "repository"

    @property
    def configuration(self) -> Path:
        """The `sheetanchor.yml` of the demonstration."""
        return self.directory / "sheetanchor.yml"

    @property
    def password(self) -> Path:
        """The file with the repository's password."""
        return self.directory / "password"

    def is_demo(self) -> bool:
        """Say whether an earlier demonstration made the directory."""
        return (self.directory / _MARK).is_file()

    def create(self) -> None:
        """Make the directory, empty. Raises UsageError where something else is there."""
        if self.is_demo():
            shutil.rmtree(self.directory)
        if self.directory.exists() and any(self.directory.iterdir()):
            raise UsageError(
                f"{self.directory} is not empty, and no demonstration made it",
                hint="name another directory, or remove it yourself",
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / _MARK).write_text("A new demonstration replaces everything here.\n")

    def write_configuration(self, servers: Servers) -> None:
        """Write the configuration, the password and a file of the application to protect."""
        descriptor = os.open(self.password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        self.settings.write_text(_SETTINGS)
        self.configuration.write_text(
            _CONFIGURATION.format(
                stack=STACK,
                repository=_quoted(self.repository),
                password=_quoted(self.password),
                state=_quoted(self.directory / "state"),
                postgres_url=_quoted(servers.postgres_url),
                programs=_quoted(servers.postgres_programs),
                redis_url=_quoted(servers.redis_url),
                cache=_quoted(servers.redis_program),
                volume=_quoted(self.volume),
                settings=_quoted(self.settings),
            )
        )


def _quoted(value: Path | str) -> str:
    """Return a YAML single-quoted scalar."""
    return "'" + str(value).replace("'", "''") + "'"


_CONFIGURATION = """\
# The least that protects a stack on one machine. Everything below is real: look around.
stack: {{name: {stack}, driver: local}}

repository:
  url: {repository}
  password_file: {password}

state_directory: {state}

components:
  - name: postgres
    type: postgres
    url: {postgres_url}
    bin_dir: {programs}
  - name: redis
    type: redis
    url: {redis_url}
    server_program: {cache}
  - name: uploads
    type: volume
    path: {volume}
    exclude: ["*.tmp"]
  - name: configs
    type: configs
    paths: [{settings}]
"""

_SETTINGS = """\
services:
  web:
    image: example/shop:2.4.1
    environment: {DATABASE: shop, CACHE: redis}
    volumes: [uploads:/srv/uploads]
volumes: {uploads: {}}
"""
