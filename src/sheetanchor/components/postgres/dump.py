"""Capture: roles by pg_dumpall, each database by pg_dump under a snapshot that is counted beside it."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import BinaryIO, cast

from sheetanchor.components.base import Context, Sink, StreamSaved
from sheetanchor.components.postgres.counts import read_contents
from sheetanchor.components.postgres.names import GLOBALS_PATH, dump_path, is_ours
from sheetanchor.components.postgres.proof import DatabaseProof, PostgresProof
from sheetanchor.components.postgres.properties import read_properties
from sheetanchor.components.postgres.roles import read_roles
from sheetanchor.components.postgres.server import Connection, Server, rows, scalar, version_number
from sheetanchor.components.postgres.server_wide import read_server_wide
from sheetanchor.components.postgres.snapshot import Frozen, frozen_database
from sheetanchor.components.postgres.tools import Tools
from sheetanchor.errors import ComponentError, ProcessError

LOCK_WAIT = "2s"
ATTEMPTS = 10


class Capture:
    """One run over one server."""

    def __init__(
        self, server: Server, tools: Tools, context: Context, sink: Sink, *, lock_wait: str = LOCK_WAIT
    ) -> None:
        self._server = server
        self._tools = tools
        self._context = context
        self._sink = sink
        self._lock_wait = lock_wait

    def run(self) -> PostgresProof:
        """Put globals and all databases into the sink; return the proof.

        Raises ComponentError, UnreachableError or ProcessError when anything is not saved whole.
        """
        with self._server.session() as connection:
            names, warnings = _choose_databases(connection)
            version = version_number(connection)
        databases = tuple(self._save_database(name) for name in names)
        # Roles come last: one that was made meanwhile may own something in a dump.
        with self._server.session() as connection:
            roles = read_roles(connection)
            server_wide = read_server_wide(connection)
            passwords = bool(scalar(connection, "SELECT has_table_privilege('pg_authid', 'SELECT')"))
        if not passwords:
            warnings.append("the passwords of the roles are not saved: only a superuser may read them")
        saved = self._save_globals(passwords=passwords)
        return PostgresProof(
            warnings=tuple(warnings),
            server_version=version,
            globals_bytes=saved.size,
            globals_sha256=saved.sha256,
            role_passwords=passwords,
            bootstrap_role=roles.bootstrap,
            roles=roles.roles,
            memberships=roles.memberships,
            server_wide=server_wide,
            databases=databases,
        )

    def _save_globals(self, *, passwords: bool) -> StreamSaved:
        argv = [
            self._tools.path("pg_dumpall"),
            "--globals-only",
            f"--dbname={self._server.target(self._server.database)}",
            *([] if passwords else ["--no-role-passwords"]),
        ]
        with self._context.processes.reading(argv, environment=self._server.environment()) as stream:
            return self._sink.write_stream(GLOBALS_PATH, stream)

    def _save_database(self, name: str) -> DatabaseProof:
        for attempt in range(ATTEMPTS):
            with frozen_database(self._server, name) as frozen:
                _refuse_hidden_rows(frozen.connection, name)
                proof = self._dump(name, frozen, last=attempt == ATTEMPTS - 1)
            if proof is not None:
                return proof
        raise ComponentError(f"database {name}: cannot be dumped")

    def _dump(self, name: str, frozen: Frozen, *, last: bool) -> DatabaseProof | None:
        """Dump and count at once; None where pg_dump failed before it wrote anything, unless `last`.

        An ALTER TABLE that waits for our lock makes pg_dump wait behind it, for ever: pg_dump
        gives up soon, our lock is let go, and the next attempt comes after the change.
        """
        argv = [
            self._tools.path("pg_dump"),
            "--format=custom",
            "--compress=0",
            f"--snapshot={frozen.snapshot}",
            f"--lock-wait-timeout={self._lock_wait}",
            f"--dbname={self._server.target(name)}",
        ]
        written = False
        try:
            with self._context.processes.reading(argv, environment=self._server.environment()) as stream:
                written = bool(cast("io.BufferedReader", stream).peek(1))
                if written:
                    return self._save_and_count(name, frozen, stream)
        except ProcessError as error:
            if written or last:
                raise ComponentError(f"database {name}: {error.message}", hint=error.hint) from error
        return None

    def _save_and_count(self, name: str, frozen: Frozen, stream: BinaryIO) -> DatabaseProof:
        connection = frozen.connection
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(1))
            counting = pool.submit(read_contents, connection)
            stack.push(lambda kind, *_: connection.cancel() if kind else None)
            path = dump_path(name)
            saved = self._sink.write_stream(path, stream)
            contents = counting.result()
        size = scalar(connection, "SELECT pg_database_size(current_database())")
        # Shared catalogs hold names in one encoding, which need not be the one of this database.
        with self._server.session() as outside:
            properties = read_properties(outside, name)
        return DatabaseProof(
            properties=properties,
            path=path,
            dump_bytes=saved.size,
            dump_sha256=saved.sha256,
            disk_bytes=size,
            tables=contents.tables,
            large_objects=contents.large_objects,
            large_object_bytes=contents.large_object_bytes,
            extensions=contents.extensions,
            schemas=contents.schemas,
            tablespaces=contents.tablespaces,
        )


def _choose_databases(connection: Connection) -> tuple[list[str], list[str]]:
    """Return the databases to save, and a warning for each that is not saved.

    template0 is every server's own and cannot be changed; template1 is saved like any other.
    """
    names, warnings = [], []
    for name, allowed in rows(
        connection, "SELECT datname, datallowconn FROM pg_database WHERE datname <> 'template0' ORDER BY 1"
    ):
        if is_ours(name):
            warnings.append(f"database {name} is left over from a restore and is not saved")
        elif not allowed:
            warnings.append(f"database {name} is NOT SAVED: it accepts no connections (ALLOW_CONNECTIONS)")
        else:
            names.append(name)
    if scalar(connection, "SELECT count(*) FROM pg_shseclabel"):
        warnings.append("security labels on databases and roles are saved, but a restore does not set them")
    return names, warnings


def _refuse_hidden_rows(connection: Connection, name: str) -> None:
    """Refuse a user from whom row security could hide rows. Raises ComponentError."""
    free = scalar(connection, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
    if not free and scalar(connection, "SELECT count(*) FROM pg_class WHERE relrowsecurity"):
        raise ComponentError(
            f"database {name}: row security would hide rows from the backup's user",
            hint="connect as a superuser, or give the user BYPASSRLS",
        )
