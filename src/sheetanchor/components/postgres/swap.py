"""Swap and undo: all databases of a restore change names in one transaction.

First the databases that are about to be replaced refuse new connections (ALLOW_CONNECTIONS holds
for superusers too) and their sessions are closed; then one transaction renames everything, changes
the roles and says so in the journal. A crash in between leaves the doors closed and the journal
saying so: `swap` goes on, `undo` opens them again.
"""

from __future__ import annotations

import psycopg

from sheetanchor.clock import Clock
from sheetanchor.components.postgres.guards import prepared_transactions, sessions
from sheetanchor.components.postgres.journal import Hub, Move, Phase
from sheetanchor.components.postgres.quoting import identifier
from sheetanchor.components.postgres.roles import read_roles, role_statements
from sheetanchor.components.postgres.server import Connection, execute, rows, scalar
from sheetanchor.components.postgres.server_wide import (
    read_server_wide,
    reverse_statements,
    server_wide_statements,
)
from sheetanchor.components.postgres.stage import wanted_roles
from sheetanchor.errors import ComponentError, PlanRefusedError

RENAME_ATTEMPTS = 4
CLOSING_TIMEOUT_SECONDS = 20.0
POLL_SECONDS = 0.1


def swap(hub: Hub, clock: Clock) -> None:
    """Put the staged databases in place; done already is no error.

    Raises ComponentError when sessions cannot be closed or a rename fails; the live databases
    are then open again under their own names.
    """
    with hub.inside() as connection:
        phase = hub.load(connection).phase
        if phase is Phase.SWAPPED:
            return
        if phase is Phase.UNDOING:
            _reopen_restored(hub, connection)
            return
        if phase is Phase.STAGING:
            raise ComponentError("the restore is not staged to its end", hint="stage it again")
        try:
            _close_live(hub, connection)
            _rename(hub, connection, clock, _names(hub, connection), Phase.SWAPPED)
        finally:
            if not connection.closed:
                _reopen_live(hub, connection)


def undo(hub: Hub, clock: Clock) -> None:
    """Put the old databases back in place; done already is no error.

    Raises PlanRefusedError after a restore in place, which has kept nothing to go back to.
    """
    with hub.inside() as connection:
        journal = hub.load(connection)
        if journal.phase is Phase.SWAPPING:
            _reopen_live(hub, connection)
        if journal.in_place and journal.phase in (Phase.SWAPPED, Phase.UNDOING):
            raise PlanRefusedError(
                "this restore was done in place and has kept no old databases",
                hint="restore the safety backup that was taken before it",
            )
        if journal.phase not in (Phase.SWAPPED, Phase.UNDOING):
            return
        try:
            _close_restored(hub, connection)
            _rename(hub, connection, clock, _names(hub, connection), Phase.STAGED)
        finally:
            if not connection.closed:
                _reopen_restored(hub, connection)


def settle(hub: Hub, clock: Clock) -> None:
    """Bring a swap or undo that was cut off half-way to a definite state."""
    with hub.inside() as connection:
        journal = hub.load(connection)
        if journal.phase is Phase.SWAPPING:
            _reopen_live(hub, connection)
    if journal.phase is Phase.UNDOING:
        undo(hub, clock)


def _names(hub: Hub, connection: Connection) -> list[str]:
    """Names whose sessions stand in the way: the live ones and what is to take their place."""
    moves = hub.load(connection).moves
    return [name for move in moves for name in (move.name, move.staged, move.replaced)]


def _close_live(hub: Hub, connection: Connection) -> None:
    """Note which databases are live and how, work out the role changes, and close the doors."""
    with connection.transaction():
        journal = hub.load(connection)
        if journal.phase is Phase.STAGED:
            live = dict(rows(connection, "SELECT datname, datallowconn FROM pg_database"))
            moves = tuple(
                move.model_copy(update={"replaces": move.name in live, "allowed": live.get(move.name, True)})
                for move in journal.moves
            )
            current = read_roles(connection)
            wanted = wanted_roles(connection, journal, current)
            sides = (read_server_wide(connection), journal.wanted_server_wide)
            journal = journal.model_copy(
                update={
                    "moves": moves,
                    "phase": Phase.SWAPPING,
                    "role_forward": (*role_statements(current, wanted), *server_wide_statements(*sides)),
                    "role_backward": (*role_statements(wanted, current), *reverse_statements(*sides)),
                }
            )
            hub.save(connection, journal)
        for move in journal.moves:
            if move.replaces:
                _allow(connection, move.name, allowed=False)


def _close_restored(hub: Hub, connection: Connection) -> None:
    with connection.transaction():
        journal = hub.load(connection)
        hub.save(connection, journal.at(Phase.UNDOING))
        for move in journal.moves:
            _allow(connection, move.name, allowed=False)


def _reopen_live(hub: Hub, connection: Connection) -> None:
    """Open the doors again after a swap that failed or was interrupted; after one that ended, nothing."""
    with connection.transaction():
        journal = hub.load(connection)
        if journal.phase is not Phase.SWAPPING:
            return
        for move in journal.moves:
            if move.replaces:
                _allow(connection, move.name, allowed=move.allowed)
        hub.save(connection, journal.at(Phase.STAGED))


def _reopen_restored(hub: Hub, connection: Connection) -> None:
    """The same after an undo."""
    with connection.transaction():
        journal = hub.load(connection)
        if journal.phase is not Phase.UNDOING:
            return
        for move in journal.moves:
            _allow(connection, move.name, allowed=True)
        hub.save(connection, journal.at(Phase.SWAPPED))


def _rename(hub: Hub, connection: Connection, clock: Clock, names: list[str], target: Phase) -> None:
    for attempt in range(RENAME_ATTEMPTS):
        _close_sessions(connection, clock, names)
        try:
            with connection.transaction():
                journal = hub.load(connection)
                for move in journal.moves:
                    (_forward if target is Phase.SWAPPED else _backward)(connection, move)
                changes = journal.role_forward if target is Phase.SWAPPED else journal.role_backward
                for statement in changes:
                    execute(connection, statement)
                hub.save(connection, journal.at(target))
        except psycopg.errors.ObjectInUse:
            if attempt == RENAME_ATTEMPTS - 1:
                raise
        else:
            return


def _forward(connection: Connection, move: Move) -> None:
    if move.replaces:
        _move(connection, move.name, move.replaced)
    _move(connection, move.staged, move.name)


def _backward(connection: Connection, move: Move) -> None:
    _move(connection, move.name, move.staged)
    _allow(connection, move.staged, allowed=True)
    if move.replaces:
        _move(connection, move.replaced, move.name)
        _allow(connection, move.name, allowed=move.allowed)


def _move(connection: Connection, old: str, new: str) -> None:
    execute(connection, f"ALTER DATABASE {identifier(old)} RENAME TO {identifier(new)}")


def _allow(connection: Connection, name: str, *, allowed: bool) -> None:
    execute(connection, f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS {str(allowed).lower()}")


def _close_sessions(connection: Connection, clock: Clock, names: list[str]) -> None:
    """End all sessions of the databases and wait until they are gone. Raises ComponentError."""
    for database, gid in prepared_transactions(connection, names):
        raise ComponentError(
            f"database {database} has the prepared transaction {gid} and cannot be renamed",
            hint=f"decide on it first: COMMIT PREPARED or ROLLBACK PREPARED '{gid}'",
        )
    deadline = clock.monotonic() + CLOSING_TIMEOUT_SECONDS
    while sessions(connection, names):
        scalar(
            connection,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = ANY(%s) AND pid <> pg_backend_pid()",
            [names],
        )
        if clock.monotonic() > deadline:
            left = ", ".join(f"{name} ({count})" for name, count in sessions(connection, names))
            raise ComponentError(
                f"sessions do not end: {left}", hint="stop the services that use the databases, then --resume"
            )
        clock.sleep(POLL_SECONDS)
