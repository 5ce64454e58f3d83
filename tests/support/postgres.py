"""Real PostgreSQL servers for tests: version 15 and 18, alone on a free port, gone afterwards."""

from __future__ import annotations

import atexit
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sheetanchor.components.postgres.scratch import ScratchOptions, ScratchServer, scratch_server
from sheetanchor.components.postgres.tools import (
    CLIENT_PROGRAMS,
    SERVER_PROGRAMS,
    Tools,
    embedded_directory,
    tools_in,
)
from sheetanchor.process import Completed, ProcessRunner

VERSIONS = (15, 18)


_Made = dict[tuple[str, ...], Path]


class CopyingRunner(ProcessRunner):
    """Runs initdb once for each set of arguments, and copies its result after that: it takes seconds."""

    def __init__(self, made: _Made, directory: Path) -> None:
        self._made = made
        self._directory = directory

    def run(self, argv: Sequence[str], **options: Any) -> Completed:  # type: ignore[override]
        """Copy what initdb made before, or run the program."""
        program = next((index for index, part in enumerate(argv) if part.endswith("/initdb")), None)
        if program is None:
            return super().run(argv, **options)
        target = Path(argv[argv.index("-D") + 1])
        key = tuple(part for part in argv[program:] if part != str(target))
        if key not in self._made:
            super().run(argv, **options)
            self._made[key] = self._directory / str(len(self._made))
            _copy(target, self._made[key])
        else:
            _copy(self._made[key], target)
        return Completed(b"", b"")


def _copy(source: Path, target: Path) -> None:
    """Copy a data directory with its owners."""
    ProcessRunner().run(["cp", "--archive", str(source), str(target)])


@cache
def _copying_runner() -> CopyingRunner:
    directory = Path(tempfile.mkdtemp(prefix="sheetanchor-initdb-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return CopyingRunner({}, directory)


def postgres_tools(major: int) -> Tools:
    """Return the programs of PostgreSQL 15 (Debian) or 18 (wheel); skips where they are missing."""
    directory = Path(f"/usr/lib/postgresql/{major}/bin") if major != 18 else embedded_directory()
    found = tools_in(
        directory or Path("/nonexistent"), ProcessRunner(), programs=CLIENT_PROGRAMS + SERVER_PROGRAMS
    )
    if isinstance(found, str) or found.major != major:
        pytest.skip(f"needs PostgreSQL {major} (Debian package postgresql-{major}): {found}")
    return found


@contextmanager
def running_server(
    major: int, *, settings: Mapping[str, str] | None = None, superuser: str = "postgres"
) -> Iterator[ScratchServer]:
    """Run a server of the given major version on a socket and a free TCP port."""
    options = ScratchOptions(
        superuser=superuser,
        locale="C.UTF-8",
        port=_free_port(),
        listen=True,
        settings={"shared_buffers": "16MB", "max_connections": "40", **(settings or {})},
    )
    with scratch_server(postgres_tools(major), _copying_runner(), options) as server:
        yield server


def connect(server: ScratchServer, database: str = "postgres") -> psycopg.Connection:
    """Open an autocommit session."""
    return psycopg.connect(server.url(), dbname=database, autocommit=True)


def run_sql(server: ScratchServer, database: str, script: str) -> None:
    """Run a script with psql, stopping at the first error."""
    ProcessRunner().run(
        [
            server.tools.path("psql"),
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            f"--dbname={server.url(database)}",
        ],
        stdin=script.encode(),
    )


def dump_all(server: ScratchServer, *options: str) -> str:
    """Return what pg_dumpall says of the server, without what is random or a matter of order."""
    text = (
        ProcessRunner()
        .run([server.tools.path("pg_dumpall"), f"--dbname={server.url()}", *options])
        .stdout.decode()
    )
    return "\n".join(
        line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
