"""Exact contents of one database, as numbers: rows per table, large objects, extensions, schemas.

Counted are ordinary tables and partitions whose rows a dump carries. Left out: tables that an
extension made, foreign and temporary tables, and materialised views, which a restore fills
afresh from their query instead of copying them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sheetanchor.components.postgres.proof import Extension, Table
from sheetanchor.components.postgres.quoting import qualified
from sheetanchor.components.postgres.server import Connection, rows, scalar


@dataclass(frozen=True)
class TableName:
    """A table as the catalog knows it now."""

    oid: int
    schema: str
    name: str

    @property
    def quoted(self) -> str:
        """Its name for SQL."""
        return qualified(self.schema, self.name)


@dataclass(frozen=True)
class Contents:
    """What is in one database."""

    tables: tuple[Table, ...]
    large_objects: int
    large_object_bytes: int
    extensions: tuple[Extension, ...]
    schemas: tuple[str, ...]
    tablespaces: tuple[str, ...]


def list_tables(connection: Connection) -> tuple[TableName, ...]:
    """List the tables whose rows are counted."""
    found = rows(
        connection,
        """
        SELECT c.oid::bigint, n.nspname, c.relname
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND c.relpersistence <> 't'
          AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                          AND d.objid = c.oid AND d.deptype = 'e')
        ORDER BY n.nspname, c.relname
        """,
    )
    return tuple(TableName(*row) for row in found)


def read_contents(connection: Connection) -> Contents:
    """Count everything; inside a REPEATABLE READ transaction all numbers are of one moment."""
    tables = tuple(
        Table(
            schema_name=table.schema,
            name=table.name,
            rows=scalar(connection, f"SELECT count(*) FROM ONLY {table.quoted}"),  # noqa: S608
        )
        for table in list_tables(connection)
    )
    return Contents(
        tables=tables,
        large_objects=scalar(connection, "SELECT count(*) FROM pg_largeobject_metadata"),
        large_object_bytes=scalar(
            connection, "SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM pg_largeobject"
        ),
        extensions=tuple(
            Extension(name=name, version=version)
            for name, version in rows(connection, "SELECT extname, extversion FROM pg_extension ORDER BY 1")
        ),
        schemas=_names(
            connection,
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'",
        ),
        tablespaces=_names(
            connection,
            "SELECT DISTINCT t.spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace"
            " WHERE t.spcname <> 'pg_global'",
        ),
    )


def _names(connection: Connection, query: str) -> tuple[str, ...]:
    return tuple(sorted(str(row[0]) for row in rows(connection, query)))
