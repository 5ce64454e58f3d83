"""A frozen view of one database, shared between a counting session and pg_dump.

The tables are locked ACCESS SHARE before the snapshot is exported: a TRUNCATE or a rewriting
ALTER TABLE by another session is not covered by the snapshot and would empty the dump silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from sheetanchor.components.postgres.counts import TableName, list_tables
from sheetanchor.components.postgres.server import Connection, Server, execute, scalar
from sheetanchor.errors import ComponentError

ATTEMPTS = 20
TABLES_PER_LOCK = 200


@dataclass(frozen=True)
class Frozen:
    """An open session that keeps the snapshot alive until it ends."""

    connection: Connection
    snapshot: str


@contextmanager
def frozen_database(server: Server, database: str) -> Iterator[Frozen]:
    """Lock all tables and export a snapshot in which every one of them is as it was when locked.

    Raises ComponentError where tables come and go faster than they can be locked.
    """
    with server.session(database) as connection:
        tables = list_tables(connection)
        for _ in range(ATTEMPTS):
            snapshot = _try_to_freeze(connection, tables)
            if isinstance(snapshot, str):
                yield Frozen(connection, snapshot)
                return
            tables = snapshot
        raise ComponentError(
            f"database {database}: its tables are dropped and created faster than they can be locked",
            hint="back up when no migration is running",
        )


def _try_to_freeze(connection: Connection, tables: tuple[TableName, ...]) -> str | tuple[TableName, ...]:
    """Return the snapshot's name, or the tables that exist now where the list was out of date."""
    execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        # LOCK TABLE takes no snapshot, so the first SELECT after it decides what is seen.
        for start in range(0, len(tables), TABLES_PER_LOCK):
            names = ", ".join(table.quoted for table in tables[start : start + TABLES_PER_LOCK])
            execute(connection, f"LOCK TABLE {names} IN ACCESS SHARE MODE")
        snapshot = str(scalar(connection, "SELECT pg_export_snapshot()"))
        if set(list_tables(connection)) <= set(tables):
            return snapshot
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        pass
    execute(connection, "ROLLBACK")
    return list_tables(connection)
