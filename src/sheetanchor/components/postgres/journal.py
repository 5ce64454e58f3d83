"""The journal of a restore, kept on the server itself: a small database of its own, the hub.

All renames of a swap are done from the hub in one transaction, and the same transaction writes
the journal's row. So the row says exactly what has happened, whenever the process was killed, and
`resume` needs nothing but the token. (ALTER DATABASE … RENAME may run in a transaction, but not
for the database one is connected to.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from sheetanchor.components.postgres.names import hub_name
from sheetanchor.components.postgres.proof import Membership, Record, Role, ServerWide
from sheetanchor.components.postgres.quoting import identifier, literal
from sheetanchor.components.postgres.server import (
    Connection,
    Server,
    database_exists,
    drop_database,
    execute,
    scalar,
)
from sheetanchor.errors import ComponentError

FALLBACK_DATABASES = ("postgres", "template1")


class Phase(StrEnum):
    """How far a restore is."""

    STAGING = "staging"
    STAGED = "staged"
    SWAPPING = "swapping"
    """Connections to the live databases are refused; nothing is renamed yet."""
    SWAPPED = "swapped"
    UNDOING = "undoing"
    """Connections to the restored, live databases are refused; nothing is renamed back yet."""


class Move(Record):
    """One database: its live name, and its names before and after the swap."""

    name: str
    staged: str
    replaced: str
    replaces: bool | None = None
    """A database of that name was live; None until the swap looks."""
    allowed: bool = True
    """The live one accepted connections."""


class Journal(Record):
    """One restore."""

    token: str
    phase: Phase
    in_place: bool
    moves: tuple[Move, ...]
    bootstrap_role: str
    wanted_roles: tuple[Role, ...]
    wanted_memberships: tuple[Membership, ...]
    wanted_server_wide: ServerWide
    created_roles: tuple[str, ...] = ()
    role_forward: tuple[str, ...] = ()
    role_backward: tuple[str, ...] = ()

    def at(self, phase: Phase) -> Journal:
        """Return the same journal at another phase."""
        return self.model_copy(update={"phase": phase})


class Hub:
    """The database that holds the journal of one token."""

    def __init__(self, server: Server, token: str) -> None:
        self._server = server
        self._token = token
        self.name = hub_name(token)

    @contextmanager
    def outside(self) -> Iterator[Connection]:
        """Connect to any database that is not ours."""
        with self._server.session(self._server.database, *FALLBACK_DATABASES) as connection:
            yield connection

    def exists(self) -> bool:
        """Say whether there is a hub with a journal in it."""
        with self._server.session(self._server.database, *FALLBACK_DATABASES, self.name) as connection:
            if not database_exists(connection, self.name):
                return False
        with self.inside() as connection:
            return (
                self._has_table(connection) and scalar(connection, "SELECT count(*) FROM public.journal") == 1
            )

    @contextmanager
    def inside(self) -> Iterator[Connection]:
        """Connect to the hub."""
        with self._server.session(self.name) as connection:
            yield connection

    def create(self) -> None:
        """Make the hub, or what a killed run did not get to make of it."""
        with self.outside() as connection:
            if not database_exists(connection, self.name):
                execute(connection, f"CREATE DATABASE {identifier(self.name)} TEMPLATE template0")
            execute(connection, f"REVOKE ALL ON DATABASE {identifier(self.name)} FROM PUBLIC")
            note = f"Journal of a restore by Sheetanchor (token {self._token}); dropped when it is done"
            execute(connection, f"COMMENT ON DATABASE {identifier(self.name)} IS {literal(note)}")
        with self.inside() as connection:
            if not self._has_table(connection):
                execute(connection, "CREATE TABLE public.journal (document text NOT NULL)")

    def load(self, connection: Connection) -> Journal:
        """Read the journal in a session of the hub; inside a transaction the row stays locked."""
        document = scalar(connection, "SELECT document FROM public.journal FOR UPDATE")
        if document is None:
            raise ComponentError(f"database {self.name} holds no journal", hint="start the restore again")
        return Journal.model_validate_json(document)

    def save(self, connection: Connection, journal: Journal) -> None:
        """Write the journal; part of the caller's transaction where there is one."""
        with connection.transaction():
            execute(connection, "DELETE FROM public.journal")
            document = journal.model_dump_json()
            connection.execute("INSERT INTO public.journal VALUES (%s)", [document])

    def drop(self) -> None:
        """Remove the hub; one that is gone is no error."""
        with self.outside() as connection:
            drop_database(connection, self.name)

    def _has_table(self, connection: Connection) -> bool:
        return scalar(connection, "SELECT to_regclass('public.journal')") is not None
