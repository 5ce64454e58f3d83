"""The PostgreSQL component for the contract suite of the component seam."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sheetanchor.components.base import Component
from sheetanchor.components.postgres.component import PostgresComponent
from sheetanchor.components.postgres.names import hub_name
from sheetanchor.components.postgres.scratch import ScratchServer
from sheetanchor.config.models import PostgresConfig
from support.component_cases import ComponentCase, context
from support.postgres import connect, dump_all, run_sql, running_server

DATA = """
CREATE ROLE app LOGIN PASSWORD 'x';
CREATE ROLE readers;
GRANT readers TO app;
CREATE DATABASE shop OWNER app;
CREATE DATABASE doomed;
ALTER DATABASE shop SET work_mem = '5MB';
\\connect shop
CREATE TABLE goods (id int PRIMARY KEY, name text);
INSERT INTO goods SELECT n, 'good ' || n FROM generate_series(1, 100) n;
GRANT SELECT ON goods TO readers;
SELECT lo_from_bytea(7, 'large');
"""
CHANGES = """
DROP DATABASE doomed;
ALTER DATABASE shop RESET work_mem;
ALTER DATABASE shop CONNECTION LIMIT 5;
ALTER ROLE app CREATEDB PASSWORD 'newer';
REVOKE readers FROM app;
COMMENT ON ROLE readers IS 'changed';
\\connect shop
DELETE FROM goods WHERE id > 50;
CREATE TABLE extra (id int);
SELECT lo_unlink(7);
"""


@dataclass
class PostgresCase:
    """One live server."""

    server: ScratchServer
    directory: Path

    def component(self) -> Component:
        """Return a new component object."""
        config = PostgresConfig(
            name="postgres", type="postgres", url=self.server.url(), bin_dir=self.server.tools.directory
        )
        return PostgresComponent(config, context(self.directory))

    def change(self) -> None:
        """Add, alter and remove databases, roles, rows and properties."""
        run_sql(self.server, "postgres", CHANGES)

    def describe(self) -> object:
        """Return what pg_dumpall says, passwords apart: a restore never takes those back."""
        with connect(self.server) as connection:
            doors = connection.execute(
                "SELECT datname, datallowconn FROM pg_database"
                " WHERE datname NOT LIKE 'sheetanchor%' ORDER BY 1"
            ).fetchall()
        lines = dump_all(self.server, "--exclude-database=sheetanchor*").splitlines()
        return doors, sorted(line.split(" PASSWORD ")[0] for line in lines)

    def leftovers(self) -> list[str]:
        """Name databases that a restore has made up."""
        with connect(self.server) as connection:
            found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'sheetanchor%'")
            return [row[0] for row in found]

    def tamper(self, token: str) -> None:
        """Remove one row from the staged database `shop`."""
        prefix = hub_name(token)
        with connect(self.server) as connection:
            (name,) = [
                row[0]
                for row in connection.execute("SELECT datname FROM pg_database")
                if row[0].startswith(f"{prefix}_new_") and row[0].endswith("_shop")
            ]
        run_sql(self.server, name, "DELETE FROM goods WHERE id = 3")


@contextmanager
def postgres_case(directory: Path) -> Iterator[ComponentCase]:
    """Run PostgreSQL 18 with two databases of data."""
    with running_server(18) as server:
        run_sql(server, "postgres", DATA)
        yield PostgresCase(server, directory)
