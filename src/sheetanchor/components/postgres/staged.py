"""The staged state of a server: databases under names of ours, and the way into place and back."""

from __future__ import annotations

from collections.abc import Callable

from sheetanchor.clock import Clock
from sheetanchor.components.base import Context, Proof
from sheetanchor.components.postgres import swap
from sheetanchor.components.postgres.guards import drop_staged_database, refuse_to_drop
from sheetanchor.components.postgres.journal import Hub, Journal, Phase
from sheetanchor.components.postgres.proof import DatabaseProof, PostgresProof
from sheetanchor.components.postgres.quoting import identifier
from sheetanchor.components.postgres.server import Connection, Server, drop_database, execute, rows
from sheetanchor.components.postgres.stage import staged_dump
from sheetanchor.components.postgres.verify import verify_databases
from sheetanchor.errors import ComponentError


class PostgresStaged:
    """One restore on one server, found by its token at whatever step it is."""

    def __init__(self, server: Server, context: Context, token: str) -> None:
        self._server = server
        self._context = context
        self._token = token
        self._hub = Hub(server, token)

    @property
    def _clock(self) -> Clock:
        return self._context.clock

    def verify(self, proof: Proof) -> tuple[str, ...]:
        """Compare the restored databases with the proof: staged before the swap, live after it.

        Raises ProofMismatchError; ComponentError where nothing is staged.
        """
        assert isinstance(proof, PostgresProof)
        self._require_hub()
        swap.settle(self._hub, self._clock)
        with self._hub.inside() as connection:
            journal = self._hub.load(connection)
        return verify_databases(self._server, proof, _names(journal), properties_from=self._hub.name)

    def swap(self) -> None:
        """Rename the live databases away and the staged ones into place, all at once."""
        self._require_hub()
        swap.swap(self._hub, self._clock)

    def undo(self) -> None:
        """Rename the old databases back into place; nothing to do before a swap."""
        if self._hub.exists():
            swap.undo(self._hub, self._clock)

    def discard(self) -> None:
        """Drop what is not live, then the journal; roles that only a given-up restore made go too.

        Raises ComponentError, before anything is dropped, where an old database has a
        subscription or a logical replication slot.
        """
        staged_dump(self._context, self._token).unlink(missing_ok=True)
        if not self._hub.exists():
            self._hub.drop()
            return
        swap.settle(self._hub, self._clock)
        with self._hub.inside() as connection:
            journal = self._hub.load(connection)
            if journal.phase is Phase.SWAPPED:
                names = [move.replaced for move in journal.moves]
                refuse_to_drop(connection, names)
                for name in names:
                    drop_database(connection, name)
            else:
                for move in journal.moves:
                    drop_staged_database(self._server, connection, move.staged)
                self._drop_created_roles(connection, journal)
        self._hub.drop()

    def _drop_created_roles(self, connection: Connection, journal: Journal) -> None:
        present = {row[0] for row in rows(connection, "SELECT rolname FROM pg_roles")}
        for role in journal.created_roles:
            used = _uses(connection, role) if role in present else []
            if used:
                self._context.listener.warning(
                    "postgres", f"role {role} was made by the restore and is kept: {', '.join(used)}"
                )
            elif role in present:
                execute(connection, f"DROP ROLE {identifier(role)}")

    def _require_hub(self) -> None:
        if not self._hub.exists():
            raise ComponentError(
                "nothing is staged on this PostgreSQL server for this restore",
                hint="start the restore again",
            )


def _names(journal: Journal) -> Callable[[DatabaseProof], str]:
    staged = {move.name: move.staged for move in journal.moves}
    return lambda database: (
        database.name if journal.phase is Phase.SWAPPED else staged.get(database.name, database.name)
    )


def _uses(connection: Connection, role: str) -> list[str]:
    """Return the databases in which something depends on a role ("the server" for shared things)."""
    found = rows(
        connection,
        "SELECT DISTINCT coalesce(d.datname, 'the server') FROM pg_shdepend s"
        " LEFT JOIN pg_database d ON d.oid = s.dbid"
        " JOIN pg_roles r ON r.oid = s.refobjid"
        " WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname = %s"
        " AND s.classid <> 'pg_auth_members'::regclass ORDER BY 1",
        [role],
    )
    return [f"used by {row[0]}" for row in found]
